"""The command for a spoken corpus."""

import pytest

from carnelian.commands.synthesize import synthesize
from carnelian.errors import CarnelianError


def test_prints_the_manifests(tmp_path, capsys):
    pytest.importorskip("espeakng_loader")
    synthesize(tmp_path, train=2, test=1, sample_rate=8000)
    printed = capsys.readouterr().out.split()
    assert [path.removeprefix(str(tmp_path)) for path in printed] == ["/train.jsonl", "/test.jsonl", "/other.jsonl"]


def test_sample_rate_too_low(tmp_path):
    with pytest.raises(CarnelianError, match="--sample-rate 100: too low"):
        synthesize(tmp_path, sample_rate=100)
