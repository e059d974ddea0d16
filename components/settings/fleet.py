"""`fleet`: which VMs there are, where, how many, and how they are replaced."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, ValidationInfo

from components.catalog import catalog
from components.settings.section import Refusal, Section, refuse

_IMAGE = re.compile(
    r"projects/(?P<project>[a-z][a-z0-9.:-]*[a-z0-9])/global/images/(?P<name>[a-z]([a-z0-9-]*[a-z0-9])?)"
)
_CONTAINER = re.compile(
    r"[a-z0-9][a-z0-9.-]*(:[0-9]+)?(/[a-z0-9._-]+)+"
    r"(:(?P<tag>[A-Za-z0-9_][A-Za-z0-9_.-]*))?(@sha256:(?P<digest>[0-9a-f]{64}))?"
)
EXACT_IMAGE = "projects/<project>/global/images/<exact image name>"


def _known_region(region: str) -> str:
    regions = sorted({region for gpu in catalog().gpus.values() for region in gpu.zones})
    if region not in regions:
        raise refuse(Refusal(region, ", ".join(regions), "choose a region that has GPUs in two zones or more"))
    return region


def _zones_of_region(zones: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
    region = info.data.get("region")
    refusals = [
        Refusal(
            zone, f"a zone of {region}", f"name a zone of {region}, or make another pool for that zone's region", (i,)
        )
        for i, zone in enumerate(zones)
        if region and zone.rpartition("-")[0] != region
    ]
    if len(set(zones)) < max(2, len(zones)):
        remedy = "name another zone: a group in a single zone goes down with it"
        refusals.append(Refusal(zones, "two or more different zones", remedy))
    if refusals:
        raise refuse(*refusals)
    return zones


def _at_least_min(most: int, info: ValidationInfo) -> int:
    least = info.data.get("min_vms")
    if least is not None and most < least:
        raise refuse(Refusal(most, f"min ({least}) or more", "raise max or lower min"))
    return most


class Pool(Section):
    """VMs of one region, on demand or Spot: one instance template and one regional group."""

    region: Annotated[str, AfterValidator(_known_region)] = Field(
        description="region of the group", examples=["us-central1"]
    )
    zones: Annotated[tuple[str, ...], AfterValidator(_zones_of_region)] = Field(
        description="zones that the group spreads over", examples=[["us-central1-a", "us-central1-b"]]
    )
    spot: bool = Field(
        default=False, description="whether the VMs are Spot: cheaper, and taken away at 30 s notice", examples=[True]
    )
    min_vms: int = Field(
        alias="min",
        ge=1,
        le=1000,
        description="fewest VMs (a group without VMs writes no metric that could wake it: fleet.paused makes it 0)",
        examples=[2],
    )
    max_vms: Annotated[int, AfterValidator(_at_least_min)] = Field(
        alias="max", ge=1, le=1000, description="most VMs, without those that a rollout adds", examples=[4]
    )

    @property
    def name(self) -> str:
        """What distinguishes this pool from the others, and names its resources."""
        return f"{self.region}-spot" if self.spot else self.region


def known_gpu(gpu_type: str) -> str:
    """A GPU of the catalogue."""
    if gpu_type not in catalog().gpus:
        raise refuse(Refusal(gpu_type, ", ".join(catalog().gpus), "choose a GPU that the catalogue knows"))
    return gpu_type


def _attachable(count: int, info: ValidationInfo) -> int:
    gpu = catalog().gpus.get(info.data.get("gpu_type", ""))
    if gpu and count not in gpu.max_vcpus:
        allowed = ", ".join(map(str, gpu.max_vcpus))
        raise refuse(Refusal(count, allowed, "choose a number of GPUs that Compute Engine attaches to one VM"))
    return count


def _enough_gpus_for_vcpus(machine_type: str, info: ValidationInfo) -> str:
    if machine_type not in catalog().machine_types():
        allowed = ", ".join(catalog().machine_types())
        raise refuse(Refusal(machine_type, allowed, "choose a machine type that GPUs can be attached to"))
    gpu, count = catalog().gpus.get(info.data.get("gpu_type", "")), info.data.get("gpu_count")
    if gpu and count and catalog().machine_type(machine_type).vcpus > gpu.max_vcpus[count]:
        allowed = f"at most {gpu.max_vcpus[count]} vCPUs with gpuCount {count}"
        raise refuse(Refusal(machine_type, allowed, "choose a smaller machine type or more GPUs"))
    return machine_type


def _platform_of_machine(platform: str, info: ValidationInfo) -> str:
    machine_type = info.data.get("machine_type")
    if machine_type:
        family = catalog().machines[catalog().machine_type(machine_type).family]
        if platform not in family.cpu_platforms:
            allowed = ", ".join(family.cpu_platforms)
            raise refuse(Refusal(platform, allowed, f"choose a CPU platform that {machine_type} runs on"))
    return platform


def _distinct_pools_with_gpus(pools: tuple[Pool, ...], info: ValidationInfo) -> tuple[Pool, ...]:
    if not pools:
        raise refuse(Refusal(pools, "one pool or more", "add a pool: region, zones, min and max"))
    refusals = [*_without_gpus(pools, info.data.get("gpu_type", "")), *_equal(pools)]
    if refusals:
        raise refuse(*refusals)
    return pools


def _without_gpus(pools: tuple[Pool, ...], gpu_type: str) -> Iterator[Refusal]:
    gpu = catalog().gpus.get(gpu_type)
    for i, pool in enumerate(pools):
        offered = gpu.zones.get(pool.region, ()) if gpu else pool.zones
        for j, zone in enumerate(pool.zones):
            if zone not in offered:
                allowed = ", ".join(offered) or "another region"
                yield Refusal(zone, allowed, f"name a zone that has {gpu_type}", (i, "zones", j))


def _equal(pools: tuple[Pool, ...]) -> Iterator[Refusal]:
    times = Counter(pool.name for pool in pools)
    seen: set[str] = set()
    for i, pool in enumerate(pools):
        if times[pool.name] > 1 and pool.name in seen:
            remedy = "merge it into the other pool of this region, or make one of the two Spot"
            yield Refusal(pool.name, "one pool on demand and one Spot a region", remedy, (i,))
        seen.add(pool.name)


def known_disk(disk_type: str) -> str:
    """A disk type of the catalogue."""
    if disk_type not in catalog().disks:
        raise refuse(Refusal(disk_type, ", ".join(catalog().disks), "choose a disk type that N1 machines boot from"))
    return disk_type


def is_stock(image: str) -> bool:
    """Whether an image comes from a public project, without this fleet's container on it."""
    return image.split("/")[1] in catalog().images.stock_projects


def exact_image(image: str) -> str:
    """An image by its own name, never a family."""
    if "/images/family/" in image:
        remedy = "run `make bump-image`: a family would give each new VM whatever is newest at its first boot"
        raise refuse(Refusal(image, EXACT_IMAGE, remedy))
    if not _IMAGE.fullmatch(image):
        raise refuse(Refusal(image, EXACT_IMAGE, "name one image, as `gcloud compute images list --uri` shows it"))
    return image


def pinned(container: str) -> bool:
    """Whether a container is named by digest, not only by a tag that may move."""
    return "@sha256:" in container


def release(container: str) -> str | None:
    """NVIDIA's monthly release in a container's tag (`25.08`), or None where it is named otherwise."""
    name = _CONTAINER.fullmatch(container)
    found = re.match(r"(\d\d\.\d\d)-", name["tag"] or "") if name else None
    return found[1] if found else None


def exact_container(container: str) -> str:
    """A container by a tag that stays, or by digest."""
    name = _CONTAINER.fullmatch(container)
    if not name or not (name["tag"] or name["digest"]) or name["tag"] == "latest":
        allowed = "<registry>/<path>:<tag> or <registry>/<path>@sha256:<digest>, and no tag `latest`"
        raise refuse(Refusal(container, allowed, "name the release, for example nvcr.io/nvidia/tritonserver:25.08-py3"))
    return container


def _tags(tags: tuple[str, ...]) -> tuple[str, ...]:
    bad = [(i, tag) for i, tag in enumerate(tags) if not re.fullmatch(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?", tag)]
    if bad:
        allowed = "lower-case letters, digits and hyphens, a letter first, at most 63"
        raise refuse(*(Refusal(tag, allowed, "rename the network tag", (i,)) for i, tag in bad))
    return tags


def _redistribution_for_shape(redistribution: str | None, info: ValidationInfo) -> str | None:
    shape = info.data.get("shape")
    if shape == "BALANCED" and redistribution == "PROACTIVE":
        remedy = "leave redistribution out, or set shape to EVEN: a balanced group is never redistributed"
        raise refuse(Refusal(redistribution, "NONE with shape BALANCED", remedy))
    if shape == "EVEN" and redistribution == "NONE":
        remedy = "leave redistribution out, or set shape to BALANCED: an even group must be rebalanced after scaling in"
        raise refuse(Refusal(redistribution, "PROACTIVE with shape EVEN", remedy))
    return redistribution


class UpdateSettings(Section):
    """How a changed template reaches the VMs."""

    type: Literal["PROACTIVE", "OPPORTUNISTIC"] = Field(
        default="PROACTIVE",
        description="whether VMs are replaced at once or only when something else replaces them",
        examples=["PROACTIVE"],
    )
    shape: Literal["EVEN", "BALANCED"] = Field(
        default="EVEN", description="whether zones must hold equal numbers or may follow capacity", examples=["EVEN"]
    )
    redistribution: Annotated[Literal["PROACTIVE", "NONE"] | None, AfterValidator(_redistribution_for_shape)] = Field(
        default=None, description="whether VMs are moved to even zones out; follows from shape", examples=["PROACTIVE"]
    )
    max_surge: int | None = Field(
        default=None,
        ge=0,
        le=1000,
        description="VMs that a rollout may add; the number of zones by default",
        examples=[2],
    )
    max_unavailable: int = Field(
        default=0, ge=0, le=1000, description="VMs that a rollout may take away before new ones serve", examples=[0]
    )
    wait_s: int = Field(
        default=2700,
        ge=0,
        le=86400,
        description="seconds that `pulumi up` waits until new VMs serve; 0 does not wait",
        examples=[2700],
    )

    def surge(self, zones: int) -> int:
        """VMs that a rollout may add to a pool of `zones` zones."""
        return zones if self.max_surge is None else self.max_surge

    @property
    def redistributes(self) -> Literal["PROACTIVE", "NONE"]:
        """Redistribution that goes with the shape."""
        return "PROACTIVE" if self.shape == "EVEN" else "NONE"


def _shorter_than_interval(timeout_s: int, info: ValidationInfo) -> int:
    interval_s = info.data.get("interval_s")
    if interval_s is not None and timeout_s > interval_s:
        raise refuse(Refusal(timeout_s, f"at most intervalS ({interval_s})", "lower it, or raise intervalS"))
    return timeout_s


class AutohealingSettings(Section):
    """When a VM is given up and made anew. Liveness is asked, not serving health: load never kills a VM."""

    initial_delay_s: int = Field(
        default=1800, ge=0, le=3600, description="seconds a new VM has until failures count", examples=[1800]
    )
    interval_s: int = Field(default=10, ge=1, le=300, description="seconds between two probes", examples=[10])
    timeout_s: Annotated[int, AfterValidator(_shorter_than_interval)] = Field(
        default=5, ge=1, le=300, description="seconds a probe may take", examples=[5]
    )
    unhealthy_threshold: int = Field(
        default=10, ge=1, le=10, description="probes in a row that must fail", examples=[10]
    )


def _surge_covers_zones(update: UpdateSettings, info: ValidationInfo) -> UpdateSettings:
    zones = max((len(pool.zones) for pool in info.data.get("pools", ())), default=0)
    refusals = []
    for key, value in (("maxSurge", update.max_surge or 0), ("maxUnavailable", update.max_unavailable)):
        if 0 < value < zones:
            remedy = "raise it to the number of zones: the group adds and removes VMs zone by zone"
            refusals.append(Refusal(value, f"0, or {zones} (the zones of a pool) or more", remedy, (key,)))
    if update.max_surge == 0 and update.max_unavailable == 0:
        remedy = "let a rollout either add VMs (maxSurge) or take some away (maxUnavailable)"
        refusals.append(Refusal(0, "more than 0 where maxUnavailable is 0", remedy, ("maxSurge",)))
    if refusals:
        raise refuse(*refusals)
    return update


class FleetSettings(Section):
    """The serving VMs. All pools have the same kind of VM."""

    gpu_type: Annotated[str, AfterValidator(known_gpu)] = Field(
        default="nvidia-tesla-t4", description="accelerator type", examples=["nvidia-tesla-t4"]
    )
    gpu_count: Annotated[int, AfterValidator(_attachable)] = Field(
        default=4, description="GPUs of one VM", examples=[4]
    )
    machine_type: Annotated[str, AfterValidator(_enough_gpus_for_vcpus)] = Field(
        default="n1-standard-16", description="machine type", examples=["n1-standard-16"]
    )
    min_cpu_platform: Annotated[str, AfterValidator(_platform_of_machine)] = Field(
        default="Intel Skylake", description="oldest CPU that a VM may get", examples=["Intel Skylake"]
    )
    pools: Annotated[tuple[Pool, ...], AfterValidator(_distinct_pools_with_gpus)] = Field(
        description="one group of VMs a pool",
        examples=[[{"region": "us-central1", "zones": ["us-central1-a", "us-central1-b"], "min": 2, "max": 4}]],
    )
    disk_size_gib: int = Field(default=100, ge=50, le=65536, description="boot disk in GiB", examples=[100])
    disk_type: Annotated[str, AfterValidator(known_disk)] = Field(
        default="pd-ssd", description="boot disk type", examples=["pd-ssd"]
    )
    image: Annotated[str, AfterValidator(exact_image)] = Field(
        description="boot image, exactly",
        examples=["projects/ubuntu-os-accelerator-images/global/images/<name>"],
    )
    container: Annotated[str, AfterValidator(exact_container)] = Field(
        description="container that serving runs in", examples=["nvcr.io/nvidia/tritonserver:25.08-py3"]
    )
    tags: Annotated[tuple[str, ...], AfterValidator(_tags)] = Field(
        default=("http-server", "https-server"), description="network tags of the VMs", examples=[["http-server"]]
    )
    paused: bool = Field(
        default=False, description="whether the fleet is shut down: every pool's min and max become 0", examples=[True]
    )
    update: Annotated[UpdateSettings, AfterValidator(_surge_covers_zones)] = Field(
        default=UpdateSettings(), description="how VMs are replaced", examples=[{"maxSurge": 2}]
    )
    autohealing: AutohealingSettings = Field(
        default=AutohealingSettings(), description="when a VM is made anew", examples=[{"initialDelayS": 1800}]
    )

    @property
    def regions(self) -> tuple[str, ...]:
        """Regions of the pools, each once, in pool order."""
        return tuple(dict.fromkeys(pool.region for pool in self.pools))
