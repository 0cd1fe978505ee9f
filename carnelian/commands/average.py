"""carnelian average: one model from several checkpoints of a training."""

from pathlib import Path
from typing import Annotated

from carnelian import checkpoint as files
from carnelian.errors import CheckpointError


def average(
    checkpoints: Annotated[list[Path], "the checkpoints, such as the last few of a run"],
    *,
    out: Annotated[Path, "the checkpoint to write"],
) -> Path:
    """Average the weights of checkpoints of one training, often a little better than each of them."""
    if out.exists():
        raise CheckpointError(f"{out}: exists already. Give another --out")
    paths = [path for path in checkpoints if not path.name.endswith(".state.safetensors")]
    if len(paths) < 2:
        raise CheckpointError(f"{len(paths)} checkpoints to average. Give two or more, such as RUN/step-*.safetensors")
    files.save_checkpoint(out, files.average(paths))
    print(out)
    return out
