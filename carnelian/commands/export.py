"""`carnelian export`: a checkpoint for another toolkit."""

from pathlib import Path
from typing import Annotated

from carnelian import console
from carnelian.checkpoint import load_model
from carnelian.formats.nemo_export import write_nemo


def nemo(
    checkpoint: Annotated[Path, "a checkpoint of Jasper, QuartzNet or their kin"],
    out: Annotated[Path, "the .nemo archive to write"],
) -> None:
    """Write a checkpoint as a .nemo archive that NeMo loads."""
    model, found = load_model(checkpoint)
    remarks = write_nemo(out, model, found.recipe, found.alphabet)
    for remark in remarks:
        console.note(f"{out}: {remark}")
    print(out)


EXPORT_VERBS = {"nemo": nemo}
