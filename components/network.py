"""Where the VMs are, what reaches them, and how they reach out."""

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass

import pulumi
import pulumi_gcp as gcp

import contract
from components.catalog import catalog
from components.naming import Names
from components.settings import Settings
from components.settings.network import SUBNET_BITS, ExistingNetwork


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkArgs:
    """A network for the VMs of all pools."""

    names: Names
    settings: Settings
    account: pulumi.Input[str]
    """E-mail of the VMs' service account, which the firewall rules apply to."""


class Network(pulumi.ComponentResource):
    """A VPC network with a subnet a region, or an existing one; firewall rules; Cloud NAT where asked for.

    VMs have no public address. Only Google's health probes and balancer proxies reach them, at the API's port.
    Outputs: `network` (self link or full name).
    """

    network: pulumi.Output[str]

    def __init__(self, name: str, args: NetworkArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("tensorrt-fleet:network:Network", name, None, opts)
        self._name, self._args = name, args
        self._child = pulumi.ResourceOptions(parent=self)
        settings, regions = args.settings.network, args.settings.fleet.regions
        existing = settings.existing
        self.network = pulumi.Output.from_input(existing.network) if existing else self._vpc()
        self._subnetworks = {region: self._subnetwork(region, existing) for region in regions}
        self._rules = [self._allow("probes", [*contract.PROBE_RANGES], contract.API_PORT)]
        if settings.iap_ssh:
            self._rules.append(self._allow("iap-ssh", [contract.IAP_RANGE], 22))
        self._nats = {region: self._nat(region) for region in regions} if settings.nat else {}
        self.register_outputs({"network": self.network})

    def subnetwork(self, region: str) -> pulumi.Output[str]:
        """Self link (or full name) of the subnet for VMs of a region."""
        return self._subnetworks[region]

    def ready(self, region: str) -> Sequence[pulumi.Resource]:
        """What a VM of the region must find when it boots, to be reached and to reach out."""
        return [*self._rules, *([self._nats[region]] if region in self._nats else [])]

    def _vpc(self) -> pulumi.Output[str]:
        vpc = gcp.compute.Network(
            f"{self._name}-vpc", project=self._args.names.project, auto_create_subnetworks=False, opts=self._child
        )
        return vpc.self_link

    def _subnetwork(self, region: str, existing: ExistingNetwork | None) -> pulumi.Output[str]:
        if existing:
            return pulumi.Output.from_input(existing.subnetworks[region])
        subnetwork = gcp.compute.Subnetwork(
            f"{self._name}-subnet-{region}",
            project=self._args.names.project,
            region=region,
            network=self.network,
            ip_cidr_range=subnet_range(self._args.settings.network.subnet_cidr, region),
            private_ip_google_access=True,
            opts=self._child,
        )
        return subnetwork.self_link

    def _allow(self, role: str, sources: list[str], port: int) -> gcp.compute.Firewall:
        existing = self._args.settings.network.existing
        return gcp.compute.Firewall(
            f"{self._name}-allow-{role}",
            project=existing.project if existing else self._args.names.project,
            network=self.network,
            direction="INGRESS",
            source_ranges=sources,
            target_service_accounts=[self._args.account],
            allows=[gcp.compute.FirewallAllowArgs(protocol="tcp", ports=[str(port)])],
            opts=self._child,
        )

    def _nat(self, region: str) -> gcp.compute.RouterNat:
        existing = self._args.settings.network.existing
        project = existing.project if existing else self._args.names.project
        router = gcp.compute.Router(
            f"{self._name}-router-{region}", project=project, region=region, network=self.network, opts=self._child
        )
        return gcp.compute.RouterNat(
            f"{self._name}-nat-{region}",
            project=project,
            region=region,
            router=router.name,
            nat_ip_allocate_option="AUTO_ONLY",
            source_subnetwork_ip_ranges_to_nat="LIST_OF_SUBNETWORKS",
            subnetworks=[
                gcp.compute.RouterNatSubnetworkArgs(
                    name=self._subnetworks[region], source_ip_ranges_to_nats=["ALL_IP_RANGES"]
                )
            ],
            log_config=gcp.compute.RouterNatLogConfigArgs(enable=True, filter="ERRORS_ONLY"),
            opts=self._child,
        )


def subnet_range(cidr: str, region: str) -> str:
    """Range of a region's subnet within `cidr`.

    A region has its place in the catalogue's alphabetical list, whatever regions a stack uses: adding one moves none.
    """
    regions = sorted({region for gpu in catalog().gpus.values() for region in gpu.zones})
    subnets = list(ipaddress.IPv4Network(cidr).subnets(prefixlen_diff=SUBNET_BITS))
    return str(subnets[regions.index(region)])
