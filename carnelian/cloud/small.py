"""One machine: what is put into the bucket for it, and its CloudFormation stack."""

import json
import re
import secrets
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any

from carnelian import console
from carnelian.cloud import storage
from carnelian.cloud.account import (
    LAUNCH_TAG,
    account_number,
    check_quota,
    client,
    explained,
    image_id,
    refusal,
    zones_with,
)
from carnelian.cloud.machines import Machine, load_catalogue
from carnelian.cloud.package import wheel
from carnelian.data.utterance import read_manifest
from carnelian.errors import CloudError
from carnelian.recipe import Recipe, packaged_recipes

EXTRAS = "train,aws,remote,tensorboard,plot"
UNITS = ("carnelian-machine.service", "carnelian-tensorboard.service")
STOPPED_STATES = ("ROLLBACK_COMPLETE", "CREATE_FAILED", "DELETE_FAILED", "ROLLBACK_FAILED")


@dataclass(frozen=True)
class MachineOptions:
    """How the machine is rented and when it is stopped: the options of the command line."""

    type: Annotated[list[str], "an instance type; given up to three times they are tried in this order"] = field(
        default_factory=lambda: ["g6.xlarge"]
    )
    spot: Annotated[bool, "a spot machine: cheaper, may be taken back with two minutes' notice"] = False
    spot_price: Annotated[str, "the highest spot price in $ per hour; the price on demand where left out"] = ""
    hours: Annotated[float, "hours after which the machine is stopped in any case"] = 24.0
    idle_minutes: Annotated[int, "the machine is stopped when it was idle for so long"] = 60
    wait_minutes: Annotated[float, "how long a free machine is waited for"] = 15.0
    disk: Annotated[int, "GiB of the encrypted disk"] = 200
    budget: Annotated[float, "$ of EC2 in a month above which a mail is sent to --email"] = 0.0
    email: Annotated[str, "the address for that mail"] = ""
    image: Annotated[str, "a Deep Learning AMI: its name, an SSM parameter or an ami-..."] = ""
    package: Annotated[str, "what pip installs on the machine instead of this very code"] = ""

    def check(self) -> tuple[Machine, ...]:
        """Returns the machines of `type`; CloudError for options that make no sense."""
        if not 1 <= len(self.type) <= 3:
            raise CloudError(f"--type: given {len(self.type)} times; expected one to three types")
        if bool(self.budget) != bool(self.email):
            raise CloudError("--budget and --email: give both, because the alarm is a mail")
        for name, value, lowest in (
            ("hours", self.hours, 0.25),
            ("idle-minutes", self.idle_minutes, 10),
            ("disk", self.disk, 100),
        ):
            if value < lowest:
                raise CloudError(f"--{name} {value:g}: expected {lowest:g} or more")
        machines = tuple(load_catalogue().machine(each) for each in self.type)
        if len({machine.gpus for machine in machines}) > 1:  # a run goes on with as many processes as it had
            raise CloudError(f"--type {', '.join(self.type)}: expected types with the same number of GPUs")
        return machines


@dataclass(frozen=True)
class Launch:
    """A launch of one machine, before anything is done; `mode` is train, script or notebook."""

    name: str
    region: str
    bucket: str
    machines: tuple[Machine, ...]
    image: str
    options: MachineOptions
    mode: str
    recipe_file: Path | None = None
    recipe: Recipe | None = None
    changes: tuple[str, ...] = ()
    notebook: Path | None = None


def stack_name(name: str) -> str:
    """The stack of a launch; CloudError for a name that AWS would not take."""
    if not re.fullmatch(r"[a-z][a-z0-9-]{1,30}", name):
        raise CloudError(
            f'--name {name}: expected 2 to 31 small letters, digits and "-", a letter first, such as an4-first'
        )
    return f"carnelian-{name}"


def template(file: str) -> str:
    """A file of the package's templates."""
    return files("carnelian.cloud").joinpath("templates", file).read_text(encoding="utf-8")


def find_stack(name: str, region: str) -> dict[str, Any] | None:
    """What CloudFormation says of a launch's stack, None where there is none."""
    from botocore.exceptions import ClientError

    with explained(f"launch {name}"):
        try:
            return client("cloudformation", region).describe_stacks(StackName=stack_name(name))["Stacks"][0]
        except ClientError as error:
            if "does not exist" in str(error):
                return None
            raise


def find_group(name: str, region: str) -> dict[str, Any] | None:
    """The group of a launch's machine, with its Instances and DesiredCapacity; None where there is none."""
    with explained(f"launch {name}"):
        groups = client("autoscaling", region).describe_auto_scaling_groups(AutoScalingGroupNames=[stack_name(name)])
    return next(iter(groups["AutoScalingGroups"]), None)


def check_manifests(recipe: Recipe) -> None:
    """CloudError where manifests or their recordings would be missing on the machine: those not in data/ or at a URL."""
    train = recipe.get("train", {})
    for manifest in [*train.get("manifests", []), *train.get("validation", [])]:
        if "://" in manifest:
            continue
        if Path(manifest).is_absolute() or Path(manifest).parts[:1] != ("data",):
            raise CloudError(
                f"{manifest}: only the folder data/ is copied to the machine. Put the corpus there and name it data/... in the recipe"
            )
        if Path(manifest).exists():
            first = next(iter(read_manifest(manifest)), None)
            if (
                first
                and "://" not in first.audio_filepath
                and not Path(first.audio_filepath).resolve().is_relative_to(Path("data").resolve())
            ):
                raise CloudError(
                    f"{manifest}: its recordings lie outside data/ ({first.audio_filepath}), so the machine would not have them. "
                    f"Pack them: carnelian shard {manifest} --out data/{Path(manifest).stem}-shards"
                )


def check_uploaded(recipe: Recipe, bucket: str, region: str) -> None:
    """CloudError where a manifest of a recipe is neither in the bucket nor at a URL, before a machine costs anything."""
    train = recipe.get("train", {})
    there = storage.listed(bucket, "data", region)
    for manifest in [*train.get("manifests", []), *train.get("validation", [])]:
        if "://" not in manifest and Path(manifest).relative_to("data").as_posix() not in there:
            raise CloudError(
                f"{manifest}: neither here nor in s3://{bucket}/data. Run carnelian prepare, or copy it: "
                f"aws s3 sync data s3://{bucket}/data"
            )


def upload_data(folder: Path, bucket: str, region: str) -> int:
    """Copies a local folder data/ into the bucket, new and changed files only; gives how many there were to copy."""
    sizes = {name: path.stat().st_size for name, path in storage.files_below(folder).items()}
    with console.bar(f"Copying {folder} to s3://{bucket}/data", sum(sizes.values()) / 1e6) as advance:
        return storage.upload_folder(folder, bucket, "data", region, done=lambda size: advance(size / 1e6))


def upload_launch(launch: Launch, stop_at: float) -> str:
    """Puts code, recipe, units and settings for the machine into the bucket; gives the token of JupyterLab."""
    earlier = storage.read_bucket_object(launch.bucket, f"{launch.name}/launch/settings.json", launch.region)
    token = json.loads(earlier)["token"] if earlier else secrets.token_urlsafe(24)
    settings = {
        "mode": launch.mode,
        "stop_at": stop_at,
        "token": token,
        "script": "notebooks/an4.py",
        "set": launch.changes,
    }
    content = {"boot.sh": template("boot.sh").encode(), "settings.json": json.dumps(settings, indent=2).encode()}
    content |= {unit: template(unit).encode() for unit in UNITS}
    requirement = launch.options.package
    if not requirement:
        name, content[name] = wheel()
        requirement = f"./{name}[{EXTRAS}]"
    content["requirements.txt"] = "\n".join([requirement, *["jupyterlab"] * (launch.mode == "notebook"), ""]).encode()
    if launch.recipe_file and launch.mode == "train":
        content["recipe.toml"] = packaged_recipes().get(str(launch.recipe_file), launch.recipe_file).read_bytes()
    if launch.notebook:
        content[f"notebooks/{launch.notebook.name}"] = launch.notebook.read_bytes()
    storage.replace_objects(launch.bucket, f"{launch.name}/launch", content, launch.region)
    return token


def start_machine(launch: Launch) -> dict[str, Any]:
    """Makes the stack, or starts the machine of one that is stopped, and waits for the machine; gives the instance.

    CloudError where a machine of that name runs already, and where AWS refuses; then nothing is left running.
    """
    name, region = launch.name, launch.region
    stack, group = find_stack(name, region), find_group(name, region)
    if group and group["DesiredCapacity"]:
        raise CloudError(
            f"{name}: its machine is running or being started. See it with carnelian launch status {name}, or stop it first"
        )
    if stack and stack["StackStatus"] in STOPPED_STATES:
        raise CloudError(
            f"{name}: an earlier launch is left half-made ({stack['StackStatus']}). Run: carnelian launch delete {name}"
        )
    if stack and "IN_PROGRESS" in stack["StackStatus"]:
        raise CloudError(f"{name}: AWS is still working on it ({stack['StackStatus']}). Try again in a few minutes")
    account = account_number(region)
    zones = zones_with(launch.machines, region)
    image, root = find_image(launch)
    for machine in launch.machines[:1]:
        check_quota(machine, 1, spot=launch.options.spot, region=region, codes=load_catalogue().quotas)
    if storage.need_bucket(launch.bucket, account, region):
        console.note(f"made the bucket s3://{launch.bucket}, private and encrypted")
    if launch.recipe and Path("data").is_dir():
        console.note(
            f"{upload_data(Path('data'), launch.bucket, region)} new files copied to s3://{launch.bucket}/data"
        )
    if launch.recipe:
        check_uploaded(launch.recipe, launch.bucket, region)
    stop_at = time.time() + 3600 * launch.options.hours
    upload_launch(launch, stop_at)
    parameters = parameters_of(launch, image, root, zones, stop_at)
    arguments = {
        "StackName": stack_name(name),
        "TemplateBody": template("small.yaml"),
        "Parameters": [{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()],
        "Capabilities": ["CAPABILITY_IAM"],
        "Tags": [{"Key": LAUNCH_TAG, "Value": name}],
    }
    formation = client("cloudformation", region)
    with explained(f"launch {name}"):
        (formation.update_stack if stack else formation.create_stack)(**arguments)
    wait_for_stack(name, region, "update" if stack else "create")
    return wait_for_machine(launch, zones)


def find_image(launch: Launch) -> tuple[str, str]:
    """The image's id and the name of its root volume."""
    _, image = image_id(launch.image, launch.region)
    with explained(f"image {launch.image}"):
        found = client("ec2", launch.region).describe_images(ImageIds=[image])["Images"]
    return image, found[0].get("RootDeviceName") or "/dev/xvda" if found else "/dev/xvda"


def parameters_of(launch: Launch, image: str, root: str, zones: list[str], stop_at: float) -> dict[str, str]:
    """The template's parameters."""
    types = [machine.type for machine in launch.machines[:3]]
    return {
        "Name": launch.name,
        "Bucket": launch.bucket,
        "Image": image,
        "RootDevice": root,
        **{f"Type{number}": type for number, type in enumerate(types, 1)},
        **{f"Zone{number}": zone for number, zone in enumerate(zones[:3], 1)},
        "Spot": "yes" if launch.options.spot else "no",
        "SpotPrice": launch.options.spot_price,
        "Machines": "1",
        "StopAt": datetime.fromtimestamp(stop_at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "IdlePeriods": str(max(1, round(launch.options.idle_minutes / 10))),
        "DiskGiB": str(launch.options.disk),
        "Budget": f"{launch.options.budget:g}",
        "Email": launch.options.email if launch.options.budget else "",
    }


def wait_for_stack(name: str, region: str, verb: str) -> None:
    """Waits until a stack is made (create), changed (update) or gone (delete); CloudError with AWS's reason where that fails."""
    from botocore.exceptions import WaiterError

    formation = client("cloudformation", region)
    try:
        with console.bar(f"CloudFormation: {verb} {stack_name(name)}"):
            formation.get_waiter(f"stack_{verb}_complete").wait(
                StackName=stack_name(name), WaiterConfig={"Delay": 5, "MaxAttempts": 240}
            )
    except WaiterError:
        with explained(f"launch {name}"):
            events = formation.describe_stack_events(StackName=stack_name(name))["StackEvents"]
        reasons = [
            each.get("ResourceStatusReason", "") for each in events if "FAILED" in each.get("ResourceStatus", "")
        ]
        reason = next((text for text in reversed(reasons) if text and "cancelled" not in text), "no reason given")
        known = refusal(reason)
        raise CloudError(
            f"{name}: AWS could not {verb} the stack: {known[1] if known else ' '.join(reason.split())[:300]}. "
            f"Before you launch it again, run: carnelian launch delete {name}"
        ) from None


def wait_for_machine(launch: Launch, zones: list[str], *, pause: float = 5.0) -> dict[str, Any]:
    """Waits for the group's machine; after `wait_minutes`, or a refusal that waiting does not cure, nothing is left asking for one."""
    scaling, end = client("autoscaling", launch.region), time.monotonic() + 60 * launch.options.wait_minutes
    began, last = datetime.now(UTC).timestamp() - 120, ""
    with console.bar(f"Waiting for a machine ({', '.join(each.type for each in launch.machines)})") as advance:
        while True:
            group = find_group(launch.name, launch.region)
            for instance in group["Instances"] if group else []:
                return instance
            with explained(f"launch {launch.name}"):
                activities = scaling.describe_scaling_activities(AutoScalingGroupName=stack_name(launch.name))[
                    "Activities"
                ]
            failed = [
                each.get("StatusMessage", "")
                for each in activities
                if each["StatusCode"] == "Failed" and each["StartTime"].timestamp() > began
            ]
            last = failed[0] if failed else last
            known = refusal(last)
            waiting_helps = not known or known[0] in (
                "InsufficientInstanceCapacity",
                "UnfulfillableCapacity",
                "Throttling",
            )
            if (last and not waiting_helps) or time.monotonic() > end:
                break
            advance(0, last[:80])
            time.sleep(pause)
    stop_machine(launch.name, launch.region)
    meaning = (
        f"{known[0]}: {known[1]}"
        if known
        else last or "AWS gave no machine and no reason. Try again later, or another --type"
    )
    asked = f"{', '.join(machine.type for machine in launch.machines)} in {', '.join(zones[:3])}"
    raise CloudError(
        f"{launch.name}: no machine in {launch.options.wait_minutes:g} minutes ({asked}): {meaning}. Nothing is running"
    )


def stop_machine(name: str, region: str) -> None:
    """Stops a launch's machine, which saves first; everything else stays, so that the launch can go on."""
    if not find_group(name, region):
        raise CloudError(f"{name}: there is no such launch in {region}. carnelian launch status lists them")
    with explained(f"launch {name}"):
        client("autoscaling", region).set_desired_capacity(AutoScalingGroupName=stack_name(name), DesiredCapacity=0)
