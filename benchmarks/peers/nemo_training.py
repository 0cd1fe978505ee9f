"""NeMo beside this package: a small QuartzNet on the same AN4 manifests, for the same minutes of one thread's processor time.

    python benchmarks/peers/nemo_training.py TRAIN.jsonl DEV.jsonl [--minutes 3] [--seed 1] [--nemo PYTHON] [--out FOLDER]

NeMo runs in an environment of its own: PYTHON's, or .venv-nemo, which is made where it is missing (about 5 GB). It gets its recordings
as WAV files, NovoGrad at the rate of its AN4 tutorial, and its masks, without speed perturbation; the blocks are `quartznet`'s in
benchmarks/architectures.py. Ours is trained as that script does, unless --out holds its run already. NeMo's model is imported too, and
decoded with the same trigram.
"""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import soundfile
import typer

sys.path.insert(0, str(Path(__file__).parents[1]))

from architectures import ARCHITECTURES, DECODING, prepare_lists, read_runs, recipe_of, run_in_a_process, word_errors

from carnelian.benchmarking.results import markdown_table
from carnelian.cli import as_typer
from carnelian.commands.import_checkpoint import import_checkpoint
from carnelian.data.alphabet import ENGLISH, Alphabet
from carnelian.data.audio import load_audio
from carnelian.data.utterance import Manifest, write_manifest
from carnelian.decoding.settings import DecodingConfig
from carnelian.formats.nemo.export import encoder_table
from carnelian.inference.recognizer import Recognizer
from carnelian.models.registry import build_model
from carnelian.scoring.wer import wer

ROOT = Path(__file__).parents[2]
NEMO = "nemo_toolkit[asr]==3.0.0"
WORKER = Path(__file__).with_name("nemo_train.py")


def nemo_python(given: str) -> str:
    """Returns the python of an environment with NeMo: the one that was given, or that of .venv-nemo, made where it is missing."""
    python = Path(given) if given else ROOT / ".venv-nemo" / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", python.parents[1]], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", NEMO], check=True)
    return str(python)


def as_wav(manifest: Path, folder: Path) -> Path:
    """Writes the recordings of a manifest as WAV files, and returns the manifest of these."""
    target = folder / manifest.name
    folder.mkdir(parents=True, exist_ok=True)
    utterances = []
    for index, utterance in enumerate(Manifest(manifest)):
        path = folder / f"{manifest.stem}-{index:05}.wav"
        if not path.exists():
            soundfile.write(path, load_audio(utterance, 16_000), 16_000)
        utterances.append(replace(utterance, audio_filepath=str(path.resolve()), offset=0.0))
    write_manifest(target, utterances)
    return target


def nemo_run(python: str, manifests: list[Path], minutes: float, seed: int, out: Path) -> dict[str, Any]:
    """Trains by NeMo on the first manifest and recognizes the others; returns its answer, as nemo_train.py says."""
    recipe = recipe_of(ARCHITECTURES["quartznet"], manifests[0], seed, out)
    model = build_model(recipe, Alphabet(ENGLISH))
    train, *tests = (str(as_wav(each, out / "wav").resolve()) for each in manifests)
    request = {
        "train": train,
        "test": tests,
        "minutes": minutes,
        "seed": seed,
        "labels": list(ENGLISH),
        "blocks": encoder_table(model.encoder, recipe, 64)["jasper"],
        "out": str(out.resolve()),
    }
    asked, answer = out / "request.json", out / f"nemo-{seed}.json"
    asked.write_text(json.dumps(request))
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": ""}
    subprocess.run([python, WORKER, asked, answer], check=True, env=environment, stdout=sys.stderr)
    return json.loads(answer.read_text())


def main(
    train: Annotated[Path, "manifest to train on"],
    dev: Annotated[Path, "manifest of speakers held out"],
    *,
    test: Annotated[Path | None, "a test list, to be asked once"] = None,
    minutes: Annotated[float, "processor minutes of each training"] = 3.0,
    seed: Annotated[int, "of weights and augmentation"] = 1,
    nemo: Annotated[str, "the python of an environment with NeMo"] = "",
    out: Annotated[Path, "folder of the runs"] = Path("runs/architectures"),
) -> None:
    lists = prepare_lists(train, dev, test, out)
    finished = [each for each in read_runs(out / "runs.jsonl") if (each.architecture, each.seed) == ("quartznet", seed)]
    ours = finished[0] if finished else run_in_a_process("quartznet", seed, minutes, lists, out)
    measured = [name for name in ("dev", "test") if name in lists]
    answer = nemo_run(nemo_python(nemo), [train, *(lists[name] for name in measured)], minutes, seed, out)
    imported = out / "nemo.safetensors"
    import_checkpoint(Path(answer["archive"]), out=imported, overwrite=True)
    decoding = DecodingConfig(language_model=str(lists["language model"]), **DECODING)
    theirs: dict[str, float] = {}
    for name, texts in zip(measured, answer["texts"]):
        theirs[f"{name} greedy"] = wer([each.text for each in Manifest(lists[name])], texts)
        errors, _ = word_errors(Recognizer.load(imported, decoding=decoding), lists[name])
        theirs[f"{name} trigram"] = errors.rate
    rates = list(theirs)
    heads = ["trained by", "minutes", "steps", "parameters, M", "peak GB", *(f"WER % {name}" for name in rates)]
    rows = [
        ["carnelian", ours.minutes, ours.steps, ours.parameters, ours.peak_memory_gb, ours.rates],
        ["NeMo", answer["minutes"], answer["steps"], answer["parameters"], answer["peak_memory_gb"], theirs],
    ]
    cells = [
        [name, f"{took:.1f}", steps, f"{count / 1e6:.2f}", f"{peak:.2f}", *(f"{100 * found[key]:.1f}" for key in rates)]
        for name, took, steps, count, peak, found in rows
    ]
    print(markdown_table(heads, cells))


if __name__ == "__main__":
    typer.run(as_typer(main))
