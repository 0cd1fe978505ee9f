"""What the machine does, run here: the launch's own user data, an interruption that the metadata announce, and a second machine."""

import base64
import http.server
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from carnelian.checkpoint import load_tensors

boto3 = pytest.importorskip("boto3")
pytestmark = [pytest.mark.aws, pytest.mark.slow]

NAME, STEPS = "spot-run", 200
RECIPE = Path(__file__).with_name("training.toml").read_text()


class Metadata(http.server.BaseHTTPRequestHandler):
    """Version 2 of the instance metadata: nothing without a token, and no interruption until one is announced."""

    announced = threading.Event()

    def answer(self, code: int, text: str = "") -> None:
        self.send_response(code)
        self.end_headers()
        self.wfile.write(text.encode())

    def do_PUT(self) -> None:
        self.answer(200 if self.headers["X-aws-ec2-metadata-token-ttl-seconds"] else 400, "a-token")

    def do_GET(self) -> None:
        if self.headers["X-aws-ec2-metadata-token"] != "a-token":
            return self.answer(401)
        if self.path == "/latest/meta-data/instance-id":
            return self.answer(200, "i-1234567890")
        if self.path == "/latest/meta-data/spot/instance-action" and self.announced.is_set():
            return self.answer(200, '{"action": "terminate", "time": "2026-12-01T00:02:00Z"}')
        return self.answer(404)

    def log_message(self, *words) -> None:
        pass


@pytest.fixture
def metadata():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Metadata)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


@pytest.fixture(scope="module")
def image_python(tmp_path_factory) -> Path:
    """A Python as the image has it: with torch and all the rest, without carnelian of its own."""
    folder = tmp_path_factory.mktemp("image") / "pytorch"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    packages = next(path for path in sys.path if path.endswith("site-packages"))
    own = next(folder.glob("lib/python*/site-packages"))
    (own / "image.pth").write_text(packages + "\n")
    return folder / "bin" / "python"


class MachineHere:
    """A new machine: an empty root in which the user data run."""

    def __init__(self, root: Path, user_data: str, environment: dict[str, str]):
        self.root = root
        root.mkdir()
        (root / "user-data.sh").write_text(user_data)
        self.environment = os.environ | environment | {"CARNELIAN_ROOT": str(root)}
        self.environment.pop("PYTHONPATH", None)

    @property
    def run(self) -> Path:
        return self.root / "opt/carnelian/training/run"

    def boot(self) -> int:
        return subprocess.run(["bash", self.root / "user-data.sh"], env=self.environment, cwd=self.root).returncode

    @property
    def boot_log(self) -> str:
        return (self.root / "var/log/carnelian-boot.log").read_text()[-3000:]

    def wait(self, condition, seconds: float = 120) -> None:
        end = time.monotonic() + seconds
        while not condition():
            logs = [self.root / "unit.log", self.run / "training.log"]
            assert time.monotonic() < end, "\n".join(log.read_text()[-3000:] for log in logs if log.exists())
            time.sleep(0.05)

    def exit_code(self) -> int:
        self.wait((self.root / "unit.rc").exists)
        return int((self.root / "unit.rc").read_text())


def user_data_of(name: str) -> str:
    """The user data of a launch's machine."""
    versions = boto3.client("ec2").describe_launch_template_versions(LaunchTemplateName=f"carnelian-{name}")
    return base64.b64decode(versions["LaunchTemplateVersions"][0]["LaunchTemplateData"]["UserData"]).decode()


def machine_environment(folder: Path, cloud_tool, python: Path) -> dict[str, str]:
    """What a machine's programs are here: the real AWS command line, and a stand-in for systemctl."""
    programs = folder / "programs"
    programs.mkdir()
    (programs / "aws").symlink_to(cloud_tool("aws"))
    (programs / "systemctl").symlink_to(Path(__file__).with_name("systemctl"))
    path = f"{programs}:{os.environ['PATH']}"
    return {"PATH": path, "CARNELIAN_PYTHON": str(python), "CARNELIAN_POLL_SECONDS": "0.1", "OMP_NUM_THREADS": "1"}


def test_a_machine_that_cannot_be_set_up_stops_itself(
    aws, carnelian, image_python, cloud_tool, write_tones, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    write_tones(tmp_path / "data")
    (tmp_path / "recipe.toml").write_text(RECIPE)
    code, _, error = carnelian("launch", "small", "recipe.toml", "--name", "broken", "--package", "./none.whl")
    assert code == 0, error
    machine = MachineHere(
        tmp_path / "machine", user_data_of("broken"), machine_environment(tmp_path, cloud_tool, image_python)
    )
    assert machine.boot() != 0
    (group,) = boto3.client("autoscaling").describe_auto_scaling_groups()["AutoScalingGroups"]
    assert group["DesiredCapacity"] == 0
    assert read_json("broken/status/status.json")["state"] == "failed"
    code, out, _ = carnelian("launch", "logs", "broken")
    assert code == 0 and "none.whl" in out
    assert carnelian("launch", "delete", "broken")[0] == 0


def test_an_interrupted_training_goes_on_elsewhere_to_the_same_weights(
    aws, carnelian, metadata, image_python, cloud_tool, write_tones, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    write_tones(tmp_path / "data")
    (tmp_path / "recipe.toml").write_text(RECIPE)
    code, _, error = carnelian("launch", "small", "recipe.toml", "--name", NAME, "--spot")
    assert code == 0, error
    user_data = user_data_of(NAME)
    assert len(user_data) < 16384 and "secret" not in user_data
    environment = machine_environment(tmp_path, cloud_tool, image_python) | {
        "AWS_EC2_METADATA_SERVICE_ENDPOINT": metadata
    }
    first = MachineHere(tmp_path / "first", user_data, environment)
    assert first.boot() == 0, first.boot_log
    first.wait(lambda: any(first.run.glob("step-*0.safetensors")))
    Metadata.announced.set()
    announced = time.monotonic()
    assert first.exit_code() == 75
    assert time.monotonic() - announced < 110  # the notice comes two minutes before the end
    Metadata.announced.clear()
    status = read_json(NAME + "/status/status.json")
    assert status["state"] == "interrupted" and 0 < status["step"] < STEPS and status["instance"] == "i-1234567890"
    if shutil.which("systemd-analyze"):
        checked = subprocess.run(
            ["systemd-analyze", "verify", "--man=no", first.root / "etc/systemd/system/carnelian-machine.service"],
            capture_output=True,
            text=True,
        )
        assert "carnelian-machine" not in checked.stderr, checked.stderr

    second = MachineHere(tmp_path / "second", user_data, environment)
    assert second.boot() == 0, second.boot_log
    assert second.exit_code() == 0, (second.root / "unit.log").read_text()
    assert read_json(NAME + "/status/status.json")["state"] == "finished"
    assert f"step {status['step']}" in (second.root / "unit.log").read_text()  # it did not begin anew
    group = boto3.client("autoscaling").describe_auto_scaling_groups()["AutoScalingGroups"][0]
    assert group["DesiredCapacity"] == 0 and group["MaxSize"] == 1  # it has stopped itself

    code, _, error = carnelian("launch", "fetch", NAME, "--out", "fetched")
    assert code == 0, error
    code, _, error = carnelian("train", "recipe.toml", "--out", "undisturbed")
    assert code == 0, error
    ours, _ = load_tensors(tmp_path / "fetched" / f"step-{STEPS:08d}.safetensors")
    undisturbed, _ = load_tensors(tmp_path / "undisturbed" / f"step-{STEPS:08d}.safetensors")
    assert ours.keys() == undisturbed.keys() and all(ours[name].equal(undisturbed[name]) for name in ours)
    code, out, error = carnelian("launch", "delete", NAME)
    assert code == 0 and "Only the bucket is left" in out, error


def read_json(key: str) -> dict:
    bucket = boto3.client("s3").list_buckets()["Buckets"][0]["Name"]
    return json.loads(boto3.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read())
