"""Managed instance groups: the loop that makes VMs follow the declared groups."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import replace

from sandbox.compute.checks import autohealing_check, services_of, serving_check
from sandbox.compute.declared import (
    AUTOSCALER,
    GROUP_MANAGER,
    INSTANCE_TEMPLATE,
    BackendService,
    Group,
    UnmodelledError,
    backend_services,
    declared,
    find,
    group,
)
from sandbox.compute.instances import from_template, placement_fault, random_name
from sandbox.compute.loop import Controller
from sandbox.compute.names import same, short
from sandbox.compute.records import (
    GROUP,
    AutoscalerRecord,
    GroupRecord,
    autoscaler_record,
    group_record,
    group_records,
    health_of,
    instance,
    instances,
    worst,
)
from sandbox.compute.rollout import (
    Create,
    Fault,
    Health,
    Member,
    Seen,
    Step,
    Want,
    advance,
    apply,
    effect,
    is_reached,
    is_stable,
    plan,
)
from sandbox.machine.instance import Instance
from sandbox.network.addresses import Addresses
from sandbox.settings import SandboxSettings
from sandbox.store import INSTANCE, RESOURCE, Store

_PERIOD_S = 1.0
"""Delays and drains end by the clock, not by a change of a record."""


class GroupManager(Controller):
    """Creates, repairs, updates and deletes the instances of every declared regional instance group manager.

    All it knows is in the store: a group record names its members before any of their VMs exists, so a crash between
    the two writes leaves a member to create, never a VM that nobody owns.
    """

    def __init__(self, settings: SandboxSettings, store: Store) -> None:
        super().__init__(store, "groups", _PERIOD_S)
        self._settings = settings
        self._addresses = Addresses(settings, store)

    async def reconcile(self) -> None:
        """One round over all groups."""
        now = time.time()
        services = backend_services(self._store)
        for identifier, record in self._store.resources(GROUP_MANAGER):
            try:
                self._follow(group(identifier, record), services, now)
            except UnmodelledError as refusal:
                self._refuse(identifier, str(refusal))
        for identifier, last in list(group_records(self._store)):
            if self._store.get(RESOURCE, identifier) is None:
                self._dissolve(identifier, last, now)
        self._end_strays()

    def _follow(self, declared_group: Group, services: Sequence[BackendService], now: float) -> None:
        before = group_record(self._store, declared_group.id) or GroupRecord()
        using = list(services_of(declared_group, services))
        want = Want(
            group=declared_group,
            size=desired_size(declared_group, *self._autoscaler(declared_group.id), previous=before.target_size),
            draining_s=max((service.draining_s for service in using), default=0.0),
            exhausted=self._exhausted(declared_group),
        )
        seen = {member.name: self._see(member, declared_group, using) for member in before.members}
        present = [
            after for member in before.members if (after := advance(member, seen[member.name], want, now)) is not None
        ]
        steps = plan(want, present, seen, now)
        members = apply(want, present, steps, seen, name=lambda: random_name(declared_group.base_name), now=now)
        fresh, members = self._insertions(members, seen, declared_group, now)
        after_record = GroupRecord(
            target_size=want.size,
            members=tuple(members),
            stable=is_stable(want, members),
            reached=is_reached(want, members),
        )
        self._tell(want, before, after_record, steps)
        self._store.put(GROUP, declared_group.id, after_record.as_json())
        for one in fresh:
            placed = replace(one, address=self._addresses.for_instance(one.key))
            self._store.put(INSTANCE, placed.key, placed.as_json())
        self._remove(members, seen, now)
        self._release(before.members, members)

    def _dissolve(self, identifier: str, last: GroupRecord, now: float) -> None:
        """The group manager was deleted: so are its instances, at once, as no backend service may still use it."""
        members = [
            replace(member, action="DELETING", retiring=True, drain_until=min(member.drain_until, now) or now)
            for member in last.members
            if instance(self._store, _key(member)) is not None
        ]
        if members:
            record = replace(last, target_size=0, members=tuple(members), stable=False)
            self._store.put(GROUP, identifier, record.as_json())
            self._remove(members, {member.name: self._status(member) for member in members}, now)
        else:
            self._store.delete(GROUP, identifier)
            self._store.event(short(identifier), "group deleted")
        self._release(last.members, members)

    def _refuse(self, identifier: str, why: str) -> None:
        before = group_record(self._store, identifier) or GroupRecord()
        if before.error != why:
            self._store.event(short(identifier), why)
        self._store.put(GROUP, identifier, replace(before, stable=False, error=why).as_json())

    def _end_strays(self) -> None:
        owned = {_key(member) for _, record in group_records(self._store) for member in record.members}
        for one in list(instances(self._store)):
            if one.created_by and one.key not in owned and one.desired != "DELETED":
                self._store.event(one.name, "belongs to no group any more: deleted")
                self._store.put(INSTANCE, one.key, replace(one, desired="DELETED").as_json())

    def _autoscaler(self, identifier: str) -> tuple[AutoscalerRecord | None, str]:
        for name, found in declared(self._store, AUTOSCALER):
            if same(found["target"], identifier):
                return autoscaler_record(self._store, name), found["autoscalingPolicy"].get("mode", "ON")
        return None, "OFF"

    def _exhausted(self, owner: Group) -> frozenset[str]:
        found = find(self._store, INSTANCE_TEMPLATE, owner.template)
        accelerators = found[1].get("guestAccelerators") if found else None
        return (
            self._settings.stockouts.get(short(accelerators[0]["type"]), frozenset()) if accelerators else frozenset()
        )

    def _status(self, member: Member) -> Seen:
        vm = instance(self._store, _key(member))
        return Seen(status=vm.status if vm else None)

    def _see(self, member: Member, owner: Group, using: Iterable[BackendService]) -> Seen:
        vm = instance(self._store, _key(member))
        if vm is None:
            return Seen()
        healing = autohealing_check(self._store, owner)
        serving: list[Health] = []
        for service in using:
            checked = serving_check(self._store, service, owner)
            if checked is not None:
                serving.append(self._health(checked.check.id, vm, checked.port))
            elif service.health_check:
                serving.append("UNKNOWN")
        return Seen(
            status=vm.status,
            liveness=self._health(healing.check.id, vm, healing.port) if healing else "UNKNOWN",
            serving=worst(serving),
        )

    def _health(self, check: str, vm: Instance, port: int) -> Health:
        record = health_of(self._store, check, vm, port)
        return record.state if record else "UNKNOWN"

    def _insertions(
        self, members: Sequence[Member], seen: dict[str, Seen], owner: Group, now: float
    ) -> tuple[list[Instance], list[Member]]:
        """Instances to insert, and the members with the faults of those that cannot be."""
        existing = list(instances(self._store))
        fresh: list[Instance] = []
        after: list[Member] = []
        for member in members:
            if effect(member, seen.get(member.name, Seen()), now) != "insert":
                after.append(member)
                continue
            made = self._make(member, owner, now)
            if isinstance(made, Instance):
                fault = placement_fault(made, [*existing, *fresh], self._settings)
                if fault is None:
                    fresh.append(made)
                    after.append(replace(member, template=made.template))
                    continue
                made = fault
            after.append(replace(member, faults=(made,)))
        return fresh, after

    def _make(self, member: Member, owner: Group, now: float) -> Instance | Fault:
        """A VM for the member; from the group's template where its own was deleted meanwhile."""
        for template in dict.fromkeys((member.template, owner.template)):
            found = find(self._store, INSTANCE_TEMPLATE, template)
            if found is not None:
                return from_template(found[1], replace(member, template=template), group=owner.id, now=now)
        return Fault(code="RESOURCE_NOT_FOUND", message=f"The resource '{owner.template}' was not found")

    def _remove(self, members: Iterable[Member], seen: dict[str, Seen], now: float) -> None:
        for member in members:
            if effect(member, seen.get(member.name, Seen()), now) != "delete":
                continue
            vm = instance(self._store, _key(member))
            if vm is not None and vm.desired != "DELETED":
                self._store.event(member.name, "instance deletion")
                self._store.put(INSTANCE, vm.key, replace(vm, desired="DELETED").as_json())

    def _release(self, before: Iterable[Member], after: Iterable[Member]) -> None:
        held = {_key(member) for member in after}
        for member in before:
            if _key(member) not in held:
                self._addresses.release_instance(_key(member))

    def _tell(
        self,
        want: Want,
        before: GroupRecord,
        after: GroupRecord,
        steps: Iterable[Step],
    ) -> None:
        subject = short(want.group.id)
        if before.target_size != after.target_size:
            self._store.event(subject, f"target size {before.target_size} -> {after.target_size}")
        known = {member.name: member for member in before.members}
        for step in steps:
            if not isinstance(step, Create):
                verb = "recreated" if step.action == "RECREATING" else "deleted"
                self._store.event(subject, f"{step.name} is being {verb}: {step.reason}")
        for member in after.members:
            old = known.get(member.name)
            if old is None:
                self._store.event(subject, f"{member.name} is being created in {member.zone}")
            for fault in member.faults:
                if old is None or fault not in old.faults:
                    self._store.event(subject, f"{member.name}: {fault.code}: {fault.message}")
        if before.stable != after.stable and after.stable:
            self._store.event(subject, f"stable with {len(after.members)} instances")


def desired_size(declared_group: Group, record: AutoscalerRecord | None, mode: str, *, previous: int) -> int:
    """Target size: the autoscaler's recommendation, else the declared size, else the one before (at first 0)."""
    if mode != "OFF" and record is not None:
        return max(previous, record.recommended) if mode in {"ONLY_UP", "ONLY_SCALE_OUT"} else record.recommended
    if mode != "OFF":
        return previous
    return previous if declared_group.target_size is None else declared_group.target_size


def _key(member: Member) -> str:
    return f"{member.zone}/{member.name}"
