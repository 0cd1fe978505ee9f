"""On the machine itself: fetches data, trains, copies results to the bucket, and survives an interruption.

Started by systemd as `python -m carnelian.cloud.machine`. Its settings are launch/settings.json, which `carnelian launch small` wrote.
"""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from carnelian import console
from carnelian.checkpoint import saved_steps
from carnelian.cloud import storage
from carnelian.cloud.account import client, explained
from carnelian.errors import CloudError

POLL_SECONDS = 5.0
COPY_SECONDS = 60.0
SAVE_SECONDS = 85.0
"""How long a training may take to save before it is killed: the notice comes two minutes ahead, and the copy takes some."""
STOP_LEAD_SECONDS = 600.0
"""How long before the hour at which the machine is stopped the training saves."""
INTERRUPTED = 75
"""The exit code after an interruption: another machine will go on."""
TRAINING_ATTEMPTS = 3


@dataclass
class Work:
    """What this machine does, and where. `stop_at` is a Unix time; `seen` holds size and time of each file as it was last copied."""

    bucket: str
    name: str
    group: str
    region: str
    home: Path
    command: list[str]
    stop_at: float
    instance: str = ""
    seen: dict[str, tuple[int, int]] = field(default_factory=dict)

    @property
    def run(self) -> Path:
        return self.home / "training" / "run"

    def report(self, state: str, message: str = "") -> None:
        """Writes status/status.json in the bucket, which `carnelian launch status` reads."""
        step = max(saved_steps(self.run), default=0)
        status = {"state": state, "step": step, "at": time.time(), "instance": self.instance, "message": message}
        storage.write_object(self.bucket, f"{self.name}/status/status.json", json.dumps(status).encode(), self.region)
        console.note(f"{self.name}: {state}, step {step} {message}".rstrip())

    def fetch(self) -> None:
        """Copies data and the run so far from the bucket."""
        for prefix, folder in (("data", self.home / "training" / "data"), (f"{self.name}/run", self.run)):
            count = storage.download_folder(self.bucket, prefix, folder, self.region)
            console.note(f"{count} files of s3://{self.bucket}/{prefix}")
        self.run.mkdir(parents=True, exist_ok=True)
        for path in (self.home / "launch").glob("notebooks/*"):  # those worked on before came with the run
            if not (kept := self.run / "notebooks" / path.name).exists():
                kept.parent.mkdir(exist_ok=True)
                kept.write_bytes(path.read_bytes())
        self.seen = storage.stamps(self.run)

    def copy(self) -> None:
        """Copies what is new in the run to the bucket; what the training tidied away goes there too."""
        storage.upload_folder(self.run, self.bucket, f"{self.name}/run", self.region, mirror=True, seen=self.seen)

    def end(self) -> None:
        """Has the group stop this machine."""
        with explained(self.group):
            client("autoscaling", self.region).set_desired_capacity(AutoScalingGroupName=self.group, DesiredCapacity=0)


class Metadata:
    """The instance metadata service, version 2; None for what it does not have."""

    def __init__(self, address: str = ""):
        self.address = address or os.environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://169.254.169.254")
        self.token, self.token_until = "", 0.0

    def request(self, path: str, method: str = "GET", headers: dict[str, str] | None = None) -> str:
        address = f"{self.address.rstrip('/')}/latest/{path}"
        with urllib.request.urlopen(
            urllib.request.Request(address, method=method, headers=headers or {}), timeout=2
        ) as answer:
            return answer.read().decode()

    def read(self, path: str) -> str | None:
        try:
            if time.monotonic() > self.token_until:
                self.token = self.request("api/token", "PUT", {"X-aws-ec2-metadata-token-ttl-seconds": "21600"})
                self.token_until = time.monotonic() + 21000
            return self.request(f"meta-data/{path}", headers={"X-aws-ec2-metadata-token": self.token})
        except urllib.error.HTTPError as error:
            if error.code == 401:
                self.token_until = 0.0
            return None
        except OSError:
            return None

    def interruption(self) -> str | None:
        """When spot takes the machine back, as the metadata say; None while it does not."""
        return self.read("spot/instance-action")


def watch(
    work: Work,
    metadata: Metadata,
    *,
    stopped: Callable[[], int],
    poll: float = POLL_SECONDS,
    every: float = COPY_SECONDS,
) -> int:
    """Trains until the end, an interruption, the time limit or a signal; gives the exit code."""
    for attempt in range(1, TRAINING_ATTEMPTS + 1):
        before = max(saved_steps(work.run), default=0)
        work.report("training" if attempt == 1 else "training again")
        reason, code = run_once(work, metadata, stopped, poll, every)
        work.copy()
        if reason:
            if reason != "interrupted":
                work.report("stopped", reason)
                work.end()
                return 0
            work.report("interrupted", "another machine goes on from here")
            return INTERRUPTED
        if code == 0:
            work.report("finished")
            work.end()
            return 0
        if code == 2 or (max(saved_steps(work.run), default=0) == before and attempt > 1):
            break  # a user's error, or one that comes again at once
    work.report("failed", last_line(work.run / "training.log"))
    work.end()
    return 2


def run_once(work: Work, metadata: Metadata, stopped: Callable[[], int], poll: float, every: float) -> tuple[str, int]:
    """Runs the command once; gives why it was stopped from outside ("" where it ended by itself) and its exit code."""
    with (work.run / "training.log").open("ab") as log:
        child = subprocess.Popen(work.command, cwd=work.home / "training", stdout=log, stderr=subprocess.STDOUT)
        copied, reason = time.monotonic(), ""
        while child.poll() is None:
            if metadata.interruption():
                reason = "interrupted"
            elif time.time() > work.stop_at - STOP_LEAD_SECONDS:
                reason = "the time limit (--hours) is reached"
            elif stopped():
                reason = "asked to stop"
            if reason:
                child.send_signal(signal.SIGTERM)
                try:
                    child.wait(SAVE_SECONDS)
                except subprocess.TimeoutExpired:
                    child.kill()
                    child.wait()
                break
            if time.monotonic() - copied > every:
                copied = time.monotonic()
                try:
                    work.copy()
                    work.report("training")
                except CloudError as error:  # the network may come back
                    console.note(str(error))
            time.sleep(poll)
    if reason and child.returncode == 0:  # it ended in the same moment
        reason = ""
    return reason, child.returncode


def last_line(path: Path) -> str:
    """The last line of a log that says something."""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []
    return next((line.strip() for line in reversed(lines) if line.strip()), "")[-500:]


def command_of(settings: dict[str, Any], home: Path, gpus: int) -> list[str]:
    """The command of a launch: a training, a script, or JupyterLab on this machine alone."""
    launch = home / "launch"
    if settings["mode"] == "notebook":
        options = [
            "--no-browser",
            "--allow-root",
            "--ip=127.0.0.1",
            "--port=8888",
            f"--IdentityProvider.token={settings['token']}",
        ]
        return [sys.executable, "-m", "jupyterlab", *options, f"--notebook-dir={home / 'training'}"]
    if settings["mode"] == "script":
        return [sys.executable, str(home / "training" / "run" / settings["script"])]
    several = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={gpus}"] if gpus > 1 else []
    changes = [word for change in settings.get("set", []) for word in ("--set", change)]
    return [sys.executable, *several, "-m", "carnelian", "train", str(launch / "recipe.toml"), "--out", "run", *changes]


def run_machine() -> int:
    """Does what launch/settings.json says; the exit code."""
    import torch

    home = Path(os.environ["CARNELIAN_HOME"])
    settings = json.loads((home / "launch" / "settings.json").read_text())
    metadata = Metadata()
    work = Work(
        bucket=os.environ["CARNELIAN_BUCKET"],
        name=os.environ["CARNELIAN_NAME"],
        group=os.environ["CARNELIAN_GROUP"],
        region=os.environ["AWS_DEFAULT_REGION"],
        home=home,
        command=command_of(settings, home, torch.cuda.device_count()),
        stop_at=settings["stop_at"],
        instance=metadata.read("instance-id") or "",
    )
    signals: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, frame: signals.append(number))
    poll = float(os.environ.get("CARNELIAN_POLL_SECONDS", POLL_SECONDS))
    try:
        work.report("fetching")
        work.fetch()
        return watch(work, metadata, stopped=lambda: len(signals), poll=poll)
    except CloudError as error:
        print(f"carnelian: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(run_machine())
