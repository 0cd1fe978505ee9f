"""carnelian average: one model from several checkpoints of a training."""

from pathlib import Path
from typing import Annotated

from carnelian import checkpoint as files
from carnelian.errors import CheckpointError
from carnelian.files import check_outputs


def average(
    checkpoints: Annotated[list[Path], "the checkpoints, such as the last few of a run, or a run's folder"],
    *,
    out: Annotated[Path, "the checkpoint to write"],
    last: Annotated[int, "take only this number of the latest checkpoints of a run's folder (0: all)"] = 0,
    overwrite: Annotated[bool, "replace outputs that exist"] = False,
) -> Path:
    """Average the weights of checkpoints of one training, often a little better than each of them.

    Example: carnelian average runs/an4 --out average.safetensors
    """
    check_outputs(out, overwrite=overwrite)
    paths: list[Path] = []
    for path in checkpoints:
        if path.is_dir():
            saved = list(files.saved_steps(path).values())
            if len(saved) < last:
                raise CheckpointError(
                    f"{path}: {len(saved)} checkpoints, not {last}. Raise [train] keep_last or lower --last"
                )
            paths += saved[-last:]
        elif not path.name.endswith(".state.safetensors"):
            paths.append(path)
    if len(paths) < 2:
        raise CheckpointError(f"{len(paths)} checkpoints to average. Give two or more, such as RUN/step-*.safetensors")
    files.save_checkpoint(out, files.average_checkpoints(paths))
    print(out)
    return out
