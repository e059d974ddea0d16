"""What a fleet is doing now, as tables and as JSON."""

from __future__ import annotations

from typing import Any

from client.fleet import FleetState, GroupState, MetricPoint
from client.rendering import Table
from client.resources import ManagedInstance
from client.rollout import health_reason, is_paused


def tables(state: FleetState, points: dict[str, MetricPoint]) -> list[Table]:
    """A table of the groups and one of their VMs; `points` are the GPU metric's by VM number."""
    groups = Table(
        "Groups",
        ("GROUP", "REGION", "SIZE", "AUTOSCALER", "TEMPLATE", "ROLLOUT"),
        [_group_row(group) for group in state.groups],
        frozenset({"SIZE"}),
    )
    vms = Table(
        "VMs",
        ("VM", "ZONE", "STATUS", "ACTION", "TEMPLATE", "HEALTH", "GPU %", "AGE s", "REASON"),
        [_vm_row(group, instance, points) for group in state.groups for instance in group.instances],
        frozenset({"GPU %", "AGE s"}),
    )
    return [groups, vms]


def as_json(state: FleetState, points: dict[str, MetricPoint]) -> dict[str, Any]:
    """The same as a JSON value: `groups[]` with `autoscaler` and `vms[]`; absent facts are null."""
    return {"groups": [_group_json(group, points) for group in state.groups]}


def _group_row(group: GroupState) -> tuple[str, ...]:
    return (
        group.name.name,
        group.name.region,
        str(group.manager.target_size),
        _autoscaler(group),
        group.template,
        _rollout(group),
    )


def _autoscaler(group: GroupState) -> str:
    scaler = group.autoscaler
    if scaler is None:
        return "none"
    if is_paused(group):
        return "paused (0 to 0)"
    policy = scaler.autoscaling_policy
    mode = "" if policy.mode == "ON" else f" {policy.mode}"
    wants = f"{policy.min_num_replicas} to {policy.max_num_replicas}, wants {scaler.recommended_size}"
    details = "".join(f"; {detail.message or detail.type}" for detail in scaler.status_details)
    return f"{scaler.status}{mode} {wants}{details}"


def _rollout(group: GroupState) -> str:
    reached = "version reached" if group.manager.status.version_target.is_reached else "rolling"
    return f"{reached}, {'stable' if group.manager.status.is_stable else 'not stable'}"


def _vm_row(group: GroupState, instance: ManagedInstance, points: dict[str, MetricPoint]) -> tuple[str, ...]:
    point = points.get(instance.id)
    return (
        instance.vm,
        instance.zone,
        instance.instance_status or "-",
        instance.current_action,
        instance.template,
        _health(group, instance) or "-",
        f"{point.value:.0f}" if point else "-",
        f"{point.age_s:.0f}" if point else "-",
        _reason(group, instance),
    )


def _health(group: GroupState, instance: ManagedInstance) -> str | None:
    status = group.health_of(instance.vm)
    return status.health_state or None if status else None


def _reason(group: GroupState, instance: ManagedInstance) -> str:
    attempt = "; ".join(f"{error.code}: {error.message}" for error in instance.last_attempt.errors.errors)
    health = "" if _health(group, instance) == "HEALTHY" else health_reason(group, instance)
    return "; ".join(text for text in (attempt, health) if text)


def _group_json(group: GroupState, points: dict[str, MetricPoint]) -> dict[str, Any]:
    scaler = group.autoscaler
    return {
        "name": group.name.name,
        "region": group.name.region,
        "targetSize": group.manager.target_size,
        "template": group.template,
        "versionReached": group.manager.status.version_target.is_reached,
        "stable": group.manager.status.is_stable,
        "paused": is_paused(group),
        "autoscaler": None
        if scaler is None
        else {
            "status": scaler.status,
            "mode": scaler.autoscaling_policy.mode,
            "min": scaler.autoscaling_policy.min_num_replicas,
            "max": scaler.autoscaling_policy.max_num_replicas,
            "recommendedSize": scaler.recommended_size,
            "details": [{"type": one.type, "message": one.message} for one in scaler.status_details],
        },
        "vms": [_vm_json(group, instance, points) for instance in group.instances],
    }


def _vm_json(group: GroupState, instance: ManagedInstance, points: dict[str, MetricPoint]) -> dict[str, Any]:
    point = points.get(instance.id)
    return {
        "name": instance.vm,
        "zone": instance.zone,
        "status": instance.instance_status or None,
        "action": instance.current_action,
        "template": instance.template,
        "health": _health(group, instance),
        "reason": _reason(group, instance) or None,
        "gpuUtilisationPercent": point.value if point else None,
        "metricAgeSeconds": round(point.age_s, 1) if point else None,
    }
