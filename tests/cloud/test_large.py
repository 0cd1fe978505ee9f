"""The cluster's configuration before ParallelCluster's own validators, against a local AWS; nothing is made."""

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from carnelian.cloud import large
from carnelian.cloud.machines import load_catalogue
from carnelian.cloud.storage import need_bucket
from carnelian.recipe import load_recipe

pytestmark = [pytest.mark.aws, pytest.mark.slow]

BUCKET, REGION = "carnelian-123456789012-us-east-1", "us-east-1"
#: validators that ask what moto does not know, such as a dry run of run-instances
UNKNOWN_TO_MOTO = ("KeyPairValidator", "HeadNodeLaunchTemplateValidator", "ComputeResourceLaunchTemplateValidator")
BLOCK = "cr-0123456789abcdef0"  # two p5.48xlarge in us-east-1b, in aws_server.py


def cluster(name: str, **options) -> large.ClusterLaunch:
    chosen = large.ClusterOptions(**options)
    recipe = Path("librispeech/quartznet15x5")
    return large.ClusterLaunch(name, REGION, BUCKET, load_catalogue().machine(chosen.type), chosen, recipe)


@pytest.fixture
def dry_run(aws, cloud_tool, tmp_path):
    """`dry_run(launch, zone)`: what pcluster answers about a launch, whose network and files are made in the local AWS."""
    program = cloud_tool("pcluster", "pcluster")

    def run(launch: large.ClusterLaunch, zone: str = "us-east-1a") -> dict:
        need_bucket(BUCKET, "123456789012", REGION)
        large.upload_cluster(launch, large.job_script(launch))
        config = tmp_path / "cluster.yaml"
        config.write_text(large.cluster_config(launch, large.make_network(launch, zone)))
        words = [
            program,
            "create-cluster",
            "--cluster-name",
            f"carnelian-{launch.name}",
            "--cluster-configuration",
            config,
        ]
        words += [
            "--region",
            REGION,
            "--dryrun",
            "true",
            "--suppress-validators",
            *(f"type:{each}" for each in UNKNOWN_TO_MOTO),
        ]
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        return json.loads(subprocess.run(words, capture_output=True, text=True, env=environment).stdout)

    return run


def errors(answer: dict) -> list[str]:
    return [each["type"] for each in answer.get("configurationValidationErrors", []) if each["level"] == "ERROR"]


@pytest.mark.parametrize(
    "name, options, zone",
    [
        ("two-p4d", {"type": "p4d.24xlarge", "nodes": 2}, "us-east-1a"),
        ("two-p5", {"type": "p5.48xlarge", "nodes": 2, "storage": 2400}, "us-east-1a"),
        ("spot-g6e", {"type": "g6e.48xlarge", "nodes": 2, "spot": True}, "us-east-1a"),
        ("block-p5", {"type": "p5.48xlarge", "nodes": 2, "capacity_block": BLOCK}, "us-east-1b"),
    ],
)
def test_parallelcluster_accepts_the_configuration(dry_run, name, options, zone):
    answer = dry_run(cluster(name, **options), zone)
    assert answer["message"].startswith("Request would have succeeded"), answer


def test_parallelcluster_rejects_a_type_without_efa(dry_run):
    answer = dry_run(cluster("no-efa", type="g5.xlarge"))
    assert errors(answer) == ["EfaValidator"]
    assert "does not support EFA" in large.explain_answer(answer)


def test_parallelcluster_rejects_a_block_of_another_zone(dry_run):
    answer = dry_run(cluster("far-block", type="p5.48xlarge", capacity_block=BLOCK), "us-east-1a")
    assert errors(answer) == ["CapacityReservationValidator"]


def test_a_block_has_no_placement_group_and_all_its_nodes_at_once():
    with_block = large.cluster_config(cluster("x1", type="p5.48xlarge", capacity_block=BLOCK), "subnet-1")
    without = large.cluster_config(cluster("x1", type="p5.48xlarge"), "subnet-1")
    assert "PlacementGroup: { Enabled: false }" in with_block and "PlacementGroup: { Enabled: true }" in without
    assert "MinCount: 2" in with_block and "MinCount: 0" in without
    assert f"CapacityReservationId: {BLOCK}" in with_block and "CapacityReservation" not in without


@pytest.mark.parametrize("type, gpus", [("p4d.24xlarge", 8), ("g6.12xlarge", 4)])
def test_the_job_script_is_whole(type, gpus):
    script = large.job_script(cluster("x1", type=type, nodes=3))
    assert subprocess.run(["bash", "-n"], input=script, text=True).returncode == 0
    assert f"#SBATCH --nodes=3\n#SBATCH --ntasks-per-node=1\n#SBATCH --gpus-per-node={gpus}" in script
    assert ("NCCL_SHM_USE_CUDA_MEMCPY" in script) == type.startswith("g")
    assert not re.search(r"@[A-Z_]+@", script)
    assert not re.search(r"FI_PROVIDER|NCCL_PROTO|FI_EFA_USE_DEVICE_RDMA", script)  # advice of earlier years


def test_skypilot_accepts_the_task(cloud_tool, tmp_path):
    """By SkyPilot's own schema and resource check."""
    python = cloud_tool("python", "skypilot")
    task = Path(large.__file__).with_name("templates") / "skypilot.yaml"
    program = (
        "import sys, yaml; from sky import task; print(task.Task.from_yaml_config(yaml.safe_load(open(sys.argv[1])),"
    )
    program += " env_overrides=[('BUCKET', 'my-bucket')]).num_nodes)"
    environment = os.environ | {"HOME": str(tmp_path)}
    done = subprocess.run([python, "-c", program, task], capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert done.returncode == 0 and done.stdout.split()[-1] == "1", done.stderr[-2000:]


STAND_IN = """#!/bin/sh
echo "$@" >>{folder}/calls
case "$1" in
  version) echo '{{"version": "3.16.1"}}' ;;
  create-cluster) echo '{{"cluster": {{"clusterStatus": "CREATE_IN_PROGRESS"}}}}' ;;
  *) echo '{{"message": "no such cluster"}}'; exit 1 ;;
esac
"""


def test_a_cluster_from_making_to_deleting(aws, carnelian, tmp_path, monkeypatch):
    """All but ParallelCluster's own work, which moto cannot do: pcluster is a stand-in that notes how it is called."""
    monkeypatch.chdir(tmp_path)
    program = tmp_path / "pcluster"
    program.write_text(STAND_IN.format(folder=tmp_path))
    program.chmod(0o755)
    (tmp_path / "data" / "librispeech").mkdir(parents=True)
    for manifest in load_recipe("librispeech/quartznet15x5")["train"]["manifests"]:
        Path(manifest).touch()
    Path("data/librispeech/dev-clean.jsonl").touch()
    options = ["--name", "libri", "--type", "p4d.24xlarge", "--pcluster", program]
    code, out, error = carnelian("launch", "large", "librispeech/quartznet15x5", *options)
    assert code == 0 and "CREATE_IN_PROGRESS" in out, error
    assert "p4d.24xlarge" in (tmp_path / "launch" / "libri" / "cluster.yaml").read_text()
    assert "create-cluster --cluster-name carnelian-libri" in (tmp_path / "calls").read_text()
    code, out, error = carnelian("launch", "status")
    assert code == 0 and "no cluster, only its network" in out and "costing money: libri" in out, error
    code, _, error = carnelian("launch", "stop", "libri", "--pcluster", program)
    assert code == 2 and "no such cluster" in error and error.count("\n") == 1
    code, out, error = carnelian("launch", "delete", "libri", "--pcluster", program)
    assert code == 0 and "Only the bucket is left" in out, error
    code, out, _ = carnelian("launch", "status")
    assert "No machine is running" in out
