"""What became of launches: their state, results and logs, and taking them down."""

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from carnelian import console
from carnelian.cloud import storage
from carnelian.cloud.account import LAUNCH_TAG, client, explained
from carnelian.cloud.large import delete_cluster, find_cluster
from carnelian.cloud.small import find_group, find_stack, stack_name, wait_for_stack
from carnelian.errors import CloudError


@dataclass(frozen=True)
class LaunchState:
    """A launch as it is now. `status` is what its machine wrote last: state, step, at, instance, message."""

    name: str
    bucket: str
    stack: str
    machine: str
    instance: str
    stop_at: str
    status: dict[str, Any]
    settings: dict[str, Any]

    @property
    def costs(self) -> bool:
        """Whether a machine runs or is asked for."""
        return self.machine != "none"

    @property
    def forwards(self) -> list[str]:
        """The commands that open a shell and bring the machine's ports here, where there is a machine."""
        if not self.instance:
            return []
        start = f"aws ssm start-session --target {self.instance}"
        port = f"{start} --document-name AWS-StartPortForwardingSession --parameters portNumber=%d,localPortNumber=%d"
        return [start, port % (6006, 6006), *([port % (8888, 8888)] if self.settings.get("mode") == "notebook" else [])]


def launches(region: str) -> list[str]:
    """The names of the launches that have a stack in a region."""
    with explained(f"launches in {region}"):
        pages = client("cloudformation", region).get_paginator("describe_stacks").paginate()
        stacks = [stack for page in pages for stack in page["Stacks"]]
    tagged = ({tag["Key"]: tag["Value"] for tag in stack.get("Tags", [])} for stack in stacks)
    return sorted({tags[LAUNCH_TAG] for tags in tagged if LAUNCH_TAG in tags})


def state_of(name: str, region: str) -> LaunchState:
    """The state of a launch; CloudError where there is none."""
    if cluster := find_cluster(name, region):
        machine = f"cluster: {cluster.status}; nodes: {cluster.fleet or '-'}"
        return LaunchState(name, cluster.bucket, cluster.status, machine, cluster.head_node, "", {}, {})
    stack = find_stack(name, region)
    if not stack:
        known = ", ".join(launches(region)) or "none"
        raise CloudError(f"{name}: no such launch in {region}; there are: {known}. Give another name or --region")
    parameters = {each["ParameterKey"]: each.get("ParameterValue", "") for each in stack.get("Parameters", [])}
    bucket, group = parameters["Bucket"], find_group(name, region)
    instances = group["Instances"] if group else []
    machine = "none"
    if group and group["DesiredCapacity"]:
        machine = "asked for, none free yet"
    if instances:
        machine = f"{instances[0].get('InstanceType', '')} in {instances[0]['AvailabilityZone']}, {instances[0]['LifecycleState']}"
    status = storage.read_bucket_object(bucket, f"{name}/status/status.json", region)
    settings = storage.read_bucket_object(bucket, f"{name}/launch/settings.json", region)
    return LaunchState(
        name,
        bucket,
        stack["StackStatus"],
        machine,
        instances[0]["InstanceId"] if instances else "",
        parameters.get("StopAt", ""),
        json.loads(status or b"{}"),
        json.loads(settings or b"{}"),
    )


def read_log(state: LaunchState, region: str) -> str:
    """What the training wrote so far; the boot's words where it came to no training."""
    jobs = sorted(
        file for file in storage.listed(state.bucket, f"{state.name}/run", region) if file.startswith("slurm-")
    )
    for key in ("run/training.log", *[f"run/{file}" for file in jobs[-1:]], "status/boot.log"):
        text = storage.read_bucket_object(state.bucket, f"{state.name}/{key}", region)
        if text:
            return text.decode(errors="replace")
    raise CloudError(f"{state.name}: no log yet; the first comes about five minutes after the start. Try again then")


def fetch_run(state: LaunchState, folder: Path, region: str) -> int:
    """Copies the run (checkpoints, logs, scores) into a folder; gives the number of its files."""
    prefix = f"{state.name}/run"
    objects = storage.listed(state.bucket, prefix, region)
    if not objects:
        raise CloudError(
            f"{state.name}: no results yet in s3://{state.bucket}/{prefix}. See carnelian launch status {state.name}"
        )
    with console.bar(f"Fetching {prefix}", sum(each["Size"] for each in objects.values()) / 1e6) as advance:
        return storage.download_folder(state.bucket, prefix, folder, region, done=lambda size: advance(size / 1e6))


def delete_stack(name: str, region: str, pcluster: str = "pcluster") -> str | None:
    """Takes the stack down and waits until it is gone; gives the bucket, which stays, or None where there was no stack."""
    if cluster := find_cluster(name, region, pcluster):
        delete_cluster(cluster, region, pcluster)
        return cluster.bucket
    stack = find_stack(name, region)
    if not stack:
        return None
    bucket = next(
        (each["ParameterValue"] for each in stack.get("Parameters", []) if each["ParameterKey"] == "Bucket"), ""
    )
    if find_group(name, region):  # the machine first, so that its training saves
        with explained(f"launch {name}"):
            client("autoscaling", region).set_desired_capacity(AutoScalingGroupName=stack_name(name), DesiredCapacity=0)
        wait_until_empty(name, region)
    with explained(f"launch {name}"):
        client("cloudformation", region).delete_stack(StackName=stack_name(name))
    wait_for_stack(name, region, "delete")
    return bucket


def wait_until_empty(name: str, region: str, *, minutes: float = 6.0, pause: float = 5.0) -> None:
    """Waits until a launch's machine is gone; a machine that takes longer is left to CloudFormation."""
    end = time.monotonic() + 60 * minutes
    with console.bar(f"Stopping the machine of {name}"):
        while time.monotonic() < end and (group := find_group(name, region)) and group["Instances"]:
            time.sleep(pause)


def leftovers(name: str, region: str) -> list[str]:
    """The machines and disks of a launch that still exist: none, after a whole delete."""
    ec2, ours = client("ec2", region), {"Name": f"tag:{LAUNCH_TAG}", "Values": [name]}
    alive = {"Name": "instance-state-name", "Values": ["pending", "running", "stopping", "stopped"]}
    with explained(f"resources of {name}"):
        reservations = ec2.describe_instances(Filters=[ours, alive])["Reservations"]
        volumes = ec2.describe_volumes(Filters=[ours])["Volumes"]
    machines = [instance["InstanceId"] for each in reservations for instance in each["Instances"]]
    return machines + [volume["VolumeId"] for volume in volumes]
