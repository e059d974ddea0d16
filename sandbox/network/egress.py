"""Whether a VM reaches the internet, which it does by an external address or through Cloud NAT."""

from __future__ import annotations

from typing import Any, Final

from sandbox.compute.names import relative, same, short
from sandbox.machine.instance import Instance
from sandbox.store import RESOURCE, Json, Store

_NAT: Final = "gcp:compute/routerNat:RouterNat"
_ROUTER: Final = "gcp:compute/router:Router"
_DEFAULT_NETWORK: Final = "default"


def reaches_internet(store: Store, vm: Instance) -> bool:
    """Whether a VM reaches hosts other than Google's APIs.

    What nobody declared here cannot be judged: in a network of that kind every VM does, save in the network `default`,
    which has no Cloud NAT until somebody makes one.
    """
    if vm.external_address:
        return True
    if store.get(RESOURCE, relative(vm.subnetwork)) is None and store.get(RESOURCE, relative(vm.network)) is None:
        return short(vm.network) != _DEFAULT_NETWORK
    return any(_covers(store, identifier, record, vm) for identifier, record in store.resources(_NAT))


def _covers(store: Store, identifier: str, record: Json, vm: Instance) -> bool:
    """Whether a Cloud NAT, whose id is `<project>/<region>/<router>/<name>`, translates for a VM."""
    project, region, router, _ = identifier.split("/")
    if region != vm.zone.rpartition("-")[0]:
        return False
    inputs: dict[str, Any] = record["inputs"]
    if inputs["sourceSubnetworkIpRangesToNat"] == "LIST_OF_SUBNETWORKS":
        return any(same(one["name"], vm.subnetwork) for one in inputs.get("subnetworks") or ())
    owner = store.get(RESOURCE, f"projects/{project}/regions/{region}/routers/{router}")
    return owner is not None and owner["type"] == _ROUTER and same(owner["inputs"]["network"], vm.network)
