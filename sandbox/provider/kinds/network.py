"""Networks, subnetworks, firewall rules and Cloud NAT."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from typing import ClassVar, Final

from sandbox.provider.check import Failure
from sandbox.provider.cloud import Cloud, ProviderConfig
from sandbox.provider.errors import CloudError
from sandbox.provider.kinds.base import Kind, Plan, Reference, known
from sandbox.provider.kinds.compute_kind import ComputeKind, is_set, place_of
from sandbox.provider.wire import Json
from sandbox.store import RESOURCE

NETWORK: Final = "gcp:compute/network:Network"
SUBNETWORK: Final = "gcp:compute/subnetwork:Subnetwork"
ROUTER: Final = "gcp:compute/router:Router"


class Network(ComputeKind):
    """A VPC network. Instances of one network reach one another; auto-mode subnetworks are not made."""

    pulumi_type = NETWORK
    noun = "network"
    numeric_text = ("networkId", "numericId")
    created_output = False
    filled: ClassVar[Json] = {"routingMode": "REGIONAL", "mtu": 1460, "gatewayIpv4": ""}


class Subnetwork(ComputeKind):
    """An address range of a network in one region."""

    pulumi_type = SUBNETWORK
    noun = "subnetwork"
    scope = "region"
    numeric = ("subnetworkId",)
    fingerprints = ("fingerprint",)
    references = (Reference(path="network", targets=(NETWORK,)),)
    filled: ClassVar[Json] = {"purpose": "PRIVATE", "stackType": "IPV4_ONLY", "privateIpGoogleAccess": False}

    def failures(self, inputs: Json) -> Iterator[Failure]:
        """The range is one, and there is one."""
        yield from super().failures(inputs)
        if "ipCidrRange" not in inputs:
            yield Failure("ipCidrRange", "ipCidrRange is not set: give the subnetwork's range, such as 10.0.0.0/20")
        elif known(inputs, "ipCidrRange"):
            try:
                ipaddress.IPv4Network(inputs["ipCidrRange"])
            except ValueError as error:
                yield Failure("ipCidrRange", f"ipCidrRange {inputs['ipCidrRange']!r}: {error}")

    def replacing(self, old_inputs: Json, news: Json) -> Iterator[str]:
        """A range may grow in place and nothing else.

        Source: terraform-provider-google `resource_compute_subnetwork.go`, `customdiff.ForceNewIfChange(
        "ip_cidr_range", IsShrinkageIpCidr)`.
        """
        if known(old_inputs, "ipCidrRange") and known(news, "ipCidrRange"):
            old, new = (ipaddress.IPv4Network(one["ipCidrRange"]) for one in (old_inputs, news))
            if not old.subnet_of(new):
                yield "ipCidrRange"

    def refuse(self, plan: Plan, cloud: Cloud) -> None:
        """Ranges of one network do not overlap."""
        mine = ipaddress.IPv4Network(plan.inputs["ipCidrRange"])
        network = self.target_of(self.references[0], plan.inputs["network"], plan.identifier)
        for other, record in cloud.store.resources(self.pulumi_type):
            theirs = ipaddress.IPv4Network(record["inputs"]["ipCidrRange"])
            same_network = self.target_of(self.references[0], record["inputs"]["network"], other) == network
            if other != plan.identifier and same_network and mine.overlaps(theirs):
                name, region = other.rsplit("/", 1)[1], other.split("/")[3]
                raise CloudError(
                    400,
                    f"Invalid IPCidrRange: {mine} conflicts with existing subnetwork '{name}' in region '{region}'.",
                    "invalidResourceUsage",
                )

    def outputs(self, plan: Plan, cloud: Cloud) -> Json:
        """The gateway is the range's first host."""
        gateway = str(ipaddress.IPv4Network(plan.inputs["ipCidrRange"])[1])
        return super().outputs(plan, cloud) | {"gatewayAddress": gateway}


_IN_NETWORK: Final = Reference(path="network", targets=(NETWORK,))
_IN_SUBNETWORK: Final = Reference(path="subnetwork", targets=(SUBNETWORK,))


def interfaces(inputs: Json, own: str, cloud: Cloud) -> list[Json]:
    """Network interfaces of a machine as the API completes them: named, in the network of their subnetwork."""
    found = []
    for index, interface in enumerate(inputs.get("networkInterfaces") or ()):
        completed = interface | {"name": f"nic{index}"}
        network = interface.get("network")
        if "subnetwork" in interface:
            completed["subnetwork"] = _SUBNETWORK_KIND.target_of(_IN_SUBNETWORK, interface["subnetwork"], own)
            record = cloud.store.get(RESOURCE, completed["subnetwork"])
            network = network or (record["inputs"]["network"] if record else None)
        if network:
            completed["network"] = _SUBNETWORK_KIND.target_of(_IN_NETWORK, network, own)
        found.append(completed)
    return found


class Firewall(ComputeKind):
    """A firewall rule; the sandbox evaluates ingress rules when it probes and balances."""

    pulumi_type = "gcp:compute/firewall:Firewall"
    noun = "firewall"
    references = (Reference(path="network", targets=(NETWORK,)),)

    def failures(self, inputs: Json) -> Iterator[Failure]:
        """Sources and actions fit together.

        Source: terraform-provider-google, `resource_compute_firewall.go`: ExactlyOneOf and ConflictsWith of its schema,
        and "one of source_tags, source_ranges, or source_service_accounts must be defined" of its CustomizeDiff.
        """
        yield from super().failures(inputs)
        if is_set(inputs, "allows") == is_set(inputs, "denies"):
            yield Failure("allows", "set exactly one of allows and denies")
        sources = ("sourceRanges", "sourceTags", "sourceServiceAccounts")
        ingress = inputs.get("direction", "INGRESS") == "INGRESS"
        if ingress and not any(is_set(inputs, key) for key in sources):
            yield Failure(
                "sourceRanges", f"one of {', '.join(sources)} must be defined for a rule of direction INGRESS"
            )
        for account, tags in (
            ("sourceServiceAccounts", ("sourceTags", "targetTags")),
            ("targetServiceAccounts", ("sourceTags", "targetTags")),
        ):
            for tag in tags:
                if is_set(inputs, account) and is_set(inputs, tag):
                    yield Failure(account, f"{account} conflicts with {tag}: use accounts or tags, not both")

    def outputs(self, plan: Plan, cloud: Cloud) -> Json:
        """Direction as the API fills it in."""
        return super().outputs(plan, cloud) | {"direction": plan.inputs.get("direction", "INGRESS")}


class Router(ComputeKind):
    """A Cloud Router. Nothing here routes by it."""

    pulumi_type = ROUTER
    noun = "router"
    scope = "region"
    references = (Reference(path="network", targets=(NETWORK,)),)


class RouterNat(Kind):
    """Cloud NAT on a router. It decides whether instances reach registries (sandbox.network.egress)."""

    pulumi_type = "gcp:compute/routerNat:RouterNat"
    noun = "router_nat"
    references = (
        Reference(path="router", targets=(ROUTER,), holds=False),
        Reference(path="subnetworks[].name", targets=(SUBNETWORK,), holds=False),
    )
    filled: ClassVar[Json] = {
        "enableDynamicPortAllocation": False,
        "enableEndpointIndependentMapping": False,
        "minPortsPerVm": 64,
        "natIps": [],
    }

    def failures(self, inputs: Json) -> Iterator[Failure]:
        """The listed subnetworks and the choice of them agree."""
        lists = inputs.get("sourceSubnetworkIpRangesToNat") == "LIST_OF_SUBNETWORKS"
        if known(inputs, "sourceSubnetworkIpRangesToNat") and lists != is_set(inputs, "subnetworks"):
            yield Failure(
                "subnetworks", "set subnetworks exactly if sourceSubnetworkIpRangesToNat is LIST_OF_SUBNETWORKS"
            )
        if inputs.get("natIpAllocateOption") == "MANUAL_ONLY" and not is_set(inputs, "natIps"):
            yield Failure("natIps", "natIps is required where natIpAllocateOption is MANUAL_ONLY")

    def identifier(self, inputs: Json, config: ProviderConfig) -> str:
        """`<project>/<region>/<router>/<name>`, as in terraform-provider-google."""
        region = place_of("region", inputs, config).removeprefix("regions/")
        router = inputs["router"].rsplit("/", 1)[-1]
        return f"{inputs.get('project') or config.project}/{region}/{router}/{inputs['name']}"

    def outputs(self, plan: Plan, cloud: Cloud) -> Json:
        """Scope."""
        project, region, *_ = plan.identifier.split("/")
        return {"project": project, "region": region}

    def target_of(self, reference: Reference, value: str, own: str) -> str:
        """Router and subnetworks are of the NAT's region."""
        project, region, *_ = own.split("/")
        return ComputeKind.target_of(_ROUTER_KIND, reference, value, f"projects/{project}/regions/{region}/-/-")


_SUBNETWORK_KIND = Subnetwork()
_ROUTER_KIND = Router()

KINDS: tuple[Kind, ...] = (Network(), _SUBNETWORK_KIND, Firewall(), _ROUTER_KIND, RouterNat())
