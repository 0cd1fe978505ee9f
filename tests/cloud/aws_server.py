"""A local AWS for the tests: moto's server, with the parameter and the image that AWS itself keeps. Run in an environment with moto.

python aws_server.py PORT IMAGE_PARAMETER
"""

import sys
import time

from moto.ec2.models import ec2_backends
from moto.ec2.models.internet_gateways import InternetGateway
from moto.ec2.models.route_tables import RouteTable
from moto.ec2.responses import EC2Response
from moto.server import ThreadedMotoServer
from moto.ssm.models import Parameter, ssm_backends


def delete_route_table(self, account: str, region: str) -> None:
    """What moto's CloudFormation lacks: AWS deletes a table's associations with the table."""
    self._associations.clear()
    self.ec2_backend.delete_route_table(self.id)


def delete_internet_gateway(self, account: str, region: str) -> None:
    """What moto's CloudFormation lacks: a gateway goes with its attachment."""
    self.ec2_backend.detach_internet_gateway(self.id, self.vpc.id if self.vpc else None)
    self.ec2_backend.delete_internet_gateway(self.id)


def describe_capacity_reservations(self) -> str:
    """What moto lacks: a Capacity Block of two p5.48xlarge that ends in two days."""
    end = time.strftime("%Y-%m-%dT11:30:00.000Z", time.gmtime(time.time() + 2 * 86400))
    return f"""<DescribeCapacityReservationsResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/"><requestId>1</requestId>
        <capacityReservationSet><item><capacityReservationId>cr-0123456789abcdef0</capacityReservationId>
        <ownerId>{ACCOUNT}</ownerId><instanceType>p5.48xlarge</instanceType><availabilityZone>us-east-1b</availabilityZone>
        <totalInstanceCount>2</totalInstanceCount><availableInstanceCount>2</availableInstanceCount><state>active</state>
        <reservationType>capacity-block</reservationType><endDateType>limited</endDateType><endDate>{end}</endDate>
        <instancePlatform>Linux/UNIX</instancePlatform><instanceMatchCriteria>targeted</instanceMatchCriteria>
        </item></capacityReservationSet></DescribeCapacityReservationsResponse>"""


EC2Response.describe_capacity_reservations = describe_capacity_reservations
RouteTable.delete, InternetGateway.delete = delete_route_table, delete_internet_gateway
ACCOUNT, REGION, PORT, NAME = "123456789012", "us-east-1", int(sys.argv[1]), sys.argv[2]
server = ThreadedMotoServer("127.0.0.1", PORT)
server.start()
image = next(iter(ec2_backends[ACCOUNT][REGION].describe_images()))
ssm_backends[ACCOUNT][REGION]._parameters[NAME].append(
    Parameter(
        account_id=ACCOUNT,
        name=NAME,
        value=image.id,
        parameter_type="String",
        description="",
        allowed_pattern=None,
        keyid=None,
        last_modified_date=time.time(),
        version=1,
        data_type="text",
    )
)
print(f"ready {image.id}", flush=True)
while True:
    time.sleep(60)
