"""What quota a fleet needs, by Compute Engine's own names of the limits."""

from __future__ import annotations

from collections import defaultdict
from typing import Final

from components.catalog import Catalog
from components.settings import Settings
from components.settings.fleet import FleetSettings

GLOBAL: Final = "global"
"""Where the limits of the whole project stand."""
GPUS_ALL_REGIONS: Final = "GPUS_ALL_REGIONS"


Limits = dict[str, dict[str, int]]
"""By region (and `global`), by metric: GPUs, vCPUs, GB of disk."""


def quota_required(settings: Settings, catalog: Catalog) -> Limits:
    """Limits that let a model be built, and then every pool roll out, while all pools are at their maximum.

    The builder VM has powered off when the rollout begins, so a limit need not hold both. A paused fleet needs what it
    needs when it is resumed. Spot VMs draw on the regular vCPU quota unless the project has a preemptible one.
    """
    fleet = settings.fleet
    rolling = _of_fleet(fleet, catalog, surge=True)
    if settings.model.ready:
        return rolling
    building = _of_fleet(fleet, catalog, surge=False)
    for place, limits in _of_builder(settings, catalog).items():
        for metric, needed in limits.items():
            building[place][metric] = building[place].get(metric, 0) + needed
    return {
        place: {
            metric: max(rolling[place].get(metric, 0), limits.get(metric, 0)) for metric in {**rolling[place], **limits}
        }
        for place, limits in building.items()
    }


def _of_builder(settings: Settings, catalog: Catalog) -> Limits:
    builder = settings.model.builder
    return {
        settings.builder_region: {
            catalog.gpus[builder.gpu_type].quota: 1,
            "CPUS": catalog.machine_type(builder.machine_type).vcpus,
            catalog.disks[builder.disk_type].quota: builder.disk_size_gib,
        },
        GLOBAL: {GPUS_ALL_REGIONS: 1},
    }


def _of_fleet(fleet: FleetSettings, catalog: Catalog, *, surge: bool) -> Limits:
    gpu, disk = catalog.gpus[fleet.gpu_type], catalog.disks[fleet.disk_type]
    vcpus = catalog.machine_type(fleet.machine_type).vcpus
    required: dict[str, dict[str, int]] = {GLOBAL: defaultdict(int)}
    for pool in fleet.pools:
        vms = pool.max_vms + (fleet.update.surge(len(pool.zones)) if surge else 0)
        regional = required.setdefault(pool.region, defaultdict(int))
        regional[gpu.spot_quota if pool.spot else gpu.quota] += vms * fleet.gpu_count
        regional["CPUS"] += vms * vcpus
        regional[disk.quota] += vms * fleet.disk_size_gib
        required[GLOBAL][GPUS_ALL_REGIONS] += vms * fleet.gpu_count
    return {place: dict(limits) for place, limits in required.items()}
