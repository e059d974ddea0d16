"""The group manager over the store, with a host that only changes statuses."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sandbox.compute.declared import Group, group
from sandbox.compute.groups import GroupManager, desired_size
from sandbox.compute.instances import quota_fault
from sandbox.compute.records import (
    AUTOSCALER,
    GROUP,
    HEALTH,
    AutoscalerRecord,
    GroupRecord,
    HealthRecord,
    group_record,
    instances,
    put_record,
)
from sandbox.machine.instance import Instance
from sandbox.store import INSTANCE, RESOURCE, Store
from tests.sandbox_control import world


class Rig:
    """A store, a group manager, and what a machine host and health checkers would do in no time."""

    def __init__(self, state: Path, **settings: Any) -> None:
        self.settings = world.settings(state, **settings)
        self.store = Store(state / "store.db")
        self.manager = GroupManager(self.settings, self.store)
        self.healthy = True

    async def rounds(self, count: int = 8) -> None:
        for _ in range(count):
            await self.manager.reconcile()
            for vm in self.vms():
                if vm.desired == "DELETED":
                    self.store.delete(INSTANCE, vm.key)
                elif vm.status == "PROVISIONING":
                    world.set_status(self.store, vm.key, status="RUNNING")
                elif self.healthy:
                    self.probe(vm)

    def probe(self, vm: Instance) -> None:
        for check in (world.SERVING_CHECK, world.LIVENESS_CHECK):
            health = HealthRecord(
                check=check,
                instance=vm.key,
                instance_id=vm.numeric_id,
                port=world.PORT,
                state="HEALTHY",
                reason="200",
                since=0.0,
            )
            put_record(self.store, HEALTH, health.name, health)

    def vms(self) -> list[Instance]:
        return list(instances(self.store))

    @property
    def record(self) -> GroupRecord:
        found = group_record(self.store, world.GROUP)
        assert found is not None
        return found

    def told(self) -> str:
        return "\n".join(text for _, _, text in self.store.events())


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    one = Rig(tmp_path)
    world.declare_template(one.store, "v1")
    world.declare_group(one.store, "v1")
    world.declare_check(one.store, world.LIVENESS_CHECK, "/alive")
    yield one
    one.store.close()


async def test_instances_are_what_their_template_says(rig: Rig) -> None:
    world.declare_template(rig.store, "v1", gpus=4, spot=True)
    await rig.rounds()
    first, second = rig.vms()
    assert first.name.startswith("serve-")
    assert len(first.name) == len("serve-xxxx")
    assert {first.zone, second.zone} == set(world.ZONES)
    assert first.address != second.address
    assert first.numeric_id.isdigit()
    assert first.numeric_id != second.numeric_id
    assert (first.gpus, first.gpu_type, first.machine_type) == (4, "nvidia-tesla-t4", "n1-standard-2")
    assert (first.metadata, first.tags, first.service_account) == ({"version": "v1"}, ["http-server"], world.ACCOUNT)
    assert (first.preemptible, first.automatic_restart, first.stop_notice_s) == (True, False, 30.0)
    assert (first.template, first.created_by) == (world.template_link("v1"), world.GROUP)
    assert rig.record.stable


async def test_quota_faults_are_googles_and_end_when_there_is_room(tmp_path: Path) -> None:
    rig = Rig(tmp_path, quotas={"NVIDIA_T4_GPUS": 4})
    world.declare_template(rig.store, "v1", gpus=4)
    world.declare_group(rig.store, "v1")
    world.declare_check(rig.store, world.LIVENESS_CHECK, "/alive")
    await rig.rounds()
    assert len(rig.vms()) == 1
    [blocked] = [member for member in rig.record.members if member.faults]
    [fault] = blocked.faults
    assert fault.code == "QUOTA_EXCEEDED"
    assert fault.message == "Quota 'NVIDIA_T4_GPUS' exceeded.  Limit: 4.0 in region us-central1."
    assert (blocked.action, rig.record.stable) == ("CREATING", False)
    assert rig.told().count("QUOTA_EXCEEDED") == 1
    world.declare_group(rig.store, "v1", size=1)
    await rig.rounds()
    assert rig.record.stable
    assert len(rig.vms()) == 1


def exhausted(tmp_path: Path, *zones: str, shape: str) -> Rig:
    rig = Rig(tmp_path, stockouts={"nvidia-tesla-t4": frozenset(zones)})
    world.declare_template(rig.store, "v1", gpus=1)
    world.declare_group(rig.store, "v1", distributionPolicyTargetShape=shape)
    world.declare_check(rig.store, world.LIVENESS_CHECK, "/alive")
    return rig


async def test_an_even_group_waits_for_a_zone_without_capacity(tmp_path: Path) -> None:
    rig = exhausted(tmp_path, world.ZONES[0], shape="EVEN")
    await rig.rounds()
    [vm] = rig.vms()
    assert vm.zone == world.ZONES[1]
    [waiting] = [member for member in rig.record.members if member.faults]
    assert (waiting.zone, waiting.action, rig.record.stable) == (world.ZONES[0], "CREATING", False)
    [fault] = waiting.faults
    assert fault.code == "ZONE_RESOURCE_POOL_EXHAUSTED"
    assert fault.message.startswith(
        f"The zone 'projects/{world.PROJECT}/zones/{world.ZONES[0]}' does not have enough resources available"
    )
    assert rig.told().count("ZONE_RESOURCE_POOL_EXHAUSTED") == 1


async def test_a_balanced_group_goes_where_there_is_capacity(tmp_path: Path) -> None:
    rig = exhausted(tmp_path, world.ZONES[0], shape="BALANCED")
    await rig.rounds()
    assert [vm.zone for vm in rig.vms()] == [world.ZONES[1]] * 2
    assert rig.record.stable


async def test_a_region_without_capacity_leaves_a_balanced_group_without_vms(tmp_path: Path) -> None:
    rig = exhausted(tmp_path, *world.ZONES, shape="BALANCED")
    await rig.rounds()
    assert not rig.vms()
    assert {fault.code for member in rig.record.members for fault in member.faults} == {"ZONE_RESOURCE_POOL_EXHAUSTED"}


async def test_other_machines_are_had_in_a_zone_without_gpus(tmp_path: Path) -> None:
    rig = exhausted(tmp_path, *world.ZONES, shape="EVEN")
    world.declare_template(rig.store, "v1", gpus=0)
    await rig.rounds()
    assert {vm.zone for vm in rig.vms()} == set(world.ZONES)


async def test_gpus_of_stopped_instances_and_other_regions_leave_the_quota_alone(rig: Rig) -> None:
    world.declare_template(rig.store, "v1", gpus=4)
    await rig.rounds()
    first, second = rig.vms()
    limits = {"NVIDIA_T4_GPUS": 8}
    assert quota_fault(replace(first, name="third"), [first, second], limits) is not None
    assert quota_fault(replace(first, name="third"), [first, replace(second, status="TERMINATED")], limits) is None
    assert quota_fault(replace(first, name="third"), [first, replace(second, zone="europe-west4-a")], limits) is None
    spot = replace(first, name="third", preemptible=True)
    assert quota_fault(spot, [first, second], {**limits, "PREEMPTIBLE_NVIDIA_T4_GPUS": 4}) is None


async def test_a_deleted_group_takes_its_instances_and_addresses_along(rig: Rig) -> None:
    await rig.rounds()
    assert len(rig.vms()) == 2
    rig.store.delete(RESOURCE, world.GROUP)
    await rig.rounds()
    assert not rig.vms()
    assert group_record(rig.store, world.GROUP) is None
    assert not list(rig.store.items("address"))


async def test_a_crash_between_the_two_writes_of_a_creation_leaves_no_orphan(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = Store.put

    def crash_at_instances(store: Store, kind: str, name: str, value: dict[str, object]) -> None:
        if kind == INSTANCE:
            raise KeyboardInterrupt
        put(store, kind, name, value)

    monkeypatch.setattr(Store, "put", crash_at_instances)
    with pytest.raises(KeyboardInterrupt):
        await rig.manager.reconcile()
    monkeypatch.undo()
    names = {member.name for member in rig.record.members}
    assert len(names) == 2
    assert not rig.vms()
    rig.manager = GroupManager(rig.settings, rig.store)
    await rig.rounds()
    assert {vm.name for vm in rig.vms()} == names


async def test_an_instance_of_a_forgotten_group_is_ended(rig: Rig) -> None:
    await rig.rounds()
    stray = replace(rig.vms()[0], name="serve-zzzz")
    rig.store.put(INSTANCE, stray.key, stray.as_json())
    await rig.rounds()
    assert "serve-zzzz" not in {vm.name for vm in rig.vms()}
    assert len(rig.vms()) == 2


async def test_an_instance_that_belongs_to_no_group_is_left_alone(rig: Rig) -> None:
    await rig.rounds()
    own = replace(rig.vms()[0], name="builder", created_by="")
    rig.store.put(INSTANCE, own.key, own.as_json())
    await rig.rounds()
    assert "builder" in {vm.name for vm in rig.vms()}


async def test_a_changed_template_rolls_the_group(rig: Rig) -> None:
    await rig.rounds()
    before = {vm.name for vm in rig.vms()}
    world.declare_template(rig.store, "v2")
    world.declare_group(rig.store, "v2")
    await rig.rounds(12)
    assert rig.record.stable
    assert rig.record.reached
    assert {vm.metadata["version"] for vm in rig.vms()} == {"v2"}
    assert not before & {vm.name for vm in rig.vms()}


async def test_an_update_heeds_the_autohealing_check_alone(rig: Rig) -> None:
    world.declare_service(rig.store, draining_s=0)
    world.declare_check(rig.store, world.SERVING_CHECK, "/health")
    await rig.rounds()
    old = {vm.name for vm in rig.vms()}
    world.declare_template(rig.store, "v2")
    world.declare_group(rig.store, "v2")
    rig.healthy = False
    await rig.rounds()
    fresh = [vm for vm in rig.vms() if vm.name not in old]
    assert len(fresh) == 2
    for vm in fresh:
        rig.probe(vm)
        rig.store.delete(HEALTH, f"{world.SERVING_CHECK}|{vm.key}|{world.PORT}")
    await rig.rounds(12)
    assert not old & {vm.name for vm in rig.vms()}


async def test_a_repair_falls_back_to_the_groups_template_when_its_own_was_deleted(rig: Rig) -> None:
    world.declare_group(rig.store, "v1", update={"type": "OPPORTUNISTIC"})
    await rig.rounds()
    world.declare_template(rig.store, "v2")
    world.declare_group(rig.store, "v2", update={"type": "OPPORTUNISTIC"})
    rig.store.delete(RESOURCE, world.template_id("v1"))
    victim = rig.vms()[0]
    rig.store.delete(INSTANCE, victim.key)
    await rig.rounds()
    assert {vm.name: vm.metadata["version"] for vm in rig.vms()}[victim.name] == "v2"


async def test_a_missing_template_is_a_fault_of_the_members(rig: Rig) -> None:
    rig.store.delete(RESOURCE, world.template_id("v1"))
    await rig.rounds()
    assert not rig.vms()
    assert {fault.code for member in rig.record.members for fault in member.faults} == {"RESOURCE_NOT_FOUND"}


async def test_what_is_not_modelled_is_said_and_changes_nothing(rig: Rig) -> None:
    await rig.rounds()
    names = {vm.name for vm in rig.vms()}
    world.declare_group(rig.store, "v1", update={"maxSurgePercent": 50})
    await rig.rounds()
    assert "maxSurgePercent" in rig.record.error
    assert {vm.name for vm in rig.vms()} == names


async def test_the_autoscaler_decides_the_size(rig: Rig) -> None:
    world.declare_group(rig.store, "v1", size=None)
    await rig.rounds()
    assert not rig.vms()
    policy = {"minReplicas": 1, "maxReplicas": 5}
    inputs = {"target": world.GROUP, "autoscalingPolicy": policy}
    world.declare(rig.store, "gcp:compute/regionAutoscaler:RegionAutoscaler", world.AUTOSCALER, inputs)
    put_record(
        rig.store, AUTOSCALER, world.AUTOSCALER, AutoscalerRecord(target=world.GROUP, recommended=3, status="ACTIVE")
    )
    await rig.rounds()
    assert len(rig.vms()) == rig.record.target_size == 3


def declared_group(tmp_path: Path, size: int | None) -> Group:
    store = Store(tmp_path / "sizes.db")
    world.declare_group(store, "v1", size=size)
    record = store.get(RESOURCE, world.GROUP)
    assert record is not None
    record["state"]["targetSize"] = 0
    return group(world.GROUP, record)


@pytest.mark.parametrize(
    ("mode", "sizes", "expected"),
    [
        ("ON", (3, None, 5), 3),
        ("ON", (None, None, 5), 5),
        ("ONLY_SCALE_OUT", (3, None, 5), 5),
        ("ONLY_SCALE_OUT", (6, None, 5), 6),
        ("OFF", (3, None, 5), 5),
        ("OFF", (3, 0, 5), 0),
        ("OFF", (None, None, 0), 0),
    ],
)
def test_size_by_mode(tmp_path: Path, mode: str, sizes: tuple[int | None, int | None, int], expected: int) -> None:
    recommended, declared, previous = sizes
    record = None if recommended is None else AutoscalerRecord(target="", recommended=recommended, status="ACTIVE")
    assert desired_size(declared_group(tmp_path, declared), record, mode, previous=previous) == expected


async def test_a_quiet_group_writes_nothing(rig: Rig) -> None:
    await rig.rounds()
    revision = rig.store.revision
    await rig.rounds()
    assert rig.store.revision == revision
    assert rig.store.get(GROUP, world.GROUP)
