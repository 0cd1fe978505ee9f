"""A local AWS for the tests: moto's server, with the parameter and the image that AWS itself keeps. Run in an environment with moto.

python aws_server.py PORT IMAGE_PARAMETER
"""

import sys
import time

from moto.ec2.models import ec2_backends
from moto.ec2.models.internet_gateways import InternetGateway
from moto.ec2.models.route_tables import RouteTable
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
