"""A local AWS for the tests (moto's server in an environment of its own), and a command line that speaks to it."""

import importlib.util
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import boto3
import pytest

from carnelian import cli

ROOT = Path(__file__).resolve().parent.parent.parent
IMAGE = "/aws/service/deeplearning/ami/x86_64/oss-nvidia-driver-gpu-pytorch-2.13-amazon-linux-2023/latest/ami-id"

IMAGE_OF_CLUSTERS = {
    "ami_id": "ami-0123456789abcdef1",
    "state": "available",
    "public": True,
    "owner_id": "247102896272",
    "owner_alias": "amazon",
    "sriov": "simple",
    "root_device_type": "ebs",
    "root_device_name": "/dev/sda1",
    "description": "",
    "image_type": "machine",
    "image_location": "amazon/an-image",
    "platform": "",
    "architecture": "x86_64",
    "virtualization_type": "hvm",
    "hypervisor": "xen",
    "creation_date": "2026-07-01T00:00:00.000Z",
}


def image_names() -> list[str]:
    """The name of the image that the ParallelCluster at hand looks for, or of any."""
    folders = [os.environ.get("CARNELIAN_PCLUSTER_BIN", ""), str(ROOT / ".venv-pcluster" / "bin")]
    program = next((path for folder in folders if folder and (path := Path(folder) / "pcluster").exists()), None)
    if not program:
        return ["an-image"]
    answer = subprocess.run([program, "version"], capture_output=True, text=True).stdout
    return [f"aws-parallelcluster-{json.loads(answer)['version']}-ubuntu-2404-lts-hvm-x86_64-202607010000"]


def tool(name: str, environment: str = "cloud") -> Path:
    """A program of an environment that `make test-cloud` makes, or one on the path; the test is skipped where there is none."""
    folders = [os.environ.get(f"CARNELIAN_{environment.upper()}_BIN", ""), str(ROOT / f".venv-{environment}" / "bin")]
    found = next((path for folder in folders if folder and (path := Path(folder) / name).exists()), None)
    found = found or (Path(path) if name != "python" and (path := shutil.which(name)) else None)
    if not found:
        pytest.skip(f"{name} is not at hand: run make test-cloud")
    return found


@pytest.fixture(scope="session")
def cloud_tool():
    """`cloud_tool("aws")`: a program of the environment for the cloud's tests."""
    return tool


@pytest.fixture(scope="session")
def write_tones():
    """The small spoken corpus of the training's tests."""
    path = ROOT / "tests" / "training" / "conftest.py"
    specification = importlib.util.spec_from_file_location("training_conftest", path)
    assert specification and specification.loader
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module.write_corpus


@dataclass(frozen=True)
class LocalAws:
    """Where the local AWS answers, and the image that its parameter names."""

    url: str
    image: str


@pytest.fixture(scope="session")
def aws_process(tmp_path_factory) -> Iterator[LocalAws]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder = tmp_path_factory.mktemp("aws")
    log, images = folder / "server.log", folder / "images.json"
    images.write_text(json.dumps([IMAGE_OF_CLUSTERS | {"name": name} for name in image_names()]))
    server = Path(__file__).with_name("aws_server.py")
    with log.open("wb") as errors:
        process = subprocess.Popen(
            [tool("python"), server, str(port), IMAGE],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=os.environ | {"MOTO_AMIS_PATH": str(images), "MOTO_IAM_LOAD_MANAGED_POLICIES": "true"},
        )
    assert process.stdout
    line = next((line for line in process.stdout if line.startswith("ready")), "")
    assert line, log.read_text()[-2000:]
    yield LocalAws(f"http://127.0.0.1:{port}", line.split()[1])
    process.kill()
    process.wait()


@pytest.fixture
def aws(aws_process, monkeypatch) -> Iterator[LocalAws]:
    """The local AWS, without launches, as boto3 finds it in the environment."""
    for key, value in {
        "AWS_ENDPOINT_URL": aws_process.url,
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "COLUMNS": "200",
    }.items():
        monkeypatch.setenv(key, value)
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    yield aws_process
    formation = boto3.client("cloudformation")
    for stack in formation.describe_stacks()["Stacks"]:
        formation.delete_stack(StackName=stack["StackName"])


@pytest.fixture
def carnelian(monkeypatch, capsys):
    """`carnelian("launch", "status")`: exit code, standard output and standard error of the command, run in this process."""

    def run(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["carnelian", *map(str, words)])
        code = 0
        try:
            cli.main()
        except SystemExit as exit:
            code = int(exit.code or 0)
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run
