"""A small spoken corpus from nothing: `carnelian synthesize OUT`."""

from pathlib import Path
from typing import Annotated

from carnelian.corpora import synthetic
from carnelian.errors import CarnelianError


def synthesize(
    folder: Annotated[Path, "the folder to make: audio/, train.jsonl and test.jsonl"],
    *,
    train: Annotated[int, "training utterances"] = 1500,
    test: Annotated[int, "test utterances, of other sentences and other speakers"] = 150,
    seed: Annotated[int, "the same seed gives the same corpus"] = 0,
    sample_rate: Annotated[int, "samples per second"] = 16000,
) -> None:
    """Make a small spoken corpus with espeak-ng: commands to a house, in many voices.

    Example: carnelian synthesize corpus --train 500
    """
    if sample_rate < 4000:
        raise CarnelianError(f"--sample-rate {sample_rate}: too low for speech. Give 8000, 16000 or more")
    manifests = synthetic.synthesize_corpus(folder, train=train, test=test, seed=seed, sample_rate=sample_rate)
    for manifest in manifests.values():
        print(manifest)
