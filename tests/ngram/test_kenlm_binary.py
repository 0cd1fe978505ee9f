"""KenLM's binaries: scores as KenLM's own program gives them, the same search as from the ARPA file, and hostile bytes.

golden/kenlm_*.bin.gz are KenLM's: `carnelian language-model build --order 4` of `text(60, 60)`, then `build_binary` with no
option, `trie`, `-a 22 trie`, `-q 4 -b 5 trie`, `-q 4 -b 5 -a 22 trie`; kenlm_totals.json has what its `query` says of the lines
of `text(30, 70, seed=5)`.
"""

import gzip
import itertools
import json
import struct

import numpy as np
import pytest

from carnelian.data.alphabet import Alphabet
from carnelian.decoding import beam
from carnelian.decoding.beam import BeamSearch
from carnelian.decoding.pyctcdecode import build_ctcdecoder
from carnelian.errors import LanguageModelError
from carnelian.ngram.binary import save_binary
from carnelian.ngram.combine import n_grams
from carnelian.ngram.estimate import estimate
from carnelian.ngram.hashed import with_context_capacity
from carnelian.ngram.load import load_language_model
from carnelian.ngram.model import EMPTY, handed_out, score_word, taken_in, with_context_capacity_for

KINDS = ["probing", "trie", "compressed", "quantized", "quantized_compressed"]
ALPHABET = Alphabet([" ", "w", *"0123456789"])


@pytest.fixture(scope="module")
def load(made, tmp_path_factory):
    """A model by its kind, and "arrays": the same estimated here."""
    folder = tmp_path_factory.mktemp("kenlm")

    def loaded(kind):
        if kind == "arrays":
            (folder / "text").write_text(made.text(60, 60))
            return estimate([folder / "text"], 4).model()
        (folder / f"{kind}.bin").write_bytes(gzip.decompress((made.golden / f"kenlm_{kind}.bin.gz").read_bytes()))
        return load_language_model(folder / f"{kind}.bin")

    return loaded


@pytest.mark.parametrize("kind", KINDS)
def test_scores_are_those_of_kenlm(load, made, kind):
    totals = json.loads((made.golden / "kenlm_totals.json").read_text())[kind]
    lines = made.text(30, 70, seed=5).split("\n")[:-1]
    model = load(kind)
    assert [model.score(line) / np.log(10) for line in lines] == pytest.approx(totals, rel=1e-5)
    assert model.counts[0] == 58 and model.order == 4
    assert model.known(["w1", "<unk>", "w68"]).tolist() == [True, False, False]


@pytest.mark.parametrize("kind", ["probing", "trie", "compressed"])
def test_every_context_asks_as_that_of_the_arrays(load, kind):
    """All sequences of a few words that are often seen, from <s> and from nothing: what each next word costs."""
    arrays, model = load("arrays"), load(kind)
    words = ["w1", "w2", "w3", "w5", "w60", "</s>", "unheard"]
    assert set(model.words) == set(arrays.words)
    for start, length in itertools.product((True, False), range(1, 5)):
        for sequence in itertools.product(words, repeat=length):
            ours, theirs = (each.word_scores(sequence, start=start, end=False) for each in (model, arrays))
            np.testing.assert_allclose(ours, theirs, atol=2e-6)


def speech(seed: int, steps: int = 60) -> np.ndarray:
    """Log-probabilities (O, V) in which each step has a few likely symbols."""
    random = np.random.default_rng(seed)
    return np.log(random.dirichlet(np.full(len(ALPHABET) + 1, 0.2), size=steps) + 1e-6).astype(np.float32)


def said(log_probs):
    return (log_probs - np.log(np.exp(log_probs).sum(axis=1, keepdims=True))).astype(np.float32)


@pytest.mark.parametrize("kind", ["probing", "trie"])
@pytest.mark.parametrize("options", [{}, {"hypotheses": 5}, {"sentence": False, "beam_width": 8}])
def test_the_search_finds_what_it_finds_with_the_arrays(load, kind, options):
    ours, theirs = (BeamSearch(ALPHABET, each, alpha=0.7, **options) for each in (load(kind), load("arrays")))
    spoken = [said(speech(seed)) for seed in range(8)]
    for one, other in zip(ours.batch(spoken), theirs.batch(spoken)):
        assert [each.text for each in one] == [each.text for each in other]
        assert [each.score for each in one] == pytest.approx([each.score for each in other], abs=1e-4)
        assert [each.language_score for each in one] == pytest.approx([each.language_score for each in other], abs=1e-4)


def test_chunks_and_threads_change_nothing(load):
    """Each search numbers contexts in room of its own, which grows with the chunks."""
    search = BeamSearch(ALPHABET, load("probing"), beam_width=16)
    spoken = [said(speech(seed, 90)) for seed in range(12)]
    alone = [search(each)[0] for each in spoken]
    assert [each[0] for each in search.batch(spoken, threads=4)] == alone
    for log_probs, whole in zip(spoken, alone):
        stream = search.stream()
        for begin in range(0, len(log_probs), 7):
            stream.accept(log_probs[begin : begin + 7])
            stream.hypotheses()
        assert stream.hypotheses()[0] == whole


def test_a_long_search_forgets_contexts_and_goes_on_in_another(load, monkeypatch):
    search = BeamSearch(ALPHABET, load("probing"), beam_width=16)
    log_probs = said(4 * speech(3, 900))
    whole = search.stream()
    whole.accept(log_probs)
    monkeypatch.setattr(beam, "STEPS_AT_ONCE", 60)
    stream, following = search.stream(), search.stream()
    stream.accept(log_probs[:500])
    following.restore(stream.state())
    for each in (stream, following):
        each.accept(log_probs[500:])
        assert each.hypotheses() == whole.hypotheses()
        assert each.language.ngram.hashed.used[0] < whole.language.ngram.hashed.used[0] / 2


def test_a_context_goes_from_one_search_to_another(load):
    """What `lm_start_state` is for: the second half is scored after the words of the first."""
    first, second = said(speech(1)), said(speech(2))
    found = {}
    for kind in ("probing", "arrays"):
        search = BeamSearch(ALPHABET, load(kind), sentence=False)
        stream = search.stream()
        stream.accept(first)
        stream.hypotheses()
        following = search.stream(state=stream.states[0])
        following.accept(second)
        found[kind] = following.hypotheses()[0]
    assert found["probing"].text == found["arrays"].text
    assert found["probing"].score == pytest.approx(found["arrays"].score, abs=1e-4)


def test_states_that_a_search_has_met_keep_their_numbers(load):
    model = load("probing")
    numbers = model.numbers(["w1", "w2", "w1", "w1"])
    tables, states = with_context_capacity_for(model.tables, 4), []
    state = EMPTY
    for number in numbers:
        _, state = score_word(tables, state, number)
        states.append(state)
    larger = tables._replace(hashed=with_context_capacity(tables.hashed, 1000))
    for state, number in zip(states, numbers[1:]):
        assert score_word(larger, state, number) == score_word(with_context_capacity_for(tables, 1), state, number)
    outside = [handed_out(tables, state) for state in states]
    fresh = with_context_capacity_for(model.tables, 12)
    assert [handed_out(fresh, taken_in(fresh, state)) for state in outside] == outside
    assert len(model.tables.hashed.lengths) == 0  # the model itself took no notes


def test_pyctcdecode_users_bring_their_binaries(load, tmp_path, made):
    path = tmp_path / "5gram.bin"
    path.write_bytes(gzip.decompress((made.golden / "kenlm_probing.bin.gz").read_bytes()))
    labels = [*ALPHABET.symbols, ""]
    decoder = build_ctcdecoder(labels, str(path), [word for word in load("probing").words if word[0] == "w"])
    beams = decoder.decode_beams(said(speech(3)), beam_width=20)
    assert beams[0].text.startswith("w")
    decoder.save_to_dir(str(tmp_path))
    again = type(decoder).load_from_dir(str(tmp_path))
    after = again.decode_beams(said(speech(4)), lm_start_state=beams[0].last_lm_state)
    assert after == decoder.decode_beams(said(speech(4)), lm_start_state=beams[0].last_lm_state)


def test_hashed_n_grams_cannot_be_listed(load, tmp_path):
    model = load("probing")
    for wrong in (
        lambda: list(n_grams(model)),
        lambda: save_binary(model, tmp_path / "written.bin"),
    ):
        with pytest.raises(LanguageModelError, match=r"KenLM binary of hashed n-grams.*Give the ARPA file"):
            wrong()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", ["probing", "quantized_compressed"])
def test_cut_files_are_one_line(made, tmp_path, kind):
    whole = gzip.decompress((made.golden / f"kenlm_{kind}.bin.gz").read_bytes())
    for length in [*range(40, 200, 8), *range(200, len(whole), 997), len(whole) - 1]:
        (tmp_path / "cut.bin").write_bytes(whole[:length])
        with pytest.raises(LanguageModelError, match=r"cut.bin: (cannot be read as|a KenLM binary)"):
            load_language_model(tmp_path / "cut.bin")


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_files_load_or_are_refused(made, tmp_path, kind):
    """Any byte may be wrong: nothing outside the file is touched, and every question has an answer."""
    whole = gzip.decompress((made.golden / f"kenlm_{kind}.bin.gz").read_bytes())
    random, refused = np.random.default_rng(1), 0
    for place in [*range(88, 300, 3), *random.integers(300, len(whole), 100)]:
        damaged = bytearray(whole)
        damaged[place] ^= 1 << random.integers(8)
        (tmp_path / "damaged.bin").write_bytes(damaged)
        try:
            load_language_model(tmp_path / "damaged.bin").word_scores(["w1", "w2", "w1", "w3", "w1"])
        except LanguageModelError as error:
            assert "\n" not in str(error)
            refused += 1
    assert refused


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (49, b"6", "another version than 5"),
        (96, struct.pack("<I", 1), "with rest costs"),
        (100, b"\0", "without its words"),
        (96, struct.pack("<I", 9), "does not fit"),
        (-3, b"\xe9", "is not utf-8"),
    ],
)
def test_other_kinds_of_binaries_are_one_line(made, tmp_path, place, value, message):
    data = bytearray(gzip.decompress((made.golden / "kenlm_probing.bin.gz").read_bytes()))
    place %= len(data)
    data[place : place + len(value)] = value
    (tmp_path / "other.bin").write_bytes(data)
    with pytest.raises(LanguageModelError, match=rf"other.bin: .*{message}"):
        load_language_model(tmp_path / "other.bin")
    with pytest.raises(LanguageModelError, match="cannot be folded to lower case"):
        load_language_model(tmp_path / "other.bin", lower_case=True)


def test_kenlm_itself_agrees(made, tmp_path):
    """Where KenLM's package is installed, it reads the ARPA file we write and scores it as we do."""
    kenlm = pytest.importorskip("kenlm")
    golden = tmp_path / "golden.arpa"
    golden.write_bytes(gzip.decompress((made.golden / "order5_prune001.arpa.gz").read_bytes()))
    ours, theirs = load_language_model(golden), kenlm.Model(str(golden))
    for line in made.text(50, 600, seed=3).split("\n"):
        assert ours.score(line) / np.log(10) == pytest.approx(theirs.score(line), abs=1e-5, rel=1e-6)
