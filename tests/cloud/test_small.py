"""One machine on a local AWS: made, seen, stopped, started again, deleted; its template checked, its role's rights tried."""

import ast
import fnmatch
import json
import subprocess
from pathlib import Path

import pytest

boto3 = pytest.importorskip("boto3")
pytestmark = pytest.mark.aws

TEMPLATES = Path(__file__).resolve().parent.parent.parent / "carnelian" / "cloud" / "templates"
NAME, BUCKET = "an4-first", "carnelian-123456789012-us-east-1"
RECIPE = """
task = "acoustic"
alphabet = " ab"
[train]
manifests = ["data/train.jsonl"]
steps = 8
batch_size = 4
[encoder]
name = "convolutional"
blocks = [{ channels = 16, kernel = 5 }]
[optimizer]
name = "novograd"
[schedule]
name = "cosine"
peak = 0.02
"""


@pytest.fixture
def recipe(tmp_path, monkeypatch) -> Path:
    """A recipe in the current folder, with its data beside it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    line = {"audio_filepath": "one.wav", "duration": 1.0, "text": "a"}
    (tmp_path / "data" / "train.jsonl").write_text(json.dumps(line) + "\n")
    (tmp_path / "data" / "one.wav").write_bytes(b"x" * 1000)
    (tmp_path / "recipe.toml").write_text(RECIPE)
    return tmp_path / "recipe.toml"


def instances(*states: str) -> list[dict]:
    filters = [
        {"Name": "tag:carnelian:launch", "Values": [NAME]},
        {"Name": "instance-state-name", "Values": list(states)},
    ]
    return [
        each
        for reservation in boto3.client("ec2").describe_instances(Filters=filters)["Reservations"]
        for each in reservation["Instances"]
    ]


def test_a_launch_from_making_to_deleting(aws, carnelian, recipe, tmp_path):
    code, out, error = carnelian(
        "launch", "small", recipe, "--name", NAME, "--type", "g5.xlarge", "--type", "g6.xlarge"
    )
    assert code == 0, error
    (machine,) = instances("running")
    assert machine["ImageId"] == aws.image and machine["InstanceType"] == "g5.xlarge" and machine["InstanceId"] in out
    groups = boto3.client("ec2").describe_security_groups(
        GroupIds=[each["GroupId"] for each in machine["SecurityGroups"]]
    )
    assert all(not group["IpPermissions"] for group in groups["SecurityGroups"])  # no inbound port
    listed = [each["Key"] for each in boto3.client("s3").list_objects_v2(Bucket=BUCKET)["Contents"]]
    assert {"data/train.jsonl", "data/one.wav", f"{NAME}/launch/boot.sh", f"{NAME}/launch/recipe.toml"} <= set(listed)
    assert any(key.endswith(".whl") for key in listed)
    block = boto3.client("s3").get_public_access_block(Bucket=BUCKET)["PublicAccessBlockConfiguration"]
    assert all(block.values())
    action = boto3.client("autoscaling").describe_scheduled_actions(AutoScalingGroupName=f"carnelian-{NAME}")
    assert action["ScheduledUpdateGroupActions"][0]["DesiredCapacity"] == 0  # it stops in any case

    code, out, error = carnelian("launch", "small", recipe, "--name", NAME)
    assert code == 2 and "running" in error and error.count("\n") == 1  # never two machines
    assert len(instances("running")) == 1
    code, out, _ = carnelian("launch", "status", NAME)
    assert code == 0 and "Running, and costing money: an4-first" in out and machine["InstanceId"] in out

    boto3.client("s3").put_object(Bucket=BUCKET, Key=f"{NAME}/run/step-00000008.safetensors", Body=b"weights")
    code, out, _ = carnelian("launch", "fetch", NAME, "--out", tmp_path / "fetched")
    assert code == 0 and (tmp_path / "fetched" / "step-00000008.safetensors").read_bytes() == b"weights"

    code, _, error = carnelian("launch", "stop", NAME)
    assert code == 0 and not instances("pending", "running"), error
    code, out, error = carnelian("launch", "small", recipe, "--name", NAME)  # goes on
    assert code == 0 and len(instances("running")) == 1, error

    code, out, error = carnelian("launch", "delete", NAME)
    assert code == 0 and f"Only the bucket is left: s3://{BUCKET}" in out, error
    assert not instances("pending", "running", "stopping", "stopped")
    left = boto3.client("resourcegroupstaggingapi").get_resources(
        TagFilters=[{"Key": "carnelian:launch", "Values": [NAME]}]
    )
    gone = {each["InstanceId"] for each in instances("terminated")}
    assert all(each["ResourceARN"].split("/")[-1] in gone for each in left["ResourceTagMappingList"])
    assert not [role for role in boto3.client("iam").list_roles()["Roles"] if NAME in role["RoleName"]]
    code, out, _ = carnelian("launch", "delete", NAME)  # of what was interrupted, or is gone
    assert code == 0 and "nothing to delete" in out


@pytest.mark.parametrize("name", ["small.yaml", "network.yaml"])
def test_templates_pass_cfn_lint(cloud_tool, name):
    done = subprocess.run([cloud_tool("cfn-lint"), TEMPLATES / name], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def allowed(document: dict, action: str, resource: str, **context: str) -> bool:
    """Whether a policy document allows a call: wildcards in actions and resources, StringLike conditions, no Deny."""
    for statement in document["Statement"]:
        assert statement["Effect"] == "Allow" and "NotAction" not in statement and "NotResource" not in statement
        actions, resources = (
            [each] if isinstance(each, str) else each for each in (statement["Action"], statement["Resource"])
        )
        conditions = statement.get("Condition", {})
        assert conditions.keys() <= {"StringLike"}
        fits = all(
            any(
                fnmatch.fnmatchcase(context.get(key, ""), pattern)
                for pattern in ([patterns] if isinstance(patterns, str) else patterns)
            )
            for key, patterns in conditions.get("StringLike", {}).items()
        )
        if (
            fits
            and any(fnmatch.fnmatchcase(action, each) for each in actions)
            and any(fnmatch.fnmatchcase(resource, each) for each in resources)
        ):
            return True
    return False


def test_the_role_can_do_what_is_needed_and_no_more(aws, carnelian, recipe):
    code, _, error = carnelian("launch", "small", recipe, "--name", NAME)
    assert code == 0, error
    iam = boto3.client("iam")
    (role,) = [each for each in iam.list_roles()["Roles"] if NAME in each["RoleName"]]
    assert not iam.list_attached_role_policies(RoleName=role["RoleName"])["AttachedPolicies"]
    (policy,) = iam.list_role_policies(RoleName=role["RoleName"])["PolicyNames"]
    document = iam.get_role_policy(RoleName=role["RoleName"], PolicyName=policy)["PolicyDocument"]
    document = ast.literal_eval(document) if isinstance(document, str) else document  # as moto keeps it
    group = "arn:aws:autoscaling:us-east-1:123456789012:autoScalingGroup:0:autoScalingGroupName/carnelian-"
    ours, theirs = f"arn:aws:s3:::{BUCKET}", "arn:aws:s3:::somebody-elses"
    needed = [
        ("s3:GetObject", f"{ours}/data/train.jsonl", {}),
        ("s3:GetObject", f"{ours}/{NAME}/launch/boot.sh", {}),
        ("s3:GetObject", f"{ours}/{NAME}/run/step-00000008.safetensors", {}),
        ("s3:PutObject", f"{ours}/{NAME}/run/step-00000008.safetensors", {}),
        ("s3:DeleteObject", f"{ours}/{NAME}/run/step-00000008.safetensors", {}),
        ("s3:PutObject", f"{ours}/{NAME}/status/status.json", {}),
        ("s3:ListBucket", ours, {"s3:prefix": f"{NAME}/run/"}),
        ("s3:ListBucket", ours, {"s3:prefix": "data/"}),
        ("ssmmessages:OpenDataChannel", "*", {}),
        ("autoscaling:SetDesiredCapacity", f"{group}{NAME}", {}),
    ]
    forbidden = [
        ("s3:GetObject", f"{theirs}/data/train.jsonl", {}),
        ("s3:GetObject", f"{ours}/another-launch/run/step-1.safetensors", {}),
        ("s3:PutObject", f"{ours}/data/train.jsonl", {}),
        ("s3:PutObject", f"{ours}/{NAME}/launch/boot.sh", {}),
        ("s3:DeleteObject", f"{ours}/data/train.jsonl", {}),
        ("s3:DeleteBucket", ours, {}),
        ("s3:ListBucket", ours, {}),
        ("s3:ListBucket", ours, {"s3:prefix": "another-launch/"}),
        ("s3:ListAllMyBuckets", "*", {}),
        ("autoscaling:SetDesiredCapacity", f"{group}another-launch", {}),
        ("autoscaling:UpdateAutoScalingGroup", f"{group}{NAME}", {}),
        ("ec2:RunInstances", "*", {}),
        ("ec2:TerminateInstances", "*", {}),
        ("iam:PassRole", role["Arn"], {}),
        ("ssm:GetParameter", "arn:aws:ssm:us-east-1:123456789012:parameter/secret", {}),
        ("ssm:SendCommand", "*", {}),
    ]
    assert [call for *call, context in needed if not allowed(document, *call, **context)] == []
    assert [call for *call, context in forbidden if allowed(document, *call, **context)] == []
    assert carnelian("launch", "delete", NAME)[0] == 0


def test_what_moto_skips_are_true_calls(aws, carnelian, recipe):
    """The alarm that stops an idle machine, which moto's CloudFormation does not make: its properties are what CloudWatch takes."""
    text = (TEMPLATES / "small.yaml").read_text()
    alarm = text[text.index("  StopWhenIdle:") : text.index("  SpendingAlarm:")]
    boto3.client("cloudwatch").put_metric_alarm(
        AlarmName="carnelian-x-idle",
        Namespace="AWS/EC2",
        MetricName="CPUUtilization",
        Dimensions=[{"Name": "AutoScalingGroupName", "Value": "carnelian-x"}],
        Statistic="Maximum",
        Period=600,
        EvaluationPeriods=6,
        DatapointsToAlarm=6,
        Threshold=2,
        ComparisonOperator="LessThanThreshold",
        TreatMissingData="notBreaching",
        AlarmActions=["arn:aws:autoscaling:us-east-1:123456789012:scalingPolicy:1:autoScalingGroupName/x:policyName/y"],
    )
    (made,) = boto3.client("cloudwatch").describe_alarms(AlarmNames=["carnelian-x-idle"])["MetricAlarms"]
    for key in ("Namespace", "MetricName", "Statistic", "Period", "ComparisonOperator", "TreatMissingData"):
        assert f"{key}: {made[key]}" in alarm
    assert "StopWhenIdlePolicy" in alarm


@pytest.mark.parametrize(
    "words, says",
    [
        (["--name", "An4"], "--name An4: expected"),
        (["--name", "x1", "--type", "g7.xlarge"], "g7.xlarge: not a machine"),
        (["--name", "x1", "--hours", "0"], "--hours 0: expected"),
        (["--name", "x1", "--budget", "10"], "give both"),
        (["--name", "x1", "--image", "pytorch-0.1"], "there is no such image any more"),
        (["--name", "x1", "--region", "eu-nowhere-1"], "what answers is not AWS. Check --region"),
        (["--name", "x1", "--notebook"], "expected one of RECIPE"),
        (["--name", "x1", "--set", "train.manifests=['/elsewhere/a.jsonl']"], "only the folder data/"),
    ],
)
def test_bad_options_are_one_line_and_nothing_is_made(aws, carnelian, recipe, words, says):
    before = boto3.client("cloudformation").describe_stacks()["Stacks"]
    code, _, error = carnelian("launch", "small", recipe, *words)
    assert code == 2 and says in error and error.count("\n") == 1, error
    assert boto3.client("cloudformation").describe_stacks()["Stacks"] == before


def test_a_manifest_that_is_nowhere_is_said_before_a_machine_costs(aws, carnelian, recipe):
    code, _, error = carnelian(
        "launch", "small", recipe, "--name", "x1", "--set", "train.manifests=['data/none.jsonl']"
    )
    assert code == 2 and error.splitlines()[-1].startswith("carnelian: data/none.jsonl: neither here nor in s3://"), (
        error
    )
    assert not boto3.client("cloudformation").describe_stacks()["Stacks"]


def test_recordings_outside_of_data_are_refused(aws, carnelian, recipe, tmp_path):
    line = {"audio_filepath": "/elsewhere/one.wav", "duration": 1.0, "text": "a"}
    (tmp_path / "data" / "train.jsonl").write_text(json.dumps(line) + "\n")
    code, _, error = carnelian("launch", "small", recipe, "--name", "x1")
    assert code == 2 and "carnelian shard data/train.jsonl" in error and error.count("\n") == 1
