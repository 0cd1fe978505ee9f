"""A cluster: its network, its ParallelCluster configuration, its job, and the program `pcluster` that makes it."""

import json
import re
import shutil
import subprocess
import time
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

from carnelian import console
from carnelian.cloud import storage
from carnelian.cloud.account import LAUNCH_TAG, account_number, check_quota, client, explained, refusal, zones_with
from carnelian.cloud.machines import Machine, load_catalogue
from carnelian.cloud.package import wheel
from carnelian.cloud.small import EXTRAS, check_uploaded, find_stack, stack_name, template, upload_data, wait_for_stack
from carnelian.errors import CloudError
from carnelian.recipe import load_recipe, packaged_recipes

SMALLEST_FSX = 1200
PCLUSTER_TIMEOUT = 120.0


@dataclass(frozen=True)
class ClusterOptions:
    """Which nodes a cluster has: the options of the command line."""

    type: Annotated[str, "the nodes' instance type; it must have EFA"] = "p4d.24xlarge"
    nodes: Annotated[int, "how many nodes train together"] = 2
    spot: Annotated[bool, "spot nodes: cheaper, may be taken back"] = False
    capacity_block: Annotated[str, "a reserved Capacity Block, cr-..."] = ""
    storage: Annotated[int, "GiB of the shared file system (FSx for Lustre), in steps of 2400 from 1200 on"] = (
        SMALLEST_FSX
    )
    package: Annotated[str, "what pip installs on the cluster instead of this very code"] = ""
    pcluster: Annotated[str, "the program pcluster, where it is not on the path"] = "pcluster"

    def check(self) -> Machine:
        """Returns the machine of `type`; CloudError for options that make no sense."""
        machine = load_catalogue().machine(self.type)
        if not machine.efa:
            known = ", ".join(each.type for each in load_catalogue().machines if each.efa >= 4)
            raise CloudError(
                f"--type {self.type}: has no EFA, without which nodes cannot train together. With EFA: {known}"
            )
        if self.nodes < 1 or self.storage < SMALLEST_FSX or (self.storage > SMALLEST_FSX and self.storage % 2400):
            raise CloudError(
                f"--nodes {self.nodes} --storage {self.storage}: expected 1 node or more, and 1200, 2400, 4800, ... GiB"
            )
        if self.spot and self.capacity_block:
            raise CloudError("--spot, --capacity-block: give one of them")
        if self.capacity_block and not re.fullmatch(r"cr-[0-9a-f]+", self.capacity_block):
            raise CloudError(
                f"--capacity-block {self.capacity_block}: expected the id of a reservation, cr-... (see docs/aws.md)"
            )
        return machine


@dataclass(frozen=True)
class ClusterLaunch:
    """A cluster to be made, before anything is done."""

    name: str
    region: str
    bucket: str
    machine: Machine
    options: ClusterOptions
    recipe_file: Path
    changes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Reservation:
    """A Capacity Block as AWS describes it, or none: its zone and the Unix time of its end."""

    zone: str = ""
    ends: float = 0.0


@dataclass(frozen=True)
class Cluster:
    """A cluster as it is: ParallelCluster's words for it and its nodes, and the launch's bucket."""

    name: str
    bucket: str
    status: str
    fleet: str
    head_node: str = ""
    details: dict[str, Any] = field(default_factory=dict)


def fill(text: str, values: dict[str, object]) -> str:
    """Returns a template with each @KEY@ replaced by its value; lines left empty by that go."""
    for key, value in values.items():
        text = (text.replace(f"\n@{key}@\n", "\n") if value == "" else text).replace(f"@{key}@", str(value))
    if rest := re.search(r"@[A-Z_]+@", text):
        raise ValueError(f"no value for {rest[0]}")
    return text


def cluster_config(launch: ClusterLaunch, subnet: str) -> str:
    """Returns the ParallelCluster configuration."""
    options = launch.options
    block = options.capacity_block
    return fill(
        template("cluster.yaml"),
        {
            "REGION": launch.region,
            "NAME": launch.name,
            "BUCKET": launch.bucket,
            "SUBNET": subnet,
            "TYPE": options.type,
            "NODES": options.nodes,
            "MIN_NODES": options.nodes if block else 0,  # a block's machines start with it, all at once
            "CAPACITY_TYPE": "CAPACITY_BLOCK" if block else "SPOT" if options.spot else "ONDEMAND",
            "RESERVATION": f"          CapacityReservationTarget: {{ CapacityReservationId: {block} }}"
            if block
            else "",
            "PLACEMENT_GROUP": "false" if block else "true",  # a block's machines are close to each other anyway
            "STORAGE_GIB": options.storage,
        },
    )


def job_script(launch: ClusterLaunch, *, stop_at: float = 0.0, shared: str = "/fsx") -> str:
    """Returns the sbatch script; `stop_at` is the Unix time at which a Capacity Block ends, 0 where there is none."""
    memcpy = "export NCCL_SHM_USE_CUDA_MEMCPY=1 # twice as fast inside a machine without NVLink"
    return fill(
        template("train.sbatch"),
        {
            "NAME": launch.name,
            "NODES": launch.options.nodes,
            "GPUS": launch.machine.gpus,
            "SHARED": shared,
            "STOP_AT": int(stop_at),
            "MEMCPY": memcpy if launch.machine.family == "G" else "",
            "CHANGES": " ".join(f"--set '{change}'" for change in launch.changes),
        },
    )


def find_reservation(block: str, machine: Machine, nodes: int, region: str) -> Reservation:
    """Returns zone and end of a Capacity Block; CloudError where it is over, of another type or too small."""
    if not block:
        return Reservation()
    with explained(f"Capacity Block {block}"):
        found = client("ec2", region).describe_capacity_reservations(CapacityReservationIds=[block])[
            "CapacityReservations"
        ]
    if not found:
        raise CloudError(f"{block}: no such reservation in {region}. List them: aws ec2 describe-capacity-reservations")
    each = found[0]
    if each["InstanceType"] != machine.type or each["TotalInstanceCount"] < nodes:
        raise CloudError(
            f"{block}: reserves {each['TotalInstanceCount']} x {each['InstanceType']}. Give this --type and no more --nodes"
        )
    ends = each.get("EndDate")
    if each["State"] not in ("active", "scheduled", "pending", "payment-pending") or not isinstance(ends, datetime):
        raise CloudError(
            f"{block}: is {each['State']}, and cannot be used. Reserve another: aws ec2 describe-capacity-block-offerings"
        )
    if ends.timestamp() < time.time() + 3600:
        raise CloudError(f"{block}: ends at {ends:%Y-%m-%d %H:%M} UTC, too soon to train in it. Reserve another")
    return Reservation(each["AvailabilityZone"], ends.timestamp())


def run_pcluster(program: str, *words: str, region: str) -> dict[str, Any]:
    """Returns what pcluster answers; CloudError in one line where it refuses or is not installed."""
    if not shutil.which(program):
        raise CloudError(
            f"{program}: not found. Install it in an environment of its own (python -m venv pcluster; "
            "pcluster/bin/pip install aws-parallelcluster; Node.js too) and give --pcluster pcluster/bin/pcluster"
        )
    command = [program, *words, *(["--region", region] if region else [])]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PCLUSTER_TIMEOUT)
    except subprocess.TimeoutExpired:
        raise CloudError(f"pcluster {words[0]}: no answer in {PCLUSTER_TIMEOUT:g} s. Try again") from None
    try:
        answer = json.loads(done.stdout)
    except ValueError:
        raise CloudError(f"pcluster {words[0]}: {' '.join((done.stderr or done.stdout).split())[-300:]}") from None
    if done.returncode and not str(answer.get("message", "")).startswith("Request would have succeeded"):
        raise CloudError(f"pcluster {words[0]}: {explain_answer(answer)}")
    return answer


def explain_answer(answer: dict[str, Any]) -> str:
    """Returns the errors of a pcluster answer in a line: its first three findings, and what a refusal of AWS means."""
    findings = answer.get("configurationValidationErrors") or answer.get("validationMessages") or []
    errors = [each["message"] for each in findings if each.get("level") == "ERROR"]
    text = " ".join(" / ".join([str(answer.get("message", "")), *errors[:3]]).split())
    known = refusal(text)
    return f"{text[:600]}{f' -> {known[1]}' if known else ''}"


def upload_cluster(launch: ClusterLaunch, script: str) -> None:
    """Puts code, recipe and job into the bucket, for the head node."""
    requirement, content = launch.options.package, {}
    if not requirement:
        wheel_name, content[wheel_name] = wheel()
        requirement = f"./{wheel_name}[{EXTRAS}]"
    file = packaged_recipes().get(str(launch.recipe_file), launch.recipe_file)
    content |= {
        "requirements.txt": f"{requirement}\n".encode(),
        "recipe.toml": file.read_bytes(),
        "train.sbatch": script.encode(),
        "head_node.sh": template("head_node.sh").encode(),
    }
    storage.replace_objects(launch.bucket, f"{launch.name}/launch", content, launch.region)


def make_network(launch: ClusterLaunch, zone: str) -> str:
    """Makes the network's stack where there is none, and returns the private subnet."""
    name = f"{launch.name}-network"
    formation = client("cloudformation", launch.region)
    parameters = {"Name": launch.name, "Bucket": launch.bucket, "Zone": zone}
    if not find_stack(name, launch.region):
        with explained(f"network of {launch.name}"):
            formation.create_stack(
                StackName=stack_name(name),
                TemplateBody=template("network.yaml"),
                Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()],
                Tags=[{"Key": LAUNCH_TAG, "Value": launch.name}],
            )
        wait_for_stack(name, launch.region, "create")
    stack = find_stack(name, launch.region) or {}
    return next(each["OutputValue"] for each in stack.get("Outputs", []) if each["OutputKey"] == "PrivateSubnet")


def launch_cluster(launch: ClusterLaunch, folder: Path) -> str:
    """Makes network and cluster, writes their configuration into a folder, and returns ParallelCluster's status of it."""
    region, options = launch.region, launch.options
    version = run_pcluster(options.pcluster, "version", region="")["version"]
    if find_stack(launch.name, region):
        raise CloudError(
            f"{launch.name}: there is such a launch. See carnelian launch status {launch.name}, or delete it first"
        )
    reservation = find_reservation(options.capacity_block, launch.machine, options.nodes, region)
    zone = reservation.zone or zones_with([launch.machine], region)[0]
    if not options.capacity_block:
        check_quota(launch.machine, options.nodes, spot=options.spot, region=region, codes=load_catalogue().quotas)
    if storage.need_bucket(launch.bucket, account_number(region), region):
        console.note(f"made the bucket s3://{launch.bucket}, private and encrypted")
    if Path("data").is_dir():
        console.note(
            f"{upload_data(Path('data'), launch.bucket, region)} new files copied to s3://{launch.bucket}/data"
        )
    check_uploaded(load_recipe(launch.recipe_file, launch.changes), launch.bucket, region)
    script = job_script(launch, stop_at=reservation.ends)
    upload_cluster(launch, script)
    subnet = make_network(launch, zone)
    config = folder / "cluster.yaml"
    folder.mkdir(parents=True, exist_ok=True)
    config.write_text(cluster_config(launch, subnet), encoding="utf-8")
    (folder / "train.sbatch").write_text(script, encoding="utf-8")
    console.note(f"ParallelCluster {version}: {config}")
    words = ["--cluster-name", stack_name(launch.name), "--cluster-configuration", str(config)]
    try:
        answer = run_pcluster(options.pcluster, "create-cluster", *words, region=region)
    except CloudError as error:
        raise CloudError(
            f"{error}. The network, whose NAT gateway costs, stays until: carnelian launch delete {launch.name}"
        ) from None
    return answer.get("cluster", {}).get("clusterStatus", "CREATE_IN_PROGRESS")


def find_cluster(name: str, region: str, program: str = "pcluster") -> Cluster | None:
    """Returns the cluster of a launch; None where the launch is no cluster."""
    network = find_stack(f"{name}-network", region)
    if not network:
        return None
    bucket = next(
        (each["ParameterValue"] for each in network.get("Parameters", []) if each["ParameterKey"] == "Bucket"), ""
    )
    stack = find_stack(name, region)
    if not stack:
        return Cluster(name, bucket, "no cluster, only its network", "")
    try:
        answer = run_pcluster(program, "describe-cluster", "--cluster-name", stack_name(name), region=region)
    except CloudError:  # without pcluster at hand CloudFormation knows the most of it
        return Cluster(name, bucket, stack["StackStatus"], "unknown")
    head = answer.get("headNode", {}).get("instanceId", "")
    return Cluster(name, bucket, answer.get("clusterStatus", ""), answer.get("computeFleetStatus", ""), head, answer)


def stop_cluster(name: str, region: str, program: str = "pcluster") -> None:
    """Stops the nodes, whose trainings save; the head node and the file system stay, and cost."""
    words = ["--cluster-name", stack_name(name), "--status", "STOP_REQUESTED"]
    run_pcluster(program, "update-compute-fleet", *words, region=region)


def delete_cluster(
    cluster: Cluster, region: str, program: str = "pcluster", *, minutes: float = 40.0, pause: float = 15.0
) -> None:
    """Deletes cluster, file system and network, and waits until they are gone."""
    end = time.monotonic() + 60 * minutes
    if find_stack(cluster.name, region):
        run_pcluster(program, "delete-cluster", "--cluster-name", stack_name(cluster.name), region=region)
        with console.bar(f"ParallelCluster: deleting {cluster.name}"):
            while find_stack(cluster.name, region):
                if time.monotonic() > end:
                    raise CloudError(
                        f"{cluster.name}: still being deleted. Run the command again in some minutes; the network follows then"
                    )
                time.sleep(pause)
    name = f"{cluster.name}-network"
    with explained(f"network of {cluster.name}"):
        client("cloudformation", region).delete_stack(StackName=stack_name(name))
    wait_for_stack(name, region, "delete")
