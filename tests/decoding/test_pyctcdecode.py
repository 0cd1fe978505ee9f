"""The drop-in for pyctcdecode does what that package's users have come to expect."""

import json
import math

import numpy as np
import pytest

from carnelian.decoding.pyctcdecode import BeamSearchDecoderCTC, build_ctcdecoder

LABELS = [" ", "b", "g", "n", "s", "u", "y", ""]


def sure(symbols):
    """Probabilities (O, 8) of 1 for each of the symbols; "" is the blank."""
    probs = np.zeros((len(symbols), len(LABELS)))
    probs[range(len(symbols)), [LABELS.index(symbol) for symbol in symbols]] = 1
    return probs


BLANK = [""]
MIXED = np.vstack(
    [0.49 * sure(["b", "u", "g", "s", "", ""]) + 0.51 * sure(["b", "u", "n", "", "n", "y"]), sure([*" bun", "", *"ny"])]
)
LOGITS = np.log(np.clip(MIXED, 1e-15, 1))


@pytest.fixture(scope="module")
def bunny(shared):
    return str(shared("decoding") / "bugs_bunny_kenlm.arpa")


def test_without_a_language_model():
    decoder = build_ctcdecoder(LABELS)
    beams = decoder.decode_beams(LOGITS)
    assert decoder.decode(LOGITS) == beams[0].text == "bunny bunny" and beams[-1].text == "bugs bunny"
    assert len(beams) == 16
    assert beams[0].text_frames == [("bunny", (0, 6)), ("bunny", (7, 13))]
    assert beams[-1].text_frames == [("bugs", (0, 4)), ("bunny", (7, 13))]
    assert beams[0].logit_score == pytest.approx(-2.6933782130551505, abs=1e-5)
    assert decoder.decode(LOGITS, token_min_logp=0.0) == "bunny bunny"


def test_with_a_language_model(bunny):
    decoder = build_ctcdecoder(LABELS, bunny)
    (beam,) = decoder.decode_beams(LOGITS)
    assert beam.text == decoder.decode(LOGITS) == "bugs bunny"
    assert beam.logit_score == pytest.approx(-2.853399551509947, abs=1e-5)
    assert beam.lm_score == pytest.approx(0.14660044849005294, abs=1e-5)
    assert decoder.decode_batch(None, [LOGITS] * 5) == ["bugs bunny"] * 5
    for (found,) in decoder.decode_beams_batch(None, [LOGITS] * 5):
        assert found == (beam.text, beam.text_frames, beam.logit_score, beam.lm_score)
        assert found.text_frames == [("bugs", (0, 4)), ("bunny", (7, 13))]


def test_hypotheses_are_tuples_that_code_takes_apart_by_position(bunny):
    text, state, text_frames, logit_score, lm_score = build_ctcdecoder(LABELS, bunny).decode_beams(LOGITS)[0]
    assert (text, text_frames[0]) == ("bugs bunny", ("bugs", (0, 4))) and state and lm_score > logit_score


@pytest.mark.parametrize(
    ("unigrams", "settings", "text"),
    [
        (None, {"alpha": 0.0}, "bunny bunny"),
        (None, {"alpha": 1.0}, "bugs bunny"),
        ([], {"alpha": 1.0}, "bugs bunny"),
        (["bunny"], {"alpha": 1.0, "unk_score_offset": 0.0}, "bugs bunny"),
        (["bunny"], {"alpha": 1.0, "unk_score_offset": -10.0}, "bunny bunny"),
    ],
)
def test_weights_and_known_words(bunny, unigrams, settings, text):
    assert build_ctcdecoder(LABELS, bunny, unigrams, **settings).decode(LOGITS) == text


def test_all_hypotheses_where_unknown_words_cost_nothing(bunny):
    beams = build_ctcdecoder(LABELS, bunny, unk_score_offset=0.0).decode_beams(LOGITS, beam_prune_logp=-20.0)
    assert len(beams) == 16 and [beam.text for beam in beams[:2]] == ["bugs bunny", "bunny bunny"]


def test_hot_words(bunny):
    decoder, plain = build_ctcdecoder(LABELS, bunny), build_ctcdecoder(LABELS)
    assert decoder.decode(LOGITS, hotwords=["bunny"], hotword_weight=20) == "bunny bunny"
    assert decoder.decode(LOGITS, hotwords=["bugs", "bunny"], hotword_weight=20) == "bugs bunny"
    assert decoder.decode(LOGITS, hotwords=["bugs bunny"], hotword_weight=20) == "bugs bunny"
    assert plain.decode(LOGITS, hotwords=["bugs"]) == "bugs bunny"
    assert decoder.decode(LOGITS, 100, -10.0, -5.0, ["bunny"], 20.0) == "bunny bunny"
    assert decoder.decode_batch(None, [LOGITS], 100, -10.0, -5.0, ["bunny"], 20.0) == ["bunny bunny"]


def test_history_pruning():
    logits = np.log(np.clip(np.vstack([MIXED] + [sure([*" bun", "", *"ny"])] * 5), 1e-15, 1))
    decoder = build_ctcdecoder(LABELS)
    apart, together = (decoder.decode_beams(logits, prune_history=each) for each in (False, True))
    assert (len(apart), len(together)) == (16, 1) and apart[0].text == together[0].text


def test_state_that_goes_on(bunny):
    probs = np.vstack([sure("bugs "), 0.51 * sure([*"bugs", "", ""]) + 0.49 * sure(["b", "u", "n", "", "n", "y"])])
    assert build_ctcdecoder(LABELS).decode(probs) == "bugs bugs"
    decoder = build_ctcdecoder(LABELS, bunny, ["bugs", "bunny"])
    assert decoder.decode(probs) == "bugs bunny"
    first = decoder.decode_beams(probs[:4])[0]
    assert (first.text, decoder.decode(probs[4:])) == ("bugs", "bugs")
    assert decoder.decode(probs[4:], lm_start_state=first.last_lm_state) == "bunny"


def test_frames_of_stretched_words_and_of_pieces():
    beam = build_ctcdecoder(LABELS).decode_beams(sure([" ", "", *"bun", "", *"nny", "", " ", " "]))[0]
    assert (beam.text, beam.text_frames) == ("bunny", [("bunny", (2, 9))])
    pieces = ["▁bugs", "▁bun", "ny", ""]
    beam = build_ctcdecoder(pieces).decode_beams(np.eye(4)[[3, 0, 1, 2, 2, 3]])[0]
    assert (beam.text, beam.text_frames) == ("bugs bunny", [("bugs", (1, 2)), ("bunny", (2, 5))])


def test_real_logits_also_with_pieces_of_the_other_style(shared):
    logits = np.array(json.loads((shared("decoding") / "libri_logits.json").read_text()))
    text = "i have a good deal of will you remember and what i have set my mind upon no doubt i shall some day achieve"
    labels = [*" abcdefghijklmnopqrstuvwxyz'"]
    assert build_ctcdecoder(labels).decode(logits) == text
    pieces = ["▁⁇▁", "▁", *("##" + label for label in labels[1:])]
    assert build_ctcdecoder(pieces).decode(np.hstack([np.full((len(logits), 1), -100.0), logits])) == text


def test_the_blank_may_stand_anywhere():
    labels = ["<pad>", "|", "a", "b"]
    assert build_ctcdecoder(labels).decode(np.eye(4)[[0, 2, 1, 3, 0, 3]]) == "a bb"


def test_odd_input():
    decoder = build_ctcdecoder(LABELS)
    assert decoder.decode(np.zeros((0, 8))) == ""
    decoder.decode(np.random.default_rng(0).normal(size=(20, 8)))
    with pytest.raises(ValueError, match=r"\(13, 16\), expected \(steps, 8\)"):
        decoder.decode(np.hstack([LOGITS] * 2))


def test_saved_and_loaded(bunny, tmp_path):
    decoder = build_ctcdecoder(LABELS, bunny, ["bugs", "bunny"], alpha=0.7)
    decoder.save_to_dir(str(tmp_path))
    loaded = BeamSearchDecoderCTC.load_from_dir(str(tmp_path))
    assert loaded.decode_beams(LOGITS) == decoder.decode_beams(LOGITS)
    assert math.isclose(loaded.model_container[loaded._model_key].alpha, 0.7)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_probabilities_of_any_precision_are_probabilities(dtype):
    """Softmax rows in float32 sum to one but for rounding; as logits they would all be nearly alike."""
    decoder = build_ctcdecoder(LABELS)
    for seed in range(200):
        logits = np.random.default_rng(seed).normal(0, 4, (30, 8)).astype(np.float32)
        probs = np.exp(logits - logits.max(1, keepdims=True))
        probs = (probs / probs.sum(1, keepdims=True)).astype(dtype)
        expected = decoder.decode_beams(np.log(probs.astype(np.float64) + 1e-15))[0]
        found = decoder.decode_beams(probs)[0]
        assert found.text == expected.text and found.logit_score == pytest.approx(expected.logit_score, abs=0.1)


def test_hot_words_that_cannot_be_spelled_are_ignored():
    decoder = build_ctcdecoder(LABELS)
    assert decoder.decode(LOGITS, hotwords=["ñandú", "bugs Ω"]) == decoder.decode(LOGITS, hotwords=["bugs"])
    assert decoder.decode(LOGITS, hotwords=["bugs"], hotword_weight=1e6) == "bugs bunny"
    pieces = build_ctcdecoder(["▁bugs", "▁bun", "ny", ""])
    assert pieces.decode(np.eye(4)[[3, 0, 1, 2, 2, 3]], hotwords=["bunny", "xyz"]) == "bugs bunny"


def test_names_of_pyctcdecode(bunny):
    import importlib

    names = {
        "alphabet": ["Alphabet", "BPE_TOKEN", "UNK_TOKEN", "UNK_BPE_TOKEN"],
        "constants": ["DEFAULT_ALPHA", "DEFAULT_BEAM_WIDTH", "DEFAULT_HOTWORD_WEIGHT", "DEFAULT_MIN_TOKEN_LOGP"],
        "decoder": ["BeamSearchDecoderCTC", "build_ctcdecoder"],
        "language_model": ["LanguageModel", "load_unigram_set_from_arpa"],
    }
    for module, expected in names.items():
        found = importlib.import_module(f"carnelian.decoding.pyctcdecode.{module}")
        assert all(hasattr(found, name) for name in expected)


def test_a_decoder_from_its_parts_and_its_cleanup(bunny):
    from carnelian.decoding.pyctcdecode import Alphabet, LanguageModel

    model = LanguageModel(bunny, ["bugs", "bunny"], alpha=0.7)
    decoder = BeamSearchDecoderCTC(Alphabet.build_alphabet(LABELS), model)
    assert decoder.decode_beams(LOGITS) == build_ctcdecoder(LABELS, bunny, ["bugs", "bunny"], alpha=0.7).decode_beams(
        LOGITS
    )
    assert decoder.model_container[decoder._model_key] is model and model._unigram_set == {"bugs", "bunny"}
    text, before = decoder.decode(LOGITS), len(BeamSearchDecoderCTC.model_container)
    model.alpha = 0.0  # weights may be changed at any time
    assert text == "bugs bunny" and decoder.decode(LOGITS) == "bunny bunny"
    decoder.cleanup()
    assert len(BeamSearchDecoderCTC.model_container) == before - 1
    decoder.cleanup()


def test_scores_of_a_language_model(bunny):
    from carnelian.decoding.pyctcdecode import LanguageModel

    model = LanguageModel(bunny, alpha=0.5, beta=1.5)
    state, total = model.get_start_state(), 0.0
    for word, last in (("bugs", False), ("bunny", True)):
        score, state = model.score(state, word, is_last_word=last)
        total += score
    (beam,) = build_ctcdecoder(LABELS, bunny).decode_beams(LOGITS)
    assert total == pytest.approx(beam.lm_score - beam.logit_score, abs=1e-4)
    assert model.score_partial_token("bu") == 0 and model.score_partial_token("bx") == -10
    assert model.score_partial_token("bxbxbxbxbxbx") == -20
