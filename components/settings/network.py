"""`network`: where the VMs are, and what reaches them."""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated

from pydantic import AfterValidator, Field, ValidationInfo

from components.settings.section import Refusal, Section, refuse

SUBNET_BITS = 5
"""Bits of `subnetCidr` that number the regions: 32 subnets."""

_NETWORK = re.compile(r"projects/(?P<project>[a-z][a-z0-9.:-]*[a-z0-9])/global/networks/[a-z]([a-z0-9-]*[a-z0-9])?")
_SUBNETWORK = re.compile(
    r"projects/[a-z][a-z0-9.:-]*[a-z0-9]/regions/(?P<region>[a-z0-9-]+)/subnetworks/[a-z]([a-z0-9-]*[a-z0-9])?"
)


def _network_name(network: str) -> str:
    if not _NETWORK.fullmatch(network):
        allowed = "projects/<project>/global/networks/<name>"
        raise refuse(Refusal(network, allowed, "name an existing VPC network by its full name"))
    return network


def _subnetwork_names(subnetworks: dict[str, str]) -> dict[str, str]:
    refusals = []
    for region, name in subnetworks.items():
        match = _SUBNETWORK.fullmatch(name)
        if not match or match["region"] != region:
            allowed = f"projects/<project>/regions/{region}/subnetworks/<name>"
            refusals.append(Refusal(name, allowed, f"name an existing subnet of {region} by its full name", (region,)))
    if refusals:
        raise refuse(*refusals)
    return subnetworks


class ExistingNetwork(Section):
    """A VPC network that this stack does not own."""

    network: Annotated[str, AfterValidator(_network_name)] = Field(
        description="the VPC network", examples=["projects/net-host/global/networks/shared"]
    )
    subnetworks: Annotated[dict[str, str], AfterValidator(_subnetwork_names)] = Field(
        description="a subnet with Private Google Access for every pool's region",
        examples=[{"us-central1": "projects/net-host/regions/us-central1/subnetworks/serving"}],
    )
    has_nat: bool = Field(
        default=False, description="whether the network already lets its VMs reach the internet", examples=[True]
    )

    @property
    def project(self) -> str:
        """Project of the network, which its firewall rules belong to."""
        return self.network.split("/")[1]


def _nat_once(nat: bool, info: ValidationInfo) -> bool:
    existing = info.data.get("existing")
    if nat and existing is not None and existing.has_nat:
        remedy = "set network.nat to false: a subnet has one Cloud NAT"
        raise refuse(Refusal(nat, "false where network.existing.hasNat is true", remedy))
    return nat


def _private_range(cidr: str) -> str:
    try:
        network = ipaddress.IPv4Network(cidr)
    except ValueError:
        network = None
    if network is None or not network.is_private or not 8 <= network.prefixlen <= 29 - SUBNET_BITS:
        allowed = f"a private IPv4 range from /8 to /{29 - SUBNET_BITS}, host bits zero"
        raise refuse(
            Refusal(cidr, allowed, f"choose a range that {1 << SUBNET_BITS} subnets fit in, like 10.64.0.0/16")
        )
    return cidr


class NetworkSettings(Section):
    """A network of the stack's own, or an existing one."""

    existing: ExistingNetwork | None = Field(
        default=None,
        description="network to use instead of making one",
        examples=[{"network": "projects/net-host/global/networks/shared", "subnetworks": {}}],
    )
    nat: Annotated[bool, AfterValidator(_nat_once)] = Field(
        default=True, description="whether Cloud NAT lets VMs reach the internet", examples=[True]
    )
    iap_ssh: bool = Field(
        default=False, description="whether SSH through Identity-Aware Proxy reaches the VMs", examples=[True]
    )
    subnet_cidr: Annotated[str, AfterValidator(_private_range)] = Field(
        default="10.64.0.0/16", description="range that the regions' subnets are cut from", examples=["10.64.0.0/16"]
    )

    @property
    def reaches_internet(self) -> bool:
        """Whether VMs can reach registries that are not Google's."""
        return self.nat or (self.existing is not None and self.existing.has_nat)
