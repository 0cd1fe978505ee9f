"""The job script of a cluster on a real Slurm of this one machine: a killed process, a requeue, the same weights."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from carnelian.checkpoint import load_tensors
from carnelian.cloud.large import ClusterLaunch, ClusterOptions, job_script
from carnelian.cloud.machines import Machine

pytestmark = [pytest.mark.slurm, pytest.mark.slow]

ROOT = Path(__file__).resolve().parent.parent.parent
PROCESSES = 2
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol", "squeue")
RECIPE = Path(__file__).with_name("training.toml").read_text()
SLURM = """
ClusterName=here
SlurmctldHost={host}(127.0.0.1)
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
SlurmUser=root
SlurmctldPort={control}
SlurmdPort={daemon}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/pgid
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
MpiDefault=none
SlurmdDebug=debug
KillWait=60
ReturnToService=2
GresTypes=gpu
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} Gres=gpu:{gpus} State=UNKNOWN
PartitionName=gpu Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def slurm(tmp_path_factory, cloud_tool) -> Iterator[dict[str, str]]:
    """The environment in which sbatch and its like reach a Slurm started here."""
    cloud_tool("cfn-lint")  # a Slurm is started by make test-cloud alone, because the tests take minutes
    if missing := [name for name in PROGRAMS if not shutil.which(name)]:
        pytest.skip(f"{', '.join(missing)} not installed: apt-get install slurm-wlm munge")
    if os.geteuid():
        pytest.skip("a Slurm of its own is started by root alone")
    folder = (
        Path("/run") / f"carnelian-slurm-{os.getpid()}"
    )  # munge refuses a socket below folders that others may write
    for name in ("state", "spool"):
        (folder / name).mkdir(parents=True)
    folder.chmod(0o755)
    key = folder / "munge.key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o600)
    host = socket.gethostname().split(".")[0]
    settings = {"host": host, "folder": folder, "control": free_port(), "daemon": free_port()}
    (folder / "slurm.conf").write_text(SLURM.format(**settings, cpus=os.cpu_count(), gpus=PROCESSES))
    (folder / "gres.conf").write_text(f"NodeName={host} Name=gpu File=/dev/tty[0-{PROCESSES - 1}]\n")
    environment = os.environ | {"SLURM_CONF": str(folder / "slurm.conf")}
    munge = ["--socket", f"{folder}/munge.socket", "--key-file", str(key), "--pid-file", f"{folder}/munge.pid"]
    munge += ["--log-file", f"{folder}/munge.log", "--seed-file", f"{folder}/munge.seed", "--foreground", "--force"]
    daemons = [subprocess.Popen(["munged", *munge], stderr=subprocess.DEVNULL)]
    time.sleep(1)
    for program in ("slurmctld", "slurmd"):
        daemons.append(
            subprocess.Popen(
                [program, "-D", *(["-N", host] if program == "slurmd" else [])],
                env=environment,
                stderr=subprocess.DEVNULL,
            )
        )
    end = time.monotonic() + 60
    while (
        "idle"
        not in subprocess.run(["sinfo", "-h", "-o", "%T"], env=environment, capture_output=True, text=True).stdout
    ):
        logs = "\n".join(path.read_text()[-1500:] for path in folder.glob("*.log"))
        assert time.monotonic() < end, logs
        time.sleep(0.5)
    yield environment
    for daemon in reversed(daemons):
        daemon.terminate()
        daemon.wait(20)
    shutil.rmtree(folder, ignore_errors=True)


class Job:
    """A submitted job and what it wrote."""

    def __init__(self, script: Path, environment: dict[str, str]):
        self.environment, self.folder = environment, script.parent
        printed = self.call("sbatch", str(script))
        self.number = re.search(r"\d+", printed)[0]  # type: ignore[index]

    def call(self, *words: str) -> str:
        done = subprocess.run(words, env=self.environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    @property
    def log(self) -> str:
        path = self.folder / "run" / f"slurm-{self.number}.log"
        return path.read_text() if path.exists() else ""

    @property
    def state(self) -> str:
        found = re.search(r"JobState=(\w+)", self.call("scontrol", "show", "job", self.number))
        return found[1] if found else ""

    def wait(self, condition, seconds: float = 180) -> None:
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, f"{self.state}\n{self.log[-4000:]}"
            time.sleep(0.1)


def workers(folder: Path) -> list[int]:
    """The processes that train in a folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            words = (path / "cmdline").read_bytes().split(b"\0")
            if b"train" in words and b"torch.distributed.run" not in words and (path / "cwd").resolve() == folder:
                found.append(int(path.name))
        except OSError:
            continue
    return found


def prepare(folder: Path, write_tones, stop_at: float = 0.0) -> Path:
    """The shared folder of a cluster as the head node leaves it; gives the job script."""
    (folder / "carnelian" / "venv" / "bin").mkdir(parents=True)
    (folder / "carnelian" / "launch").mkdir()
    (folder / "run").mkdir()
    python = folder / "carnelian" / "venv" / "bin" / "python"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    write_tones(folder / "data")
    (folder / "carnelian" / "launch" / "recipe.toml").write_text(RECIPE)
    machine = Machine("here", PROCESSES, "none", 1.0, 2, 1, 1)
    launch = ClusterLaunch("big", "us-east-1", "a-bucket", machine, ClusterOptions(nodes=1), Path("recipe.toml"))
    script = folder / "train.sbatch"
    script.write_text(job_script(launch, stop_at=stop_at, shared=str(folder)))
    return script


def test_a_killed_process_is_requeued_and_resumes(slurm, write_tones, tmp_path):
    environment = slurm | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    job = Job(prepare(tmp_path, write_tones), environment)
    job.wait(lambda: any((tmp_path / "run").glob("step-*0.safetensors")))
    os.kill(workers(tmp_path)[0], signal.SIGKILL)
    job.wait(lambda: "submitted again" in job.log)
    job.wait(lambda: job.state == "PENDING")
    job.call("scontrol", "update", f"JobId={job.number}", "StartTime=now")  # Slurm waits two minutes by itself
    job.wait(lambda: job.state == "COMPLETED")
    assert f"{PROCESSES} processes reach each other" in job.log and "restart 1" in job.log

    undisturbed = tmp_path / "undisturbed"
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        f"--nproc-per-node={PROCESSES}",
        "-m",
        "carnelian",
    ]
    command += ["train", "carnelian/launch/recipe.toml", "--out", "undisturbed"]
    subprocess.run(command, check=True, cwd=tmp_path, env=environment, capture_output=True)
    ours, _ = load_tensors(tmp_path / "run" / "step-00000200.safetensors")
    theirs, _ = load_tensors(undisturbed / "step-00000200.safetensors")
    assert ours.keys() == theirs.keys() and all(ours[name].equal(theirs[name]) for name in ours)


def test_a_training_saves_before_the_end_of_its_capacity_block(slurm, write_tones, tmp_path):
    """2400 seconds before the end it is over: the job stops with a checkpoint and is not submitted again."""
    environment = slurm | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    script = prepare(tmp_path, write_tones, stop_at=time.time() + 2400 + 100)
    recipe = tmp_path / "carnelian" / "launch" / "recipe.toml"
    recipe.write_text(RECIPE.replace("steps = 200", "steps = 1000000").replace("save_every = 20", "save_every = 0"))
    job = Job(script, environment)
    job.wait(lambda: job.state not in ("PENDING", "RUNNING", "COMPLETING"))
    assert job.state == "COMPLETED" and "saved before the end of the Capacity Block" in job.log
    assert list((tmp_path / "run").glob("step-*.state.safetensors")), job.log
    assert "submitted again" not in job.log
