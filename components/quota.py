"""What quota a fleet needs, by Compute Engine's own names of the limits."""

from __future__ import annotations

from collections import defaultdict
from typing import Final

from components.catalog import Catalog
from components.settings.fleet import FleetSettings

GLOBAL: Final = "global"
"""Where the limits of the whole project stand."""
GPUS_ALL_REGIONS: Final = "GPUS_ALL_REGIONS"


def quota_required(fleet: FleetSettings, catalog: Catalog) -> dict[str, dict[str, int]]:
    """Limits by region (and `global`) and metric that let every pool roll out while at its maximum.

    A paused fleet needs what it needs when it is resumed. Units: GPUs, vCPUs, GB of disk. Spot VMs draw on the
    regular vCPU quota unless the project has a preemptible one.
    """
    gpu, disk = catalog.gpus[fleet.gpu_type], catalog.disks[fleet.disk_type]
    vcpus = catalog.machine_type(fleet.machine_type).vcpus
    required: dict[str, dict[str, int]] = {GLOBAL: defaultdict(int)}
    for pool in fleet.pools:
        vms = pool.max_vms + fleet.update.surge(len(pool.zones))
        regional = required.setdefault(pool.region, defaultdict(int))
        regional[gpu.spot_quota if pool.spot else gpu.quota] += vms * fleet.gpu_count
        regional["CPUS"] += vms * vcpus
        regional[disk.quota] += vms * fleet.disk_size_gib
        required[GLOBAL][GPUS_ALL_REGIONS] += vms * fleet.gpu_count
    return {place: dict(limits) for place, limits in required.items()}
