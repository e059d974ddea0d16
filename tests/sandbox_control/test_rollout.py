"""Groups over simulated time: a fake host boots, fails and removes VMs; the plan is the real one."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sandbox.compute.declared import Group, Healing, Lifecycle, UpdatePolicy
from sandbox.compute.rollout import (
    Create,
    Health,
    Member,
    Retire,
    Seen,
    Want,
    advance,
    apply,
    effect,
    is_available,
    is_reached,
    is_stable,
    plan,
)
from sandbox.machine.instance import Status

ZONES = ("us-central1-a", "us-central1-b")
DRAINING_S = 5.0


def group(template: str = "v1", **update: Any) -> Group:
    policy = UpdatePolicy(
        proactive=True, recreate=False, max_surge=2, max_unavailable=0, min_ready_s=0.0, may_replace=True
    )
    return Group(
        id="projects/p/regions/us-central1/instanceGroupManagers/g",
        region="us-central1",
        base_name="g",
        zones=ZONES,
        even=True,
        template=f"projects/p/global/instanceTemplates/{template}",
        version="",
        target_size=None,
        named_ports={"http": 8888},
        update=replace(policy, **update),
        healing=Healing(health_check="projects/p/global/healthChecks/c", initial_delay_s=30.0),
        lifecycle=Lifecycle(repair_failed=True, repair_unhealthy=True, force_update=False),
    )


def want(template: str = "v1", size: int = 2, **update: Any) -> Want:
    return Want(group=group(template, **update), size=size, draining_s=DRAINING_S)


@dataclass
class Vm:
    template: str
    born: float
    deleted: float | None = None
    broken: bool = False
    """It runs but never gets healthy."""
    dead: bool = False
    unhealthy: bool = False


@dataclass(frozen=True)
class Times:
    """VMs run `boot_s` after insertion, are healthy `warm_s` later, and vanish `end_s` after their deletion."""

    boot_s: float = 2.0
    warm_s: float = 4.0
    end_s: float = 2.0


@dataclass
class World:
    """Members, VMs and a clock."""

    want: Want
    times: Times = Times()
    now: float = 1000.0
    members: list[Member] = field(default_factory=list)
    vms: dict[str, Vm] = field(default_factory=dict)
    broken_templates: set[str] = field(default_factory=set)
    names: itertools.count[int] = field(default_factory=itertools.count)
    most: int = 0
    served: list[str] = field(default_factory=list)

    def see(self, member: Member) -> Seen:
        vm = self.vms.get(member.name)
        if vm is None:
            return Seen()
        age = self.now - vm.born
        status: Status = "RUNNING" if age >= self.times.boot_s else "PROVISIONING"
        if vm.deleted is not None:
            status = "STOPPING"
        if vm.dead:
            status = "TERMINATED"
        healthy = (
            status == "RUNNING" and age >= self.times.boot_s + self.times.warm_s and not vm.broken and not vm.unhealthy
        )
        known = age >= self.times.boot_s
        state: Health = "HEALTHY" if healthy else ("UNHEALTHY" if known else "UNKNOWN")
        return Seen(status=status, liveness=state, serving=state)

    def tick(self, seconds: float = 1.0) -> None:
        self.now += seconds
        for name, vm in list(self.vms.items()):
            if vm.deleted is not None and self.now >= vm.deleted + self.times.end_s:
                del self.vms[name]
        seen = {member.name: self.see(member) for member in self.members}
        present = [m for old in self.members if (m := advance(old, seen[old.name], self.want, self.now)) is not None]
        steps = plan(self.want, present, seen, self.now)
        after = apply(self.want, present, steps, seen, name=lambda: f"g-{next(self.names)}", now=self.now)
        again = {member.name: seen.get(member.name, Seen()) for member in after}
        assert not [s for s in plan(self.want, after, again, self.now) if isinstance(s, Create)], "creates twice"
        self.members = after
        for member in after:
            match effect(member, self.see(member), self.now):
                case "insert":
                    self.vms[member.name] = Vm(
                        member.template, self.now, broken=member.template in self.broken_templates
                    )
                case "delete":
                    vm = self.vms[member.name]
                    vm.deleted = self.now if vm.deleted is None else vm.deleted
                case None:
                    pass
        self.most = max(self.most, len(self.members))
        self.served = sorted(self.in_rotation())

    def in_rotation(self) -> list[str]:
        return [m.name for m in self.members if not m.retiring and self.see(m).serving == "HEALTHY"]

    def until(self, condition: Callable[[], bool], limit_s: int = 400) -> None:
        for _ in range(limit_s):
            self.tick()
            if condition():
                return
        raise AssertionError(f"not within {limit_s} simulated seconds: {self.members}")

    def settled(self) -> bool:
        return is_stable(self.want, self.members) and is_reached(self.want, self.members)

    def available(self) -> int:
        return sum(is_available(member, self.want, self.now) for member in self.members)


def settled_world(size: int = 2, times: Times = Times(), **update: Any) -> World:
    world = World(want(size=size, **update), times)
    world.until(lambda: world.settled() and world.available() == size)
    return world


def test_a_new_group_spreads_over_its_zones_and_becomes_stable() -> None:
    world = settled_world(size=5)
    assert Counter(member.zone for member in world.members) == {ZONES[0]: 3, ZONES[1]: 2}
    assert all(member.action == "NONE" for member in world.members)


def test_a_member_is_creating_then_verifying_then_idle() -> None:
    world = World(want(size=1))
    seen: list[str] = []
    for _ in range(12):
        world.tick()
        seen.append(world.members[0].action)
    assert list(dict.fromkeys(seen)) == ["CREATING", "VERIFYING", "NONE"]


@settings(max_examples=150, deadline=None)
@given(
    size=st.integers(1, 6),
    surge=st.sampled_from([0, 2, 3]),
    unavailable=st.sampled_from([0, 2, 3]),
    times=st.builds(Times, st.floats(0, 5), st.floats(0, 9), st.floats(0, 5)),
    recreate=st.booleans(),
)
def test_a_rolling_update_keeps_the_minimum_available_and_ends_at_the_new_version(
    size: int, surge: int, unavailable: int, times: Times, recreate: bool
) -> None:
    surge = 0 if recreate else surge
    if surge == unavailable == 0:
        unavailable = 2
    update: dict[str, Any] = {"max_surge": surge, "max_unavailable": unavailable, "recreate": recreate}
    world = settled_world(size, times, **update)
    world.most = 0
    names = {member.name for member in world.members}
    world.want = want("v2", size, **update)

    def done() -> bool:
        assert world.available() >= size - unavailable
        assert len(world.in_rotation()) >= size - unavailable
        assert len(world.members) <= size + surge
        return world.settled()

    world.until(done)
    assert {vm.template for vm in world.vms.values()} == {world.want.group.template}
    assert ({member.name for member in world.members} == names) is recreate
    spread = Counter(member.zone for member in world.members)
    assert max(spread[zone] for zone in ZONES) - min(spread[zone] for zone in ZONES) <= 1


def test_old_instances_stay_while_new_ones_never_get_healthy() -> None:
    world = settled_world(size=2)
    old = {member.name for member in world.members}
    world.want = want("v2")
    world.broken_templates = {world.want.group.template}
    for _ in range(200):
        world.tick()
        assert old <= set(world.served)
    assert not is_reached(world.want, world.members)
    world.want = want("v1")
    world.until(world.settled)
    assert old == {member.name for member in world.members}, "the update is taken back by removing the new ones"


def test_an_opportunistic_update_leaves_old_instances_and_makes_new_ones_of_the_new_version() -> None:
    world = settled_world(size=2, proactive=False)
    names = {member.name for member in world.members}
    world.want = want("v2", 2, proactive=False)
    for _ in range(60):
        world.tick()
    assert {member.name for member in world.members} == names
    assert is_stable(world.want, world.members)
    assert not is_reached(world.want, world.members)
    world.want = want("v2", 3, proactive=False)
    world.until(lambda: world.available() == 3)
    fresh = next(member for member in world.members if member.name not in names)
    assert fresh.template == world.want.group.template


def test_an_update_that_may_not_replace_does_nothing() -> None:
    world = settled_world(size=2)
    names = {member.name for member in world.members}
    world.want = want("v2", may_replace=False)
    for _ in range(60):
        world.tick()
    assert {member.name for member in world.members} == names


def test_min_ready_seconds_hold_an_update_back() -> None:
    world = settled_world(size=2, min_ready_s=20.0)
    old = {member.name for member in world.members}
    world.want = want("v2", min_ready_s=20.0)
    ready: list[float] = []
    while len(old & {m.name for m in world.members if not m.retiring}) == 2:
        world.tick()
        if len(world.in_rotation()) == 4:
            ready.append(world.now)
    assert world.now - ready[0] >= 19.0


def test_scaling_in_drains_first_and_prefers_what_does_not_serve() -> None:
    world = settled_world(size=4)
    sick = world.members[1].name
    world.vms[sick].unhealthy = True
    world.tick()
    world.want = want(size=3)
    world.tick()
    going = [member for member in world.members if member.action == "DELETING"]
    assert [member.name for member in going] == [sick]
    world.until(world.settled)
    world.want = want(size=1)
    world.tick()
    going = [member for member in world.members if member.action == "DELETING"]
    begun = world.now
    assert len(going) == 2
    assert not {member.name for member in going} & set(world.served), "out of rotation at once"
    while all(world.vms[member.name].deleted is None for member in going):
        world.tick()
    assert world.now - begun >= DRAINING_S


def test_scaling_in_keeps_the_zones_even() -> None:
    world = settled_world(size=6)
    world.want = want(size=2)
    world.until(world.settled)
    assert Counter(member.zone for member in world.members) == {ZONES[0]: 1, ZONES[1]: 1}


def test_scaling_in_takes_from_the_fullest_zone_first() -> None:
    world = settled_world(size=4)
    world.members = [
        replace(member, zone=ZONES[1 if index == 3 else 0], created=1.0 + index)
        for index, member in enumerate(world.members)
    ]
    world.want = want(size=2)
    world.until(world.settled)
    assert Counter(member.zone for member in world.members) == {ZONES[0]: 1, ZONES[1]: 1}


def test_an_old_instance_that_only_stumbles_is_not_the_updates_free_victim() -> None:
    """Two old instances fail the balancer's check for a moment: the update must not take that for a reason to hurry."""
    world = settled_world(size=2)
    old = {member.name for member in world.members}
    world.want = want("v2")
    world.tick()
    stumbling = {
        member.name: replace(world.see(member), serving="UNHEALTHY") if member.name in old else world.see(member)
        for member in world.members
    }
    present = [one for m in world.members if (one := advance(m, stumbling[m.name], world.want, world.now)) is not None]
    assert plan(world.want, present, stumbling, world.now) == []


@pytest.mark.parametrize("how", ["terminated", "gone"])
def test_a_lost_vm_is_recreated_under_its_name(how: str) -> None:
    world = settled_world(size=2)
    name = world.members[0].name
    names = {member.name for member in world.members}
    if how == "gone":
        del world.vms[name]
    else:
        world.vms[name].dead = True
    world.tick()
    assert next(m for m in world.members if m.name == name).action == "RECREATING"
    world.until(world.settled)
    assert {member.name for member in world.members} == names
    assert not world.vms[name].dead


def test_an_unhealthy_instance_is_recreated_at_once_after_it_had_lived() -> None:
    world = settled_world(size=2)
    world.vms[world.members[0].name].unhealthy = True
    world.tick()
    assert world.members[0].action == "RECREATING"


def test_failures_within_the_initial_delay_are_ignored() -> None:
    world = World(want(size=1))
    world.broken_templates = {world.want.group.template}
    world.until(lambda: world.members[0].action == "RECREATING")
    running_since = world.now - 1000.0 - world.times.boot_s
    assert running_since >= 30.0


def test_lifecycle_policies_that_forbid_repairs_are_obeyed() -> None:
    world = settled_world(size=2)
    lifecycle = replace(world.want.group.lifecycle, repair_failed=False, repair_unhealthy=False)
    world.want = replace(world.want, group=replace(world.want.group, lifecycle=lifecycle))
    world.vms[world.members[0].name].unhealthy = True
    del world.vms[world.members[1].name]
    for _ in range(60):
        world.tick()
    assert [member.action for member in world.members] == ["NONE", "NONE"]
    assert len(world.vms) == 1


@pytest.mark.parametrize(("force", "version"), [(False, "v1"), (True, "v2")])
def test_a_repair_in_an_opportunistic_group_updates_only_where_it_is_forced_to(force: bool, version: str) -> None:
    world = settled_world(size=1, proactive=False)
    new = want("v2", 1, proactive=False)
    lifecycle = replace(new.group.lifecycle, force_update=force)
    world.want = replace(new, group=replace(new.group, lifecycle=lifecycle))
    world.vms[world.members[0].name].dead = True
    world.until(lambda: is_stable(world.want, world.members))
    assert world.vms[world.members[0].name].template.endswith(version)


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_whatever_happens_the_group_converges(data: st.DataObject) -> None:
    """Random resizes, new versions, crashes and sicknesses, then quiet: the group ends stable and up to date."""
    world = World(want(size=data.draw(st.integers(0, 4))))
    for _ in range(data.draw(st.integers(1, 12))):
        event = data.draw(st.sampled_from(["resize", "version", "kill", "remove", "sicken", "wait"]))
        names = sorted(name for name, vm in world.vms.items() if vm.deleted is None)
        if event == "resize":
            world.want = replace(world.want, size=data.draw(st.integers(0, 5)))
        elif event == "version":
            template = f"projects/p/global/instanceTemplates/{data.draw(st.sampled_from(['v1', 'v2', 'v3']))}"
            world.want = replace(world.want, group=replace(world.want.group, template=template))
        elif names and event != "wait":
            victim = data.draw(st.sampled_from(names))
            if event == "kill":
                world.vms[victim].dead = True
            elif event == "remove":
                del world.vms[victim]
            else:
                world.vms[victim].unhealthy = True
        for _ in range(data.draw(st.integers(1, 15))):
            world.tick()
    world.until(lambda: world.settled() and world.available() == world.want.size)
    assert set(world.vms) == {member.name for member in world.members}


def test_members_survive_the_store() -> None:
    world = settled_world(size=2)
    assert [Member.of(member.as_json()) for member in world.members] == world.members


def test_two_repairs_and_a_resize_do_not_touch_one_member_twice() -> None:
    world = settled_world(size=3)
    for member in world.members:
        world.vms[member.name].dead = True
    world.want = want(size=1)
    seen = {member.name: world.see(member) for member in world.members}
    steps = plan(world.want, world.members, seen, world.now)
    deleted = [step.name for step in steps if isinstance(step, Retire) and step.action == "DELETING"]
    assert len(deleted) == len(set(deleted)) == 2
