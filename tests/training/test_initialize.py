"""A training that begins with an earlier model: parts taken, held still, carried to another alphabet."""

import json
import re

import pytest
import torch

from carnelian.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from carnelian.data.alphabet import ENGLISH, Alphabet, learn_pieces
from carnelian.errors import CarnelianError, RecipeError
from carnelian.models.encoders.wav2vec import wav2vec
from carnelian.models.layers import Convolution
from carnelian.models.registry import build_model
from carnelian.training import initialize
from carnelian.training.initialize import Initialization, load_parts
from carnelian.training.tasks.acoustic import train_acoustic

SPANISH = " abcdefghijklmnopqrstuvwxyzñáéíóúü"


@pytest.fixture
def english(recipe, tmp_path):
    """An English model that is saved but not trained, and its path."""
    recipe["alphabet"] = ENGLISH
    torch.manual_seed(1)
    weights = build_model(recipe, Alphabet(ENGLISH)).state_dict()
    save_checkpoint(tmp_path / "english.safetensors", Checkpoint(weights, Alphabet(ENGLISH), recipe))
    recipe["initialize"] = {"checkpoint": str(tmp_path / "english.safetensors")}
    recipe["train"] |= {"steps": 4, "save_every": 1, "keep_last": 9}
    return weights


def weights_at(folder, step):
    return load_checkpoint(folder / f"step-{step:08d}.safetensors").weights


def test_spanish_from_english_trains_saves_and_resumes(english, recipe, manifest, tmp_path):
    lines = [json.loads(line) for line in manifest.read_text().splitlines()]
    for line in lines:
        line |= {
            "audio_filepath": str(manifest.parent / line["audio_filepath"]),
            "text": line["text"].replace("b", "ñ"),
        }
    (tmp_path / "spanish.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    recipe["alphabet"] = SPANISH
    recipe["train"]["manifests"] = [str(tmp_path / "spanish.jsonl")]
    whole = train_acoustic(recipe, tmp_path / "whole")
    assert load_checkpoint(whole).alphabet == Alphabet(SPANISH)
    assert len(load_checkpoint(whole).weights["head.weight"]) == len(SPANISH) + 1
    train_acoustic(recipe, tmp_path / "parts")
    for path in (tmp_path / "parts").glob("step-0000000[34]*"):
        path.unlink()
    resumed = train_acoustic(recipe, tmp_path / "parts")
    for name, tensor in load_checkpoint(whole).weights.items():
        assert torch.equal(tensor, load_checkpoint(resumed).weights[name]), name


@pytest.mark.parametrize("carry", [True, False])
def test_rows_of_shared_symbols_are_carried_over(english, recipe, tmp_path, carry, capfd):
    recipe["alphabet"] = "ñzb "
    recipe["train"]["unknown_characters"] = 1.0
    recipe["initialize"]["copy_shared_symbols"] = carry
    recipe["schedule"]["peak"] = 0.0
    recipe["optimizer"]["weight_decay"] = 0.0
    weights = weights_at(train_acoustic(recipe, tmp_path / "run").parent, 1)
    rows, old = weights["head.weight"], english["head.weight"]
    kept = [torch.equal(rows[mine], old[ENGLISH.index(symbol)]) for mine, symbol in ((1, "z"), (2, "b"), (3, " "))]
    assert kept == [carry] * 3
    assert torch.equal(rows[4], old[len(ENGLISH)]) == carry, "the blank, last in both"
    assert torch.equal(
        weights["encoder.blocks.0.convolutions.0.convolution.weight"],
        english["encoder.blocks.0.convolutions.0.convolution.weight"],
    )
    assert ("and 3 of 4 symbols" in capfd.readouterr().err) == carry


def test_frozen_parts_stay_until_they_are_unfrozen(english, recipe, tmp_path):
    recipe["initialize"] |= {"freeze": ["encoder"], "unfreeze": 2}
    train_acoustic(recipe, tmp_path / "run")
    held = [name for name in english if name.startswith("encoder") and "tracked" not in name]
    for name in held:
        assert torch.equal(weights_at(tmp_path / "run", 2)[name], english[name]), name
        assert not torch.equal(weights_at(tmp_path / "run", 4)[name], english[name]), name
    assert not torch.equal(weights_at(tmp_path / "run", 1)["head.weight"], english["head.weight"])


def test_parts_move_at_rates_of_their_own(english, recipe, tmp_path):
    recipe["initialize"] |= {"rates": {"encoder": 0}}
    train_acoustic(recipe, tmp_path / "run")
    weights = weights_at(tmp_path / "run", 4)
    for name, _ in build_model(recipe, Alphabet(ENGLISH)).named_parameters():
        assert torch.equal(weights[name], english[name]) == name.startswith("encoder"), name


def test_tables_that_are_left_out_are_the_checkpoints(english, recipe, tmp_path):
    expected = {key: recipe.pop(key) for key in ("encoder", "features")}
    recipe.pop("alphabet")
    checkpoint = load_checkpoint(train_acoustic(recipe, tmp_path / "run"))
    assert checkpoint.alphabet == Alphabet(ENGLISH)
    assert {key: checkpoint.recipe[key] for key in expected} == expected


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"initialize": {"parts": ["decoder"]}}, "Known: criterion, encoder, features, head"),
        ({"initialize": {"freeze": ["encoder", "head"]}}, "nothing to train"),
        ({"initialize": {"unfreeze": 3}}, "nothing to unfreeze"),
        ({"initialize": {"rates": {"head": "fast"}}}, "expected|Expected"),
        ({"initialize": {"checkpoint": "nowhere.safetensors"}}, "no such checkpoint"),
        ({"features": {"sample_rate": 8000}}, "sample_rate = 8000: .* was trained with 16000"),
        ({"encoder": {"blocks": [{"channels": 16, "kernel": 5}]}}, r"english.safetensors \(encoder\): "),
    ],
)
def test_what_does_not_fit_is_said(english, recipe, tmp_path, table, said):
    for name, keys in table.items():
        recipe[name] |= keys
    with pytest.raises(CarnelianError, match=said):
        train_acoustic(recipe, tmp_path / "run")


def test_another_front_end_is_taken_when_it_is_meant(english, recipe, tmp_path, capfd):
    recipe["features"]["sample_rate"] = 8000
    recipe["initialize"]["other_features"] = True
    train_acoustic(recipe, tmp_path / "run")
    assert "has 16000 samples a second, the model takes 8000: recordings are resampled" in capfd.readouterr().err


def test_word_pieces_stay_what_they_are(english, recipe, tmp_path, capfd):
    pytest.importorskip("sentencepiece")
    pieces, path = learn_pieces(["ab", "ba", "aab", "bba b a"], 6), tmp_path / "pieces.safetensors"
    save_checkpoint(path, Checkpoint(build_model(recipe, pieces).state_dict(), pieces, recipe))
    recipe["initialize"]["checkpoint"] = str(path)
    recipe["train"]["steps"] = 2
    recipe.pop("alphabet")
    checkpoint = load_checkpoint(train_acoustic(recipe, tmp_path / "run"))
    assert checkpoint.alphabet == pieces
    assert "another alphabet" not in capfd.readouterr().err


def test_characters_outside_the_alphabet_are_told(recipe, tmp_path, capfd):
    recipe["alphabet"] = "a "
    recipe["train"] |= {"steps": 2, "unknown_characters": 0.5}
    train_acoustic(recipe, tmp_path / "run")
    assert re.search(
        r"\d+ of \d+ characters are not in the alphabet: 'b'; they are left out of the targets", capfd.readouterr().err
    )


class TestFeatureCache:
    """The features of a frozen front end, kept on disk."""

    @pytest.fixture
    def frozen(self, english, recipe, tmp_path):
        recipe["initialize"] |= {"freeze": ["features"], "cache": str(tmp_path / "cache")}
        recipe.pop("augment", None)
        return recipe

    def test_the_training_is_the_same(self, frozen, tmp_path, monkeypatch):
        cached = weights_of(train_acoustic(frozen, tmp_path / "first"))
        files = sorted((tmp_path / "cache").rglob("*.safetensors"))
        assert files
        computed = []
        monkeypatch.setattr(initialize, "save_tensors", lambda path, *_: computed.append(path))
        again = weights_of(train_acoustic(frozen, tmp_path / "second"))
        assert not computed, "each recording goes through the front end once"
        frozen["initialize"].pop("cache")
        plain = weights_of(train_acoustic(frozen, tmp_path / "plain"))
        for name, tensor in plain.items():
            assert torch.equal(cached[name], tensor) and torch.equal(again[name], tensor), name

    def test_a_damaged_file_is_written_again(self, frozen, tmp_path):
        before = weights_of(train_acoustic(frozen, tmp_path / "first"))
        for number, path in enumerate(sorted((tmp_path / "cache").rglob("*.safetensors"))):
            path.write_bytes(path.read_bytes()[: 40 * (number % 2)])
        after = weights_of(train_acoustic(frozen, tmp_path / "second"))
        assert all(torch.equal(before[name], after[name]) for name in before)
        assert all(path.stat().st_size > 100 for path in (tmp_path / "cache").rglob("*.safetensors"))

    def test_other_weights_have_features_of_their_own(self, tmp_path):
        torch.manual_seed(0)
        audio, lengths = torch.randn(2, 4000), torch.tensor([4000, 3000])
        for scale in (1.0, 2.0):
            front = wav2vec(kernels=[10, 8], strides=[5, 4], context=[2], channels=4).eval()
            with torch.no_grad():
                for parameter in front.parameters():
                    parameter.fill_(scale / 10)
            plain, frames = front(audio, lengths)
            initialize.cache_features(front, tmp_path, {"name": "wav2vec"})
            for _ in range(2):
                features, counted = front(audio, lengths)
                assert torch.allclose(features, plain, atol=1e-6) and torch.equal(counted, frames)

    @pytest.mark.parametrize(
        "change, message",
        [
            ({"freeze": []}, "the front end is trained"),
            ({"unfreeze": 2}, "the front end is trained"),
        ],
    )
    def test_only_a_frozen_front_end_is_cached(self, frozen, tmp_path, change, message):
        frozen["initialize"] |= change
        with pytest.raises(RecipeError, match=message):
            train_acoustic(frozen, tmp_path / "run")

    def test_recordings_that_change_are_not_cached(self, frozen, tmp_path):
        frozen["augment"] = {"gain": {"low": -6.0, "high": 6.0}}
        with pytest.raises(RecipeError, match="changes each recording"):
            train_acoustic(frozen, tmp_path / "run")


def weights_of(path):
    return load_checkpoint(path).weights


@pytest.mark.parametrize("norm", ["batch", "weight"])
def test_kernels_keep_their_place_in_time_where_the_lookahead_differs(norm):
    """The model with little lookahead is the one without, its taps further ahead set to zero; and the way back undoes nothing else."""
    torch.manual_seed(0)
    table = {"name": "convolutional", "norm": norm}
    table["blocks"] = [{"channels": 8, "kernel": 7, "repeat": 2}, {"channels": 8, "kernel": 5, "separable": True}]
    alphabet = Alphabet(" ab")

    def recipe_of(lookahead):
        return {"features": {"name": "log_mel"}, "encoder": {**table, "lookahead": lookahead}}

    def begun(lookahead, before):
        saved = Checkpoint(before.state_dict(), alphabet, before_recipe)
        model = build_model(recipe_of(lookahead), alphabet).eval()
        load_parts(model, alphabet, saved, Initialization("earlier"))
        return model

    before_recipe = {"features": {"name": "log_mel"}, "encoder": table}
    whole = build_model(before_recipe, alphabet).eval()
    part = begun(3, whole)
    audio, lengths = torch.randn(1, 16000), torch.tensor([16000])
    assert torch.equal(begun(8, whole)(audio, lengths)[0], whole(audio, lengths)[0])
    for name, convolution in part.encoder.named_modules():
        if isinstance(convolution, Convolution) and (later := (convolution.padding[0] - convolution.padding[1]) // 2):
            other = whole.encoder.get_submodule(name)
            values = other.parametrizations.weight.original1 if norm == "weight" else other.weight
            with torch.no_grad():
                values[..., values.shape[-1] - later :] = 0
    with torch.no_grad():
        torch.testing.assert_close(part(audio, lengths)[0], whole(audio, lengths)[0])
        before_recipe = recipe_of(3)
        torch.testing.assert_close(begun(8, part)(audio, lengths)[0], whole(audio, lengths)[0])
