"""What moto 5.2.5 lacks for a network and ECS made by CloudFormation: their deletion, and a NAT gateway's tags."""

# moto shows parts of its state under private names only.
# ruff: noqa: SLF001

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from moto.ec2.models import ec2_backends
from moto.ec2.models.elastic_ip_addresses import ElasticAddress
from moto.ec2.models.internet_gateways import InternetGateway
from moto.ec2.models.nat_gateways import NatGateway
from moto.ec2.models.route_tables import RouteTable
from moto.ec2.models.vpcs import VPCEndPoint
from moto.ecs.models import Cluster, TaskDefinition, ecs_backends

Remove = Callable[[Any, str], object]


def _delete_route_table(ec2: Any, name: str) -> None:
    ec2.get_route_table(name)._associations.clear()  # moto has no name of an association to delete it by
    ec2.delete_route_table(name)


def _delete_internet_gateway(ec2: Any, name: str) -> None:
    network = ec2.get_internet_gateway(name).vpc
    if network is not None:
        ec2.detach_internet_gateway(name, network.id)
    ec2.delete_internet_gateway(name)


_NETWORK: Final[Mapping[Any, Remove]] = {
    ElasticAddress: lambda ec2, name: ec2.release_address(address=name),
    InternetGateway: _delete_internet_gateway,
    NatGateway: lambda ec2, name: ec2.delete_nat_gateway(name),
    RouteTable: _delete_route_table,
    VPCEndPoint: lambda ec2, name: ec2.delete_vpc_endpoints([name]),
}
_TASKS: Final[Mapping[Any, Remove]] = {
    Cluster: lambda ecs, name: ecs.delete_cluster(name),
    TaskDefinition: lambda ecs, name: ecs.deregister_task_definition(name),
}


def install() -> None:
    """Give moto's classes what they lack."""
    NatGateway.create_from_cloudformation_json = _tagged(NatGateway.create_from_cloudformation_json)
    for backends, classes in ((ec2_backends, _NETWORK), (ecs_backends, _TASKS)):
        for kind, remove in classes.items():
            kind.delete_from_cloudformation_json = _deletion(backends, remove)


def _tagged(create: Callable[..., NatGateway]) -> Callable[..., NatGateway]:
    def create_tagged(name: str, resource: Any, *place: str, **further: Any) -> NatGateway:
        gateway = create(name, resource, *place, **further)
        gateway.add_tags({tag["Key"]: tag["Value"] for tag in resource["Properties"].get("Tags", [])})
        return gateway

    return create_tagged


def _deletion(backends: Any, remove: Remove) -> Callable[..., None]:
    def delete(name: str, _template: Any, account_id: str, region: str) -> None:
        remove(backends[account_id][region], name)

    return delete
