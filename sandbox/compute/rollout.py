"""What a managed instance group does next: pure decisions over its members and what is seen of their VMs.

Sources: the Compute Engine v1 discovery document (InstanceGroupManagerUpdatePolicy, ManagedInstance.currentAction) and
Google Cloud, "Automatically apply VM configuration updates in a MIG" and "Set up application-based health checking and
autohealing" (2026-11). Where this differs from Google, sandbox/compute/README.md says so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from sandbox.compute.declared import Group
from sandbox.compute.names import same
from sandbox.machine.instance import Status

CurrentAction = Literal["CREATING", "VERIFYING", "NONE", "RECREATING", "DELETING"]
Health = Literal["HEALTHY", "UNHEALTHY", "TIMEOUT", "UNKNOWN"]

_FAILING: frozenset[Health] = frozenset({"UNHEALTHY", "TIMEOUT"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Why the last attempt to create a member's VM failed: Google's code and sentence."""

    code: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A managed instance: what the group intends with it, whether or not its VM exists at the moment."""

    name: str
    zone: str
    template: str
    """Link of the template that its VM has, or is to have."""
    created: float
    """Unix seconds at which the group made it a member."""
    action: CurrentAction = "CREATING"
    retiring: bool = False
    """Its present VM is to go: first out of the balancer, then away."""
    drain_until: float = 0.0
    running_since: float = 0.0
    """Unix seconds since when its VM has been seen RUNNING; 0 while it is not."""
    lived: bool = False
    """Its VM has passed the autohealing check once (or there is none to pass)."""
    ready_since: float = 0.0
    """Unix seconds since when all its checks have passed; 0 while they do not."""
    faults: tuple[Fault, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """For the store."""
        return asdict(self)

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Member:
        """From the store."""
        return cls(**{**record, "faults": tuple(Fault(**fault) for fault in record["faults"])})


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What is known of a member's VM."""

    status: Status | None = None
    """None: there is no VM."""
    liveness: Health = "UNKNOWN"
    """By the autohealing check."""
    serving: Health = "UNKNOWN"
    """By the checks of the backend services that use the group: the worst answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Want:
    """What the group should be."""

    group: Group
    size: int
    draining_s: float
    exhausted: frozenset[str] = frozenset()
    """Zones that have none of the GPUs that the group's template asks for."""

    @property
    def zones(self) -> tuple[str, ...]:
        """Zones for new members: a group of shape EVEN waits for a full zone, any other passes it over."""
        group = self.group
        return group.zones if group.even else tuple(z for z in group.zones if z not in self.exhausted) or group.zones


@dataclass(frozen=True, slots=True, kw_only=True)
class Create:
    """Add a member in a zone."""

    zone: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Retire:
    """Remove a member's VM; `RECREATING` makes another of the same name from `template`."""

    name: str
    action: Literal["RECREATING", "DELETING"]
    template: str
    reason: str


Step = Create | Retire


def advance(member: Member, seen: Seen, want: Want, now: float) -> Member | None:
    """The member after what happened to its VM; None once a deleted one is gone."""
    if member.retiring:
        if seen.status is not None:
            return member
        if member.action == "DELETING":
            return None
        return replace(member, retiring=False, drain_until=0.0, running_since=0.0, lived=False, ready_since=0.0)
    if seen.status != "RUNNING":
        return replace(member, running_since=0.0, lived=False, ready_since=0.0)
    healing = want.group.healing
    running_since = member.running_since or now
    lived = member.lived or healing is None or seen.liveness == "HEALTHY"
    passing = healing is None or seen.liveness == "HEALTHY"
    waiting = healing is not None and not lived and now < running_since + healing.initial_delay_s
    return replace(
        member,
        action="VERIFYING" if waiting else "NONE",
        running_since=running_since,
        lived=lived,
        ready_since=(member.ready_since or now) if passing else 0.0,
        faults=(),
    )


def plan(want: Want, members: Sequence[Member], seen: Mapping[str, Seen], now: float) -> list[Step]:
    """Steps to take now, over members that `advance` has brought up to date."""
    repairs = _repairs(want, members, seen, now)
    repaired = {step.name: step for step in repairs}
    kept = [
        replace(member, template=repaired[member.name].template) if member.name in repaired else member
        for member in members
        if member.action != "DELETING"
    ]
    view = _View(want=want, kept=kept, busy=frozenset(repaired), now=now)
    outdated = [member for member in kept if not same(member.template, want.group.template)]
    leaving = sum(m.action == "DELETING" and not same(m.template, want.group.template) for m in members)
    updating = want.group.update.proactive and want.group.update.may_replace and bool(outdated or leaving)
    steps: list[Step] = list(repairs)
    if not updating:
        steps += _resize(view, want.size - len(kept), kept)
    elif want.group.update.recreate:
        steps += _resize(view, want.size - len(kept), kept)
        steps += _replace(view, outdated, "RECREATING", gone=_names(steps))
    else:
        current = [member for member in kept if same(member.template, want.group.template)]
        room = want.size + want.group.update.max_surge - len(kept) - leaving
        missing = want.size - len(current)
        steps += _resize(view, min(missing, max(room, 0)) if missing > 0 else missing, current)
        steps += _replace(view, outdated, "DELETING", gone=_names(steps))
    return steps


def apply(
    want: Want,
    members: Iterable[Member],
    steps: Iterable[Step],
    seen: Mapping[str, Seen],
    *,
    name: Callable[[], str],
    now: float,
) -> list[Member]:
    """Members after the steps; `name` makes names for new ones."""
    after = {member.name: member for member in members}
    for step in steps:
        if isinstance(step, Create):
            fresh = Member(name=name(), zone=step.zone, template=want.group.template, created=now)
            after[fresh.name] = fresh
            continue
        state = seen.get(step.name, Seen())
        drains = state.status == "RUNNING" and state.serving == "HEALTHY"
        after[step.name] = replace(
            after[step.name],
            action=step.action,
            template=step.template,
            retiring=step.action == "DELETING" or state.status is not None,
            drain_until=now + want.draining_s if drains else now,
        )
    return list(after.values())


def effect(member: Member, seen: Seen, now: float) -> Literal["insert", "delete"] | None:
    """What has to be done to the member's VM now."""
    if member.retiring:
        if seen.status is None:
            return None
        return "delete" if now >= member.drain_until or seen.status != "RUNNING" else None
    return "insert" if seen.status is None and member.action in {"CREATING", "RECREATING"} else None


def is_available(member: Member, want: Want, now: float) -> bool:
    """Whether the member counts as available to the update policy."""
    return (
        member.action == "NONE"
        and bool(member.ready_since)
        and now >= member.ready_since + want.group.update.min_ready_s
    )


def is_stable(want: Want, members: Sequence[Member]) -> bool:
    """The API's `status.isStable`: nothing is being done to any member and nothing is left to do."""
    pending = want.group.update.proactive and not is_reached(want, members)
    return not pending and len(members) == want.size and all(member.action == "NONE" for member in members)


def is_reached(want: Want, members: Sequence[Member]) -> bool:
    """The API's `status.versionTarget.isReached`: every member has the group's template."""
    return all(same(m.template, want.group.template) and not m.retiring for m in members)


@dataclass(frozen=True, slots=True, kw_only=True)
class _View:
    want: Want
    kept: Sequence[Member]
    busy: frozenset[str]
    """Members that are being repaired in this very plan."""
    now: float

    def available(self, member: Member) -> bool:
        return member.name not in self.busy and is_available(member, self.want, self.now)


def _repairs(want: Want, members: Sequence[Member], seen: Mapping[str, Seen], now: float) -> list[Retire]:
    group = want.group
    applies_update = group.lifecycle.force_update or (group.update.proactive and group.update.may_replace)
    found: list[Retire] = []
    for member in members:
        if member.retiring:
            continue
        reason = _failure(want, member, seen.get(member.name, Seen()), now)
        if reason:
            template = group.template if applies_update else member.template
            found.append(Retire(name=member.name, action="RECREATING", template=template, reason=reason))
    return found


def _failure(want: Want, member: Member, seen: Seen, now: float) -> str:
    lifecycle = want.group.lifecycle
    if seen.status is None:
        was_there = member.action in {"NONE", "VERIFYING"}
        return "its VM is gone" if was_there and lifecycle.repair_failed else ""
    if seen.status == "TERMINATED":
        return "its VM is TERMINATED" if lifecycle.repair_failed else ""
    healing = want.group.healing
    if seen.status != "RUNNING" or healing is None or not lifecycle.repair_unhealthy:
        return ""
    mature = member.lived or now >= member.running_since + healing.initial_delay_s
    return f"autohealing check: {seen.liveness}" if mature and seen.liveness in _FAILING else ""


def _resize(view: _View, change: int, shrinkable: Sequence[Member]) -> list[Step]:
    """Creations for a positive change, scale-in among `shrinkable` for a negative one; zones stay even."""
    if change >= 0:
        return list(_creations(view, change))
    zones = Counter(member.zone for member in view.kept)
    left = list(shrinkable)
    steps: list[Step] = []
    for _ in range(min(-change, len(left))):
        victim = min(
            left,
            key=lambda m: (
                view.available(m),
                -zones[m.zone],
                same(m.template, view.want.group.template),
                -m.created,
                m.name,
            ),
        )
        left.remove(victim)
        zones[victim.zone] -= 1
        steps.append(Retire(name=victim.name, action="DELETING", template=victim.template, reason="scale-in"))
    return steps


def _creations(view: _View, count: int) -> Iterable[Create]:
    zones = view.want.zones
    total = Counter(member.zone for member in view.kept)
    current = Counter(m.zone for m in view.kept if same(m.template, view.want.group.template))
    for _ in range(count):
        zone = min(zones, key=lambda z: (current[z], total[z], zones.index(z)))
        current[zone] += 1
        total[zone] += 1
        yield Create(zone=zone)


def _replace(
    view: _View, outdated: Sequence[Member], action: Literal["RECREATING", "DELETING"], gone: set[str]
) -> list[Step]:
    """Old members that may go now without fewer than size - maxUnavailable left available."""
    target = view.want.group.template
    floor = view.want.size - view.want.group.update.max_unavailable
    available = sum(view.available(member) and member.name not in gone for member in view.kept)
    zones = Counter(member.zone for member in outdated)
    left = [m for m in outdated if m.name not in gone and m.name not in view.busy and not m.retiring]
    steps: list[Step] = []
    while left:
        member = min(left, key=lambda m: (view.available(m), -zones[m.zone], m.created, m.name))
        left.remove(member)
        cost = int(view.available(member))
        if (member.lived or cost) and available - cost < floor:
            continue
        available -= cost
        zones[member.zone] -= 1
        template = target if action == "RECREATING" else member.template
        steps.append(Retire(name=member.name, action=action, template=template, reason="replaced by the update"))
    return steps


def _names(steps: Iterable[Step]) -> set[str]:
    return {step.name for step in steps if isinstance(step, Retire)}
