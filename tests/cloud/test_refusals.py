"""What AWS refuses: one clear line each, and nothing is left asking for a machine. Answers are botocore's stubs."""

import json
import sys
from datetime import UTC, datetime
from pathlib import Path

import boto3
import pytest
from botocore.exceptions import ClientError, EndpointConnectionError, NoCredentialsError, WaiterError
from botocore.stub import ANY, Stubber

from carnelian.cloud import account, large, lifecycle, small, storage
from carnelian.cloud.machines import load_catalogue
from carnelian.errors import CloudError

REGION = "us-east-1"


@pytest.fixture
def stubs(monkeypatch):
    """`stubs("ec2")`: the stubber of the client that the cloud's modules get for a service."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    clients: dict = {}

    def stub(service: str) -> Stubber:
        if service not in clients:
            client = boto3.client(service, region_name=REGION)
            clients[service] = client, Stubber(client)
            clients[service][1].activate()
        return clients[service][1]

    def client(service: str, region: str | None = None):
        stub(service)
        return clients[service][0]

    for module in (account, large, lifecycle, small, storage):
        monkeypatch.setattr(module, "client", client)
    monkeypatch.setattr(small.time, "sleep", lambda seconds: None)
    return stub


def launch(**options) -> small.Launch:
    chosen = small.MachineOptions(**options)
    return small.Launch("x1", REGION, "a-bucket", chosen.check(), "an-image", chosen, "train", Path("recipe.toml"))


@pytest.mark.parametrize("code", account.AWS_REFUSALS)
def test_every_refusal_says_what_to_do(code):
    with pytest.raises(CloudError) as caught, account.explained("launch x1"):
        raise ClientError({"Error": {"Code": code, "Message": "AWS's\n own words"}}, "RunInstances")
    text = str(caught.value)
    assert text.startswith("launch x1: AWS refuses (") and "\n" not in text and code in text and len(text) < 400


@pytest.mark.parametrize(
    "error, says",
    [
        (NoCredentialsError(), "aws configure"),
        (EndpointConnectionError(endpoint_url="https://ec2.nowhere.amazonaws.com"), "--region"),
        (ClientError({"Error": {"Code": "Strange", "Message": "odd\nwords"}}, "X"), "odd words"),
    ],
)
def test_other_faults_are_one_line(error, says):
    with pytest.raises(CloudError, match=says) as caught, account.explained("launch x1"):
        raise error
    assert "\n" not in str(caught.value)


MESSAGES = {
    "VcpuLimitExceeded": "You have requested more vCPU capacity than your current vCPU limit of 0 allows for the instance "
    "bucket that the specified instance type belongs to. Launching EC2 instance failed.",
    "MaxSpotInstanceCountExceeded": "Could not launch Spot Instances. MaxSpotInstanceCountExceeded - Max spot instance count "
    "exceeded. Launching EC2 instance failed.",
    "SpotMaxPriceTooLow": "Could not launch Spot Instances. SpotMaxPriceTooLow - Your Spot request price of 0.01 is lower "
    "than the minimum.",
    "UnauthorizedOperation": "UnauthorizedOperation - You are not authorized to perform this operation.",
    "InsufficientInstanceCapacity": "We currently do not have sufficient g6.xlarge capacity in the Availability Zone you requested.",
}


@pytest.mark.parametrize("code", MESSAGES)
def test_no_machine_is_said_and_nothing_keeps_asking(stubs, code):
    """A limit or a right is told at once; missing capacity after the minutes given. Either way the group is set to no machine."""
    waits = code == "InsufficientInstanceCapacity"
    group = {
        "AutoScalingGroupName": "carnelian-x1",
        "MinSize": 0,
        "MaxSize": 1,
        "DesiredCapacity": 1,
        "DefaultCooldown": 1,
        "AvailabilityZones": ["us-east-1a"],
        "HealthCheckType": "EC2",
        "CreatedTime": datetime.now(UTC),
        "Instances": [],
    }
    activity = {
        "ActivityId": "1",
        "AutoScalingGroupName": "carnelian-x1",
        "Cause": "c",
        "StartTime": datetime.now(UTC),
        "StatusCode": "Failed",
        "StatusMessage": MESSAGES[code],
    }
    stub = stubs("autoscaling")
    stub.add_response("describe_auto_scaling_groups", {"AutoScalingGroups": [group]})
    stub.add_response("describe_scaling_activities", {"Activities": [activity]})
    stub.add_response("describe_auto_scaling_groups", {"AutoScalingGroups": [group]})
    stub.add_response("set_desired_capacity", {}, {"AutoScalingGroupName": "carnelian-x1", "DesiredCapacity": 0})
    with pytest.raises(CloudError) as caught:
        small.wait_for_machine(launch(wait_minutes=0 if waits else 15), ["us-east-1a"])
    text = str(caught.value)
    assert code in text and text.endswith("Nothing is running") and "\n" not in text
    stub.assert_no_pending_responses()


def test_a_quota_of_zero_is_said_before_anything_is_made(stubs):
    quota = {"Quota": {"Value": 0.0}}
    stubs("service-quotas").add_response("get_service_quota", quota, {"ServiceCode": "ec2", "QuotaCode": "L-DB2E81BA"})
    with pytest.raises(
        CloudError, match="needs 4 vCPUs, and the account's limit for on demand G machines in us-east-1 is 0"
    ):
        account.check_quota(
            load_catalogue().machine("g6.xlarge"), 1, spot=False, region=REGION, codes=load_catalogue().quotas
        )


def test_spot_has_a_limit_of_its_own(stubs):
    stubs("service-quotas").add_response(
        "get_service_quota", {"Quota": {"Value": 8.0}}, {"ServiceCode": "ec2", "QuotaCode": "L-3819A6DF"}
    )
    account.check_quota(
        load_catalogue().machine("g6.xlarge"), 1, spot=True, region=REGION, codes=load_catalogue().quotas
    )


def test_a_region_without_the_type(stubs):
    stubs("ec2").add_response("describe_instance_type_offerings", {"InstanceTypeOfferings": []})
    with pytest.raises(CloudError, match=r"us-east-1: no zone offers g6.xlarge"):
        account.zones_with([load_catalogue().machine("g6.xlarge")], REGION)


@pytest.mark.parametrize("code, says", [("403", "belongs to somebody else"), ("301", "another region")])
def test_a_bucket_that_is_not_ours(stubs, code, says):
    stubs("s3").add_client_error("head_bucket", code)
    with pytest.raises(CloudError, match=says):
        storage.need_bucket("taken", "123456789012", REGION)


def test_a_stack_that_aws_could_not_make_names_the_first_reason(stubs, monkeypatch):
    def failed(*words, **given):
        raise WaiterError("StackCreateComplete", "failed", {})

    class Formation:
        def get_waiter(self, name):
            return type("Waiter", (), {"wait": staticmethod(failed)})

        def describe_stack_events(self, StackName):
            reasons = ["Resource creation cancelled", "API: iam:CreateRole User is not authorized: AccessDenied", ""]
            return {
                "StackEvents": [{"ResourceStatus": "CREATE_FAILED", "ResourceStatusReason": each} for each in reasons]
            }

    monkeypatch.setattr(small, "client", lambda service, region: Formation())
    with pytest.raises(CloudError, match=r"your user lacks rights.*carnelian launch delete x1"):
        small.wait_for_stack("x1", REGION, "create")


def test_an_interrupted_delete_is_taken_up_again(stubs, monkeypatch):
    """A delete that found no machine any more goes on with the stack, and says which bucket is left."""
    stack = {
        "StackName": "carnelian-x1",
        "CreationTime": datetime.now(UTC),
        "StackStatus": "DELETE_FAILED",
        "Parameters": [{"ParameterKey": "Bucket", "ParameterValue": "a-bucket"}],
    }
    formation = stubs("cloudformation")
    formation.add_client_error(
        "describe_stacks", "ValidationError", "Stack with id carnelian-x1-network does not exist"
    )
    formation.add_response("describe_stacks", {"Stacks": [stack]})
    stubs("autoscaling").add_response("describe_auto_scaling_groups", {"AutoScalingGroups": []})
    formation.add_response("delete_stack", {}, {"StackName": "carnelian-x1"})
    monkeypatch.setattr(lifecycle, "wait_for_stack", lambda *words: None)
    assert lifecycle.delete_stack("x1", REGION) == "a-bucket"
    formation.assert_no_pending_responses()


RESERVED = {
    "CapacityReservationId": "cr-0123456789abcdef0",
    "InstanceType": "p5.48xlarge",
    "TotalInstanceCount": 2,
    "AvailabilityZone": "us-east-1b",
    "State": "active",
    "EndDate": datetime(2100, 1, 1, 11, 30, tzinfo=UTC),
}


@pytest.mark.parametrize(
    "change, says",
    [
        ({"InstanceType": "p4d.24xlarge"}, "reserves 2 x p4d.24xlarge"),
        ({"TotalInstanceCount": 1}, "reserves 1 x p5.48xlarge"),
        ({"State": "expired"}, "is expired"),
        ({"EndDate": datetime(2020, 1, 1, 11, 30, tzinfo=UTC)}, "too soon"),
    ],
)
def test_a_capacity_block_that_cannot_be_used(stubs, change, says):
    stubs("ec2").add_response(
        "describe_capacity_reservations", {"CapacityReservations": [RESERVED | change]}, {"CapacityReservationIds": ANY}
    )
    with pytest.raises(CloudError, match=says):
        large.find_reservation("cr-0123456789abcdef0", load_catalogue().machine("p5.48xlarge"), 2, REGION)


def test_a_capacity_block_gives_zone_and_end(stubs):
    stubs("ec2").add_response("describe_capacity_reservations", {"CapacityReservations": [RESERVED]})
    found = large.find_reservation("cr-0123456789abcdef0", load_catalogue().machine("p5.48xlarge"), 2, REGION)
    assert found == large.Reservation("us-east-1b", RESERVED["EndDate"].timestamp())


@pytest.mark.parametrize(
    "options, says",
    [
        ({"type": "g5.xlarge"}, "has no EFA"),
        ({"nodes": 0}, "--nodes 0"),
        ({"storage": 1300}, "1300"),
        ({"capacity_block": "block"}, "expected the id of a reservation"),
        ({"capacity_block": "cr-0123456789abcdef0", "spot": True}, "give one of them"),
    ],
)
def test_a_cluster_that_makes_no_sense(options, says):
    with pytest.raises(CloudError, match=says):
        large.ClusterOptions(**options).check()


def test_no_credentials_is_one_line(carnelian, monkeypatch, tmp_path):
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)
    for key in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "AWS_ENDPOINT_URL", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(key, raising=False)
    for key in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(key, str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    code, _, error = carnelian("launch", "status", "--region", REGION)
    assert code == 2 and "aws configure" in error and error.count("\n") == 1, error
    code, _, error = carnelian("launch", "status")
    assert code == 2 and "no region is known" in error and error.count("\n") == 1, error


def test_a_missing_boto3_names_the_extra(carnelian, monkeypatch):
    monkeypatch.setitem(sys.modules, "boto3", None)
    code, _, error = carnelian("launch", "status", "--region", REGION)
    assert code == 2 and "carnelian[aws]" in error and error.count("\n") == 1, error


def test_prices_are_asked_of_the_price_list_and_the_spot_market(stubs):
    dimension = {"unit": "Hrs", "pricePerUnit": {"USD": "0.9050000000"}}
    product = {"terms": {"OnDemand": {"a": {"priceDimensions": {"b": dimension}}}}}
    stubs("pricing").add_response(
        "get_products", {"PriceList": [json.dumps(product)]}, {"ServiceCode": "AmazonEC2", "Filters": ANY}
    )

    def spot(zone: str, hour: int, price: str) -> dict:
        when = datetime(2026, 11, 25, hour, tzinfo=UTC)
        return {"InstanceType": "g6.xlarge", "AvailabilityZone": zone, "Timestamp": when, "SpotPrice": price}

    history = [spot("a", 1, "0.1"), spot("a", 9, "0.4"), spot("b", 8, "0.3")]  # of zone a the newer one counts
    stubs("ec2").add_response("describe_spot_price_history", {"SpotPriceHistory": history})
    prices = account.current_prices([load_catalogue().machine("g6.xlarge")], REGION)
    assert prices == {"g6.xlarge": {"on_demand": 0.905, "spot": 0.3}}


def test_types_that_a_run_could_not_go_on_with_are_refused():
    with pytest.raises(CloudError, match="same number of GPUs"):
        small.MachineOptions(type=["g6.xlarge", "g6.12xlarge"]).check()


def test_a_missing_pcluster_is_said_with_its_cure():
    with pytest.raises(CloudError, match="pip install aws-parallelcluster"):
        large.run_pcluster("no-such-pcluster", "version", region=REGION)
