"""What a fleet costs a month, from list prices. Traffic, NAT, logs, storage and discounts are left out."""

from __future__ import annotations

from typing import NamedTuple

from components.catalog import Catalog, Price
from components.settings.fleet import FleetSettings, Pool


class MonthlyCost(NamedTuple):
    """USD a month (`catalog.hours_per_month` hours), rounded to cents."""

    min_usd: float
    """With every pool at its minimum."""
    max_usd: float
    """With every pool at its maximum; VMs that a rollout adds are not in it."""


def monthly_cost(fleet: FleetSettings, catalog: Catalog) -> MonthlyCost:
    """Cost of the VMs, their GPUs and disks, and of the balancer's forwarding rules."""
    balancer = catalog.load_balancing.usd_per_hour * catalog.hours_per_month
    vms = 0 if fleet.paused else 1
    least = sum(vms * pool.min_vms * vm_month(fleet, pool, catalog) for pool in fleet.pools)
    most = sum(vms * pool.max_vms * vm_month(fleet, pool, catalog) for pool in fleet.pools)
    return MonthlyCost(round(balancer + least, 2), round(balancer + most, 2))


def vm_month(fleet: FleetSettings, pool: Pool, catalog: Catalog) -> float:
    """USD a month for one VM of a pool that is up all the time."""
    machine = catalog.machine_type(fleet.machine_type)
    vcpu = _price(catalog.machines[machine.family].usd_per_vcpu_hour, pool, catalog)
    gpu = _price(catalog.gpus[fleet.gpu_type].usd_per_hour, pool, catalog)
    disk = catalog.disks[fleet.disk_type].usd_per_gib_month * fleet.disk_size_gib
    return (vcpu * machine.vcpus + gpu * fleet.gpu_count) * catalog.hours_per_month + disk


def regions_without_prices(fleet: FleetSettings, catalog: Catalog) -> tuple[str, ...]:
    """Regions of the fleet whose VMs are priced, in part or whole, as in the reference region."""
    family = catalog.machines[catalog.machine_type(fleet.machine_type).family]
    priced = set(family.usd_per_vcpu_hour) & set(catalog.gpus[fleet.gpu_type].usd_per_hour)
    return tuple(region for region in fleet.regions if region not in priced)


def _price(prices: dict[str, Price], pool: Pool, catalog: Catalog) -> float:
    return prices.get(pool.region, prices[catalog.reference_region]).of(spot=pool.spot)
