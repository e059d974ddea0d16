"""Whether a fleet has arrived where the stack's outputs say it should be, and if not, what is missing where.

A pure function of the fetched state, so that whoever polls - a person, a pipeline, the program's own gate - decides
alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from client.fleet import FleetState, GroupState
from client.resources import ManagedInstance

LONGEST_REASON: Final = 160
"""Characters of an annotation that are shown: it may hold the whole body of a probe's answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that is not yet as it should be."""

    subject: str
    """Name of a VM, or of a group."""
    place: str
    """The VM's zone, or the group's region."""
    problem: str
    reason: str = ""
    """Why, as far as the APIs tell; empty if they do not."""
    project: str
    is_vm: bool

    def __str__(self) -> str:
        """One line: who, where, what, why."""
        return f"{self.subject} ({self.place}): {self.problem}" + (f": {self.reason}" if self.reason else "")


def findings(state: FleetState) -> tuple[Finding, ...]:
    """What keeps the fleet from serving the declared version everywhere; empty when it has arrived.

    Arrived means, for every group: it rolls out the declared template, `versionTarget.isReached` and `isStable` hold,
    it has as many VMs as its target size, at least the autoscaler's minimum, and each is RUNNING, has the template, has
    no action under way and is HEALTHY for the load balancer. A new group is stable while it is empty, and VMs about to
    be replaced are healthy too, so none of these alone is enough. A paused group (maximum 0) has arrived when it is
    empty.
    """
    return tuple(finding for group in state.groups for finding in _group(group))


def is_paused(group: GroupState) -> bool:
    """Whether the group is held at zero VMs on purpose."""
    return group.autoscaler is not None and group.autoscaler.autoscaling_policy.max_num_replicas == 0


def healthy_count(group: GroupState) -> int:
    """How many of the group's VMs the load balancer finds healthy."""
    return sum(_health_state(group, one) == "HEALTHY" for one in group.instances)


def _group(group: GroupState) -> list[Finding]:
    def finding(problem: str, reason: str = "") -> Finding:
        return Finding(
            subject=group.name.name,
            place=group.name.region,
            problem=problem,
            reason=reason,
            project=group.name.project,
            is_vm=False,
        )

    found = [one for instance in group.instances for one in _instance(group, instance)]
    manager, scaler = group.manager, group.autoscaler
    if group.template != group.wanted_template:
        found.append(finding(f"rolls out template {group.template or 'none'}, not {group.wanted_template}"))
    if scaler is not None and scaler.status == "ERROR":
        found.append(finding("autoscaler reports an error", _scaler_reason(group)))
    if not is_paused(group):
        smallest = max(1, scaler.autoscaling_policy.min_num_replicas if scaler else 1)
        if manager.target_size < smallest:
            problem = f"target size is {manager.target_size}, below the minimum of {smallest}"
            found.append(finding(problem, _scaler_reason(group)))
    if len(group.instances) < manager.target_size:
        found.append(finding(f"has {len(group.instances)} of {manager.target_size} VMs"))
    if not manager.status.version_target.is_reached:
        opportunistic = manager.update_policy.type == "OPPORTUNISTIC"
        reason = (
            "its update policy is OPPORTUNISTIC, so VMs change only when something replaces them, such as "
            f"`gcloud compute instance-groups managed update-instances {group.name.name} --all-instances "
            f"--minimal-action replace --region {group.name.region}`"
            if opportunistic
            else ""
        )
        found.append(finding("not every VM has the new version", reason))
    if not manager.status.is_stable:
        found.append(finding("is not stable yet"))
    return found


def _instance(group: GroupState, instance: ManagedInstance) -> list[Finding]:
    problem, reason = _instance_problem(group, instance)
    if not problem:
        return []
    return [
        Finding(
            subject=instance.vm,
            place=instance.zone,
            problem=problem,
            reason=reason,
            project=group.name.project,
            is_vm=True,
        )
    ]


def _instance_problem(group: GroupState, instance: ManagedInstance) -> tuple[str, str]:
    attempt = "; ".join(f"{error.code}: {error.message}" for error in instance.last_attempt.errors.errors)
    if instance.current_action != "NONE":
        return f"{instance.current_action}, status {instance.instance_status or 'none'}", attempt
    if instance.instance_status != "RUNNING":
        return f"status {instance.instance_status or 'none'}", attempt
    if instance.template != group.wanted_template:
        return f"still has template {instance.template}", attempt
    state = _health_state(group, instance)
    if state == "HEALTHY":
        return "", ""
    return ("UNHEALTHY for the load balancer" if state else "not probed by the load balancer yet"), health_reason(
        group, instance
    )


def health_reason(group: GroupState, instance: ManagedInstance) -> str:
    """What the APIs tell about why a VM is not healthy, or an empty string."""
    status = group.health_of(instance.vm)
    said = [f"{key}: {_short(value)}" for key, value in sorted(status.annotations.items())] if status else []
    states = {one.detailed_health_state for one in instance.instance_health} - {"HEALTHY", "UNKNOWN"}
    return "; ".join([*said, *(f"autohealing check {state}" for state in sorted(states))])


def _short(text: str) -> str:
    return text if len(text) <= LONGEST_REASON else f"{text[: LONGEST_REASON - 3]}..."


def _health_state(group: GroupState, instance: ManagedInstance) -> str:
    status = group.health_of(instance.vm)
    return status.health_state if status else ""


def _scaler_reason(group: GroupState) -> str:
    if group.autoscaler is None:
        return ""
    return "; ".join(detail.message or detail.type for detail in group.autoscaler.status_details)
