"""`carnelian import`: another toolkit's checkpoint as one of ours."""

from pathlib import Path
from typing import Annotated, Literal

from carnelian import console
from carnelian.files import check_outputs
from carnelian.formats.detect import import_model


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
    overwrite: Annotated[bool, "replace outputs that exist"] = False,
) -> None:
    """Take another toolkit's checkpoint: NeMo, DeepLearningExamples, fairseq wav2vec, Hugging Face. Nothing in it is run.

    Example: carnelian import QuartzNet15x5Base-En.nemo
    """
    out = out or file.with_name(f"{file.stem}.safetensors")
    check_outputs(out, overwrite=overwrite)
    found = import_model(file, out, config=config, weights=weights)
    for remark in found.remarks:
        console.note(f"{file}: {remark}")
    size = f"{sum(tensor.numel() for tensor in found.weights.values()):,} numbers in {len(found.weights)} tensors"
    console.note(f"{out}: {size}" + (f". Try: carnelian transcribe {out} FILES" if "encoder" in found.recipe else ""))
    print(out)
