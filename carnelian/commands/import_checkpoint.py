"""`carnelian import`: another toolkit's checkpoint as one of ours."""

from pathlib import Path
from typing import Annotated, Literal

from carnelian import console
from carnelian.checkpoint import Checkpoint, load_weights, save_checkpoint
from carnelian.data.alphabet import WordPieces
from carnelian.formats.detect import detect_and_read
from carnelian.models.registry import build_model


def import_checkpoint(
    file: Annotated[Path, "a .nemo, .ckpt or .pt file, or a Hugging Face folder"],
    *,
    out: Annotated[Path | None, "the checkpoint to write; FILE with .safetensors at its end, if not given"] = None,
    config: Annotated[
        Path | None, "the YAML configuration, for files without one (NeMo 0.x, DeepLearningExamples)"
    ] = None,
    weights: Annotated[
        Literal["average", "last"], "DeepLearningExamples: the running average of weights, or those of the last step"
    ] = "average",
) -> None:
    """Take another toolkit's checkpoint: NeMo, DeepLearningExamples, fairseq wav2vec, Hugging Face. Nothing in it is run."""
    found = detect_and_read(file, config=config, weights=weights)
    if "encoder" in found.recipe:
        load_weights(build_model(found.recipe, found.alphabet), found.weights, where=file)
    out = out or file.with_name(f"{file.stem}.safetensors")
    recipe = dict(found.recipe)
    if not isinstance(found.alphabet, WordPieces):
        recipe = {"alphabet": list(found.alphabet.symbols), **recipe}
    save_checkpoint(out, Checkpoint(found.weights, found.alphabet, recipe, 0, {"imported": file.name}))
    for remark in found.remarks:
        console.note(f"{file}: {remark}")
    size = f"{sum(tensor.numel() for tensor in found.weights.values()):,} numbers in {len(found.weights)} tensors"
    console.note(f"{out}: {size}" + (f". Try: carnelian transcribe {out} FILES" if "encoder" in found.recipe else ""))
    print(out)
