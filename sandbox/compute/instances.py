"""Instances as their template describes them, and what keeps a region or zone from having one more."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable, Mapping
from typing import Any, Final

from sandbox.compute.names import region_of, relative, short
from sandbox.compute.rollout import Fault, Member
from sandbox.machine.instance import Instance
from sandbox.settings import SandboxSettings

_SPOT_NOTICE_S: Final = 30.0
_STANDARD_NOTICE_S: Final = 120.0
"""Soft-off to power-off of a preempted Spot VM and of any other (Google Cloud, "Shut down a VM", 2026-11)."""
_NAME_ALPHABET: Final = "bcdfghjklmnpqrstvwxz0123456789"
_ACCELERATOR_PREFIX = re.compile(r"^nvidia-(?:tesla-)?")


def from_template(
    template: Mapping[str, Any], member: Member, *, group: str, now: float, address: str = ""
) -> Instance:
    """The instance that a template's properties describe, as `member` of `group` (id, or empty for none)."""
    interfaces = template.get("networkInterfaces") or [{}]
    account = template.get("serviceAccount") or {}
    scheduling = template.get("scheduling") or {}
    accelerators = template.get("guestAccelerators") or []
    boot = next((disk for disk in template["disks"] if disk.get("boot", True)), template["disks"][0])
    limit = (scheduling.get("maxRunDuration") or {}).get("seconds")
    spot = bool(scheduling.get("preemptible")) or scheduling.get("provisioningModel") == "SPOT"
    metadata = {str(key): str(value) for key, value in (template.get("metadata") or {}).items()}
    if template.get("metadataStartupScript"):
        metadata["startup-script"] = template["metadataStartupScript"]
    return Instance(
        name=member.name,
        zone=member.zone,
        numeric_id=str(secrets.randbelow(9 * 10**18) + 10**18),
        address=address,
        machine_type=short(template["machineType"]),
        gpus=sum(int(one["count"]) for one in accelerators),
        gpu_type=short(accelerators[0]["type"]) if accelerators else "",
        image=str(boot.get("sourceImage") or ""),
        network=relative(interfaces[0].get("network") or "default"),
        subnetwork=relative(interfaces[0].get("subnetwork") or ""),
        tags=sorted(template.get("tags") or []),
        service_account=str(account.get("email") or ""),
        scopes=sorted(account.get("scopes") or []),
        metadata=metadata,
        preemptible=spot,
        automatic_restart=bool(scheduling.get("automaticRestart", not spot)),
        template=member.template,
        created_by=group,
        created=now,
        stop_notice_s=_SPOT_NOTICE_S if spot else _STANDARD_NOTICE_S,
        external_address=bool(interfaces[0].get("accessConfigs")),
        disk_gib=int(boot.get("diskSizeGb") or 0),
        max_run_s=float(limit or 0),
        at_limit="DELETED" if scheduling.get("instanceTerminationAction") == "DELETE" else "TERMINATED",
        labels={str(key): str(value) for key, value in (template.get("labels") or {}).items()},
    )


def random_name(base: str) -> str:
    """`<base>-xxxx`, as groups name their instances."""
    return f"{base}-" + "".join(secrets.choice(_NAME_ALPHABET) for _ in range(4))


def quota_metric(gpu_type: str, *, preemptible: bool) -> str:
    """Regional quota that GPUs of a type count against: `NVIDIA_T4_GPUS` for nvidia-tesla-t4."""
    model = _ACCELERATOR_PREFIX.sub("", short(gpu_type)).upper().replace("-", "_")
    return f"{'PREEMPTIBLE_' if preemptible else ''}NVIDIA_{model}_GPUS"


def quota_fault(wanted: Instance, existing: Iterable[Instance], limits: Mapping[str, int]) -> Fault | None:
    """Google's QUOTA_EXCEEDED where `wanted` would exceed its region's limit; stopped instances hold no GPUs."""
    if not wanted.gpus:
        return None
    metric = quota_metric(wanted.gpu_type, preemptible=wanted.preemptible)
    limit = limits.get(metric)
    if limit is None:
        return None
    region = region_of(wanted.zone)
    used = sum(
        one.gpus
        for one in existing
        if one.gpus
        and one.status != "TERMINATED"
        and region_of(one.zone) == region
        and quota_metric(one.gpu_type, preemptible=one.preemptible) == metric
    )
    if used + wanted.gpus <= limit:
        return None
    return Fault(code="QUOTA_EXCEEDED", message=f"Quota '{metric}' exceeded.  Limit: {limit}.0 in region {region}.")


def stockout_fault(wanted: Instance, stockouts: Mapping[str, frozenset[str]], project: str) -> Fault | None:
    """Google's ZONE_RESOURCE_POOL_EXHAUSTED where the zone has no GPU of the wanted type left."""
    if not wanted.gpus or wanted.zone not in stockouts.get(short(wanted.gpu_type), ()):
        return None
    return Fault(
        code="ZONE_RESOURCE_POOL_EXHAUSTED",
        message=f"The zone 'projects/{project}/zones/{wanted.zone}' does not have enough resources available to "
        "fulfill the request.  Try a different zone, or try again later.",
    )


def placement_fault(wanted: Instance, existing: Iterable[Instance], settings: SandboxSettings) -> Fault | None:
    """Why one more instance cannot be had where it is wanted: Google asks for quota first, for capacity then."""
    return quota_fault(wanted, existing, settings.quotas) or stockout_fault(
        wanted, settings.stockouts, settings.project
    )
