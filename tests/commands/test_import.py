"""`carnelian import` and `carnelian export nemo`, as a user runs them."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from carnelian.checkpoint import load_checkpoint, load_model
from carnelian.commands.export import nemo
from carnelian.commands.import_checkpoint import import_checkpoint
from carnelian.formats.detect import detect_and_read
from carnelian.inference.recognizer import Recognizer


def run(*words):
    return subprocess.run([sys.executable, "-m", "carnelian", *map(str, words)], capture_output=True, text=True)


def test_imported_model_recognizes_as_nemo_does(shared, tmp_path, capsys):
    oracle = shared("nemo/oracle")
    out = tmp_path / "model.safetensors"
    import_checkpoint(oracle / "quartznet_tiny.nemo", out=out)
    assert capsys.readouterr().out.strip() == str(out)
    expected = np.load(oracle / "quartznet_tiny.npz")
    recognizer = Recognizer.load(out, device="cpu")
    for row in range(3):
        audio = expected["waveforms"][row, : expected["wave_lens"][row]]
        [heard] = recognizer.emissions([audio])
        wanted = expected[f"single{row}_logprobs_pad16"][0, : len(heard.log_probs)]
        np.testing.assert_allclose(heard.log_probs, wanted, atol=1e-3)
        assert recognizer(audio).text == expected["greedy_text_pad16"][row]
    assert load_checkpoint(out).more == {"imported": "quartznet_tiny.nemo"}


def test_export_and_import_again_change_nothing(shared, tmp_path):
    first, archive = tmp_path / "first.safetensors", tmp_path / "back.nemo"
    import_checkpoint(shared("nemo/oracle") / "jasper_dr_small.nemo", out=first)
    nemo(first, archive)
    again = detect_and_read(archive)
    model, checkpoint = load_model(first)
    assert (
        again.recipe["encoder"] == checkpoint.recipe["encoder"]
        and again.recipe["features"] == checkpoint.recipe["features"]
    )
    for name, tensor in model.state_dict().items():
        assert torch.equal(again.weights[name], tensor), name


@pytest.mark.slow
def test_command_line_says_one_line_for_what_it_cannot_read(shared, tmp_path):
    (tmp_path / "bad.pt").write_bytes(b"hello")
    for file, words in [
        (tmp_path / "bad.pt", "no PyTorch checkpoint can be read from it"),
        (shared("nemo") / "vad_marblenet.nemo", "a voice activity detector"),
        (shared("nemo") / "JasperDecoderForCTC-STEP-243800.pt", "the decoder alone is no recognizer"),
    ]:
        done = run("import", file, "--out", tmp_path / "x.safetensors")
        assert done.returncode == 2 and done.stdout == ""
        assert done.stderr.startswith(f"carnelian: {file}: ") and words in done.stderr and done.stderr.count("\n") == 1
    assert not (tmp_path / "x.safetensors").exists()


@pytest.mark.slow
def test_nemo_itself_loads_our_archive(shared, tmp_path):
    models = pytest.importorskip("nemo.collections.asr.models", reason="NeMo is not installed")
    first, archive = tmp_path / "first.safetensors", tmp_path / "back.nemo"
    import_checkpoint(shared("nemo/oracle") / "jasper_dr_small.nemo", out=first)
    nemo(first, archive)
    theirs = models.EncDecCTCModel.restore_from(str(archive), map_location="cpu").eval()
    ours, _ = load_model(first)
    expected = np.load(shared("nemo/oracle") / "jasper_dr_small.npz")
    audio, lengths = torch.from_numpy(expected["waveforms"]), torch.from_numpy(expected["wave_lens"])
    with torch.no_grad():
        found, steps, _ = theirs(input_signal=audio, input_signal_length=lengths)
        log_probs, own_steps = ours(audio, lengths)
    assert steps.tolist() == own_steps.tolist()
    for row, count in enumerate(steps.tolist()):
        torch.testing.assert_close(found[row, :count], log_probs[row, :count], atol=1e-3, rtol=0)


def test_an_existing_checkpoint_is_not_replaced(tmp_path, capsys):
    from carnelian.errors import CarnelianError

    (tmp_path / "a.nemo").write_bytes(b"x")
    (tmp_path / "a.safetensors").write_bytes(b"mine")
    with pytest.raises(CarnelianError, match=r"a\.safetensors: exists\. Give another --out, or --overwrite"):
        import_checkpoint(tmp_path / "a.nemo")
    assert (tmp_path / "a.safetensors").read_bytes() == b"mine"
