"""Every recipe builds its model in full size, and trains two steps of a narrow one."""

import importlib.util
from pathlib import Path

import pytest
import torch

from carnelian.checkpoint import load_checkpoint
from carnelian.errors import RecipeError
from carnelian.models.registry import ENCODERS, FEATURES
from carnelian.recipe import call, choose, chosen, load_recipe
from carnelian.training.optim import SCHEDULES
from carnelian.training.settings import TrainingConfig, check_recipe
from carnelian.training.tasks.acoustic import train_acoustic

ROOT = Path(__file__).parent.parent / "carnelian" / "recipes"
RECIPES = sorted(path for path in ROOT.glob("*/*.toml") if load_recipe(path).get("task", "acoustic") == "acoustic")
ADAPTING = [path for path in RECIPES if "encoder" not in load_recipe(path)]  # their model is the one they begin with
RECIPES = [path for path in RECIPES if path not in ADAPTING]
#: trainable numbers, with 28 symbols or PIECES and the blank; the Conformers' as NeMo 3.0.0 counts its own
PARAMETERS = {
    "librispeech/conformer_ctc_small": 12_995_441,
    "librispeech/fastconformer_ctc_large": 115_600_385,
    "hub5/jasper10x5dr": 332_632_349,
    "librispeech/jasper10x5dr": 332_632_349,
    "librispeech/jasper10x5dr_average": 332_632_349,
    "librispeech/quartznet5x5": 6_713_181,
    "librispeech/quartznet10x5": 12_818_781,
    "librispeech/quartznet15x5": 18_924_381,
    "librispeech/quartznet15x5_average": 18_924_381,
    "wsj/quartznet5x3": 6_407_005,
}
#: symbols of the recipes that write in word pieces
PIECES = {"librispeech/conformer_ctc_small": 128, "librispeech/fastconformer_ctc_large": 1024}
#: millions of them, where a paper rounds
MILLIONS = {"wsj/jasper10x3": 201, "librispeech/wave2letter": 106.5}


def named(path: Path) -> str:
    return str(path.relative_to(ROOT).with_suffix(""))


@pytest.fixture(scope="session")
def tones(tmp_path_factory) -> Path:
    path = Path(__file__).parent / "training" / "conftest.py"
    specification = importlib.util.spec_from_file_location("tones", path)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module.write_corpus(tmp_path_factory.mktemp("recipes"), count=6)


@pytest.mark.parametrize("path", RECIPES, ids=named)
def test_recipe(path, tones, tmp_path):
    recipe = load_recipe(path)
    if not recipe["encoder"].get("blocks", True):  # those of the model that it begins with
        recipe["encoder"] = load_recipe(ROOT / "an4" / "quartznet.toml")["encoder"]
    settings = check_recipe(recipe)
    features = choose(FEATURES, recipe["features"], where="features")
    with torch.device("meta"):
        encoder = choose(ENCODERS, recipe["encoder"], where="encoder", features=features.channels)
    count = sum(parameter.numel() for parameter in encoder.parameters())
    count += (PIECES.get(named(path), 28) + 1) * (encoder.channels + 1)
    assert count == PARAMETERS.get(named(path), count)
    assert count / 1e6 == pytest.approx(MILLIONS.get(named(path), count / 1e6), rel=0.005)
    rate = choose(SCHEDULES, recipe["schedule"], where="schedule", steps=settings.steps or 200_000)
    rises = recipe["schedule"].get("warmup", 0)
    peak = rate(settings.steps // 10 if recipe["schedule"]["name"] == "tri_stage" else rises)
    assert peak == recipe["schedule"].get("peak", peak)
    assert rate(10**6) < peak or recipe["schedule"]["name"] == "constant"
    changes = {
        "manifests": [str(tones)],
        "validation": [],
        "steps": 2,
        "epochs": 0,
        "batch_size": 3,
        "batch_seconds": 0.0,
    }
    recipe["train"] |= changes | {"workers": 0, "precision": "fp32", "device": "cpu", "accumulate": 1}
    least = int(recipe["schedule"]["name"] == "noam")
    recipe["schedule"] |= {key: least for key in ("warmup", "hold") if key in recipe["schedule"]}
    if named(path) in PIECES:
        recipe["alphabet"] = load_recipe(ROOT / "an4" / "quartznet.toml")["alphabet"]
    if recipe["encoder"]["name"] == "conformer":
        recipe["encoder"] |= {"channels": 16, "layers": 2, "heads": 2}
    elif recipe["encoder"]["name"] == "wav2vec2":  # without the pre-trained model that it begins with
        recipe["encoder"] |= {"channels": 16, "layers": 2, "heads": 2, "feedforward": 32, "width": 16}
        recipe["encoder"] |= {"position_kernel": 8, "position_groups": 2}
        del recipe["initialize"]
    elif recipe["encoder"]["name"] != "convolutional":
        recipe["encoder"]["width"] = 0.05
    weights = load_checkpoint(train_acoustic(recipe, tmp_path)).weights
    assert all(tensor.isfinite().all() for tensor in weights.values())


@pytest.mark.parametrize("path", RECIPES, ids=named)
def test_the_header_tells_of_the_run(path):
    header = [line for line in path.read_text().splitlines() if line.startswith("#")]
    if named(path).split("/")[0] in ("librispeech", "wsj", "hub5"):
        assert "# Not run here." in header
        assert any("To reach" in line or "No WER" in line for line in header)
        assert any(line.startswith("# Train: ") and f"carnelian train {named(path)} " in line for line in header)


@pytest.mark.parametrize("path", ADAPTING, ids=named)
def test_a_recipe_that_adapts_a_model(path, tones, tmp_path):
    first = load_recipe(ROOT / "an4" / "quartznet.toml")
    changes = {"manifests": [str(tones)], "validation": [], "epochs": 0, "workers": 0, "device": "cpu"}
    first["train"] |= changes | {"steps": 1, "batch_size": 3}
    first["schedule"]["warmup"] = 0
    begun = train_acoustic(first, tmp_path / "first")
    recipe = load_recipe(path)
    assert "encoder" in recipe["initialize"]["freeze"] and recipe["schedule"]["peak"] < 0.001
    recipe["initialize"] |= {"checkpoint": str(begun), "unfreeze": 10}
    recipe["train"] |= changes | {"steps": 2, "average": 0.0}
    recipe["schedule"]["warmup"] = 0
    before, after = load_checkpoint(begun), load_checkpoint(train_acoustic(recipe, tmp_path / "adapted"))
    assert after.alphabet == before.alphabet and after.recipe["encoder"] == before.recipe["encoder"]
    differing = {
        name.split(".")[0] for name in before.weights if not torch.equal(before.weights[name], after.weights[name])
    }
    assert differing == {"head"}


@pytest.mark.parametrize(
    "written",
    [
        "[train]\nseed = 1\n",
        f"[train]\n{'x' * 5000} = 1\n",
        f"[enc{'x' * 100_000}]\nname = 1\n",
        '[train]\nprecision = "fp\\ufeff\\u007f8"\n',
        '[encoder]\nname = "con\\u2028v"\n',
    ],
)
def test_an_error_is_one_short_printable_line_whatever_the_key(tmp_path, written):
    (tmp_path / "recipe.toml").write_text(written)
    with pytest.raises(RecipeError) as caught:
        recipe = load_recipe(tmp_path / "recipe.toml")
        call(TrainingConfig, {"manifests": ["a.jsonl"]} | recipe.get("train", {}), where="train")
        chosen(ENCODERS, recipe["encoder"], where="encoder")
    assert len(str(caught.value).replace(str(tmp_path), "")) <= 300 and str(caught.value).isprintable()
