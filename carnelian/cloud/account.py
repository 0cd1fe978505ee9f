"""The account on AWS: clients of its services, and what its refusals mean. The only importer of boto3."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from carnelian.cloud.machines import Machine
from carnelian.errors import CloudError, MissingExtraError

LAUNCH_TAG = "carnelian:launch"
"""The tag that every resource of a launch bears; its value is the launch's name."""

QUOTAS = "https://console.aws.amazon.com/servicequotas, service EC2"

AWS_REFUSALS = {
    "VcpuLimitExceeded": f"the account's limit of vCPUs for this family is too low (it is 0 at first). Ask for more at {QUOTAS}, "
    '"Running On-Demand G and VT instances" or "... P instances"',
    "MaxSpotInstanceCountExceeded": f"the account's limit of spot vCPUs for this family is too low; it is another limit than that on "
    f'demand. Ask for more at {QUOTAS}, "All G and VT Spot Instance Requests" or "... P5 ..."; or leave --spot out',
    "InsufficientInstanceCapacity": "AWS has none of this type free in the zones tried. Give further types with --type, another "
    "--region, or try again later; for P types reserve a Capacity Block",
    "InsufficientCapacityOnOutpost": "AWS has none of this type free. Give further types with --type",
    "SpotMaxPriceTooLow": "the price offered is below the spot price. Leave --spot-price out: the price on demand is then the limit",
    "UnfulfillableCapacity": "AWS has none of this type free as spot. Give further types with --type, or leave --spot out",
    "Unsupported": "the region or zone does not offer this type. Give another --region or --type",
    "InvalidParameterValue": "AWS does not take a value of the launch",
    "UnauthorizedOperation": 'your user lacks rights. Let an administrator add the policy in docs/aws.md, "Rights"',
    "AccessDenied": 'your user lacks rights. Let an administrator add the policy in docs/aws.md, "Rights"',
    "AccessDeniedException": 'your user lacks rights. Let an administrator add the policy in docs/aws.md, "Rights"',
    "ExpiredToken": "the session of your credentials is over. Log in again: aws sso login, or aws login",
    "ExpiredTokenException": "the session of your credentials is over. Log in again: aws sso login, or aws login",
    "InvalidClientTokenId": "the access key is not valid. Set another with aws configure",
    "UnrecognizedClientException": "the access key is not valid. Set another with aws configure",
    "AuthFailure": "the credentials are not valid in this region. Enable it in the account's settings, or give another --region",
    "SignatureDoesNotMatch": "the secret key is not valid. Set it again with aws configure",
    "OptInRequired": "the account has not accepted this service yet. Finish the account's registration in the console",
    "PendingVerification": "AWS is still verifying the new account. Try again in a few hours",
    "ParameterNotFound": "there is no such image any more. Give another with --image, listed at "
    "https://docs.aws.amazon.com/dlami/latest/devguide/appendix-ami-release-notes.html",
    "NoSuchBucket": "there is no such bucket. Give another with --bucket, or leave it out",
    "BucketAlreadyExists": "the bucket belongs to somebody else: names are shared by all accounts. Give another with --bucket",
    "Throttling": "AWS asks to slow down. Try again in a minute",
    "RequestLimitExceeded": "AWS asks to slow down. Try again in a minute",
}


def client(service: str, region: str | None = None) -> Any:
    """A boto3 client; CloudError where no region is known."""
    try:
        import boto3
    except ImportError:
        raise MissingExtraError("boto3", "aws", "Launching on AWS") from None
    with explained(service):
        return boto3.client(service, region_name=region)


def region_of(given: str) -> str:
    """The region given, or that of the environment and configuration; CloudError where there is none."""
    return given or client("ec2", None).meta.region_name


def account_number(region: str) -> str:
    """The account whose credentials are in use."""
    with explained("credentials"):
        return client("sts", region).get_caller_identity()["Account"]


def refusal(text: str) -> tuple[str, str] | None:
    """The code of a refusal that a message contains, and what it means; of several the first in AWS_REFUSALS."""
    text = text.replace("do not have sufficient", "InsufficientInstanceCapacity").replace(
        "more vCPU capacity than your current vCPU limit", "VcpuLimitExceeded"
    )
    if text in AWS_REFUSALS:
        return text, AWS_REFUSALS[text]
    return next(((code, meaning) for code, meaning in AWS_REFUSALS.items() if code in text), None)


@contextmanager
def explained(subject: str) -> Iterator[None]:
    """Turns what boto3 raises inside into a CloudError of one line that says what to do."""
    from boto3.exceptions import Boto3Error
    from botocore import exceptions
    from botocore.parsers import ResponseParserError

    try:
        yield
    except (exceptions.NoCredentialsError, exceptions.PartialCredentialsError, exceptions.TokenRetrievalError):
        raise CloudError(
            f"{subject}: no credentials for AWS were found. Run aws configure (or aws sso login), or set AWS_PROFILE"
        ) from None
    except exceptions.ProfileNotFound as error:
        raise CloudError(f"{subject}: {error}. List the profiles with aws configure list-profiles") from None
    except exceptions.NoRegionError:
        raise CloudError(
            f"{subject}: no region is known. Give --region, such as us-east-1, or set AWS_DEFAULT_REGION"
        ) from None
    except exceptions.EndpointConnectionError as error:
        raise CloudError(
            f"{subject}: {error}. Check the connection, and that --region is the name of a region"
        ) from None
    except exceptions.ClientError as error:
        code = error.response.get("Error", {}).get("Code", "")
        message = " ".join(error.response.get("Error", {}).get("Message", "").split())
        known = refusal(code) or refusal(message)
        meaning = known[1] if known else f"{message}. Look the code up at https://docs.aws.amazon.com, and try again"
        raise CloudError(f"{subject}: AWS refuses ({known[0] if known else code}): {meaning}") from None
    except exceptions.WaiterError as error:
        raise CloudError(f"{subject}: {error}. See carnelian launch status") from None
    except ResponseParserError:
        raise CloudError(
            f"{subject}: what answers is not AWS. Check --region, AWS_ENDPOINT_URL and the proxy"
        ) from None
    except (exceptions.BotoCoreError, Boto3Error) as error:
        raise CloudError(f"{subject}: {' '.join(str(error).split())}") from None


def zones_with(machines: Sequence[Machine], region: str) -> list[str]:
    """The region's zones that offer at least one of the types, those that offer most first; CloudError where there is none."""
    types = [machine.type for machine in machines]
    with explained(f"{', '.join(types)} in {region}"):
        offers = client("ec2", region).describe_instance_type_offerings(
            LocationType="availability-zone", Filters=[{"Name": "instance-type", "Values": types}]
        )["InstanceTypeOfferings"]
    counts: dict[str, int] = {}
    for offer in offers:
        counts[offer["Location"]] = counts.get(offer["Location"], 0) + 1
    if not counts:
        raise CloudError(
            f"{region}: no zone offers {' or '.join(types)}. Give another --region (us-east-1 offers most) or --type"
        )
    return sorted(counts, key=lambda zone: (-counts[zone], zone))


def check_quota(machine: Machine, count: int, *, spot: bool, region: str, codes: dict[str, str]) -> None:
    """CloudError where the account may not run that many machines of this family; nothing where it cannot be asked."""
    kind = f"{'spot' if spot else 'on demand'} {machine.family}"
    if spot and machine.family == "P" and not machine.type.startswith("p4"):
        return  # P5 and P6 have spot limits of their own, which differ by region
    try:
        with explained(kind):
            quota = client("service-quotas", region).get_service_quota(ServiceCode="ec2", QuotaCode=codes[kind])
    except CloudError:
        return  # the launch itself will say it
    limit, needed = quota["Quota"]["Value"], machine.vcpus * count
    if limit < needed:
        raise CloudError(
            f"{machine.type}: needs {needed} vCPUs, and the account's limit for {kind} machines in {region} is {limit:g}. "
            f"Ask for more at {QUOTAS}, quota {codes[kind]} (takes hours to days), or take a smaller --type"
        )


def image_id(image: str, region: str) -> tuple[str, str]:
    """The SSM parameter of a Deep Learning AMI and the image it names now; `image` is its name, a whole parameter or an ami-..."""
    if image.startswith("ami-"):
        return "", image
    parameter = image if image.startswith("/") else f"/aws/service/deeplearning/ami/x86_64/{image}/latest/ami-id"
    with explained(f"image {parameter}"):
        return parameter, client("ssm", region).get_parameter(Name=parameter)["Parameter"]["Value"]


def current_prices(machines: Sequence[Machine], region: str) -> dict[str, dict[str, float]]:
    """`on_demand` and `spot` by type: the price list's, and the lowest of the region's zones now."""
    prices: dict[str, dict[str, float]] = {}
    types = [machine.type for machine in machines]
    fixed = {
        "regionCode": region,
        "operatingSystem": "Linux",
        "tenancy": "Shared",
        "preInstalledSw": "NA",
        "capacitystatus": "Used",
    }
    with explained("price list"):
        pricing = client("pricing", "us-east-1")
        for type in types:
            filters = [
                {"Type": "TERM_MATCH", "Field": key, "Value": value}
                for key, value in (fixed | {"instanceType": type}).items()
            ]
            for text in pricing.get_products(ServiceCode="AmazonEC2", Filters=filters)["PriceList"]:
                if price := on_demand_price(json.loads(text)):
                    prices.setdefault(type, {})["on_demand"] = price
    with explained("spot prices"):
        history = client("ec2", region).describe_spot_price_history(
            InstanceTypes=types, ProductDescriptions=["Linux/UNIX"], MaxResults=1000
        )["SpotPriceHistory"]
    newest: dict[tuple[str, str], Any] = {}
    for each in history:
        key = each["InstanceType"], each["AvailabilityZone"]
        if key not in newest or each["Timestamp"] > newest[key]["Timestamp"]:
            newest[key] = each
    for (type, _), each in newest.items():
        entry = prices.setdefault(type, {})
        entry["spot"] = min(entry.get("spot", float("inf")), float(each["SpotPrice"]))
    return prices


def on_demand_price(product: dict) -> float | None:
    """$ per hour of an entry of the price list, None where it has none."""
    for term in product.get("terms", {}).get("OnDemand", {}).values():
        for dimension in term["priceDimensions"].values():
            if price := float(dimension["pricePerUnit"].get("USD", 0)):
                return price
    return None
