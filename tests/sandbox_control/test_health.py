"""Health checkers against toy servers on loopback."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.compute.declared import HealthCheck, UnmodelledError, health_check
from sandbox.compute.groups import GroupManager
from sandbox.compute.health import Answer, HealthCheckers, Tally, blocked_by
from sandbox.compute.records import HealthRecord, health_records, instances
from sandbox.compute.rollout import Health
from sandbox.store import RESOURCE, Store
from tests.sandbox_control import world

CHECK = HealthCheck(
    id="c",
    probe="http",
    port=1,
    path="/",
    host="",
    expected="",
    interval_s=1,
    timeout_s=1,
    healthy_threshold=2,
    unhealthy_threshold=3,
)


@given(st.lists(st.sampled_from(["HEALTHY", "UNHEALTHY", "TIMEOUT"]), max_size=30))
def test_a_state_changes_only_after_as_many_answers_in_a_row_as_its_threshold(states: list[Health]) -> None:
    tally = Tally()
    for index, state in enumerate(states):
        before, tally = tally, tally.after(Answer(state, ""), CHECK)
        last = [answer == "HEALTHY" for answer in states[: index + 1]]
        if all(last[-2:]) and len(last) >= 2:
            assert tally.state == "HEALTHY"
        elif not any(last[-3:]) and len(last) >= 3:
            assert tally.state == state
        else:
            assert tally.state == before.state


class Rig:
    def __init__(self, state: Path) -> None:
        self.settings = world.settings(state)
        self.store = Store(state / "store.db")
        self.host = world.ToyHost(self.store)
        self.checkers = HealthCheckers(self.settings, self.store)

    def toy(self) -> world.Toy:
        [toy] = self.host.toys.values()
        return toy

    def of(self, check: str) -> HealthRecord | None:
        return next((record for record in health_records(self.store) if record.check == check), None)

    async def sees(self, check: str, state: Health, reason: str) -> None:
        def seen() -> bool:
            record = self.of(check)
            return record is not None and record.state == state and reason in record.reason

        await world.eventually(seen, self.store)


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    one = Rig(tmp_path)
    for check, path in ((world.SERVING_CHECK, "/health"), (world.LIVENESS_CHECK, "/alive")):
        world.declare_check(one.store, check, path, checkIntervalSec=0.1, timeoutSec=0.1)
    world.declare_firewall(one.store, "130.211.0.0/22", "35.191.0.0/16")
    world.declare_service(one.store)
    world.declare_template(one.store, "v1")
    world.declare_group(one.store, "v1", size=1)
    async with world.running(one.host, GroupManager(one.settings, one.store), one.checkers):
        await world.eventually(lambda: bool(one.host.toys), one.store)
        yield one


async def test_each_check_of_an_instance_has_its_own_health_with_the_answer_that_decided(rig: Rig) -> None:
    await rig.sees(world.SERVING_CHECK, "HEALTHY", "200")
    await rig.sees(world.LIVENESS_CHECK, "HEALTHY", "alive")
    rig.toy().health = 503
    await rig.sees(world.SERVING_CHECK, "UNHEALTHY", f"503 {rig.toy().name} health")
    record = rig.of(world.LIVENESS_CHECK)
    assert record is not None
    assert record.state == "HEALTHY"


async def test_a_redirect_is_not_healthy(rig: Rig) -> None:
    rig.toy().health = 302
    await rig.sees(world.SERVING_CHECK, "UNHEALTHY", "302")


async def test_without_a_firewall_rule_for_the_probes_they_time_out(rig: Rig) -> None:
    await rig.sees(world.SERVING_CHECK, "HEALTHY", "200")
    world.declare_firewall(rig.store, "35.191.0.0/16")
    await rig.sees(world.SERVING_CHECK, "TIMEOUT", "firewall: 130.211.0.0/22 may not reach tcp:8888")
    rig.store.delete(RESOURCE, world.FIREWALL)
    await rig.sees(world.SERVING_CHECK, "TIMEOUT", "35.191.0.0/16 may not reach tcp:8888: no rule allows it")


async def test_a_server_that_hangs_or_is_gone_is_told_apart(rig: Rig) -> None:
    await rig.sees(world.SERVING_CHECK, "HEALTHY", "200")
    world.declare_check(rig.store, world.SERVING_CHECK, "/slow", checkIntervalSec=0.1, timeoutSec=0.1)
    rig.toy().delay_s = 60.0
    await rig.sees(world.SERVING_CHECK, "TIMEOUT", "no answer within 0.1 s")
    await rig.toy().stop()
    await rig.sees(world.SERVING_CHECK, "UNHEALTHY", "Connection refused")


async def test_the_expected_text_must_be_in_the_answer(rig: Rig) -> None:
    spec = {"port": world.PORT, "requestPath": "/health", "response": "ready"}
    world.declare_check(rig.store, world.SERVING_CHECK, "", httpHealthCheck=spec, checkIntervalSec=0.1, timeoutSec=0.1)
    await rig.sees(world.SERVING_CHECK, "UNHEALTHY", "expected 'ready'")


async def test_a_tcp_check_connects_to_the_serving_port(rig: Rig) -> None:
    inputs = {"checkIntervalSec": 0.1, "timeoutSec": 0.1, "tcpHealthCheck": {"portSpecification": "USE_SERVING_PORT"}}
    world.declare(rig.store, "gcp:compute/healthCheck:HealthCheck", world.SERVING_CHECK, inputs)
    await rig.sees(world.SERVING_CHECK, "HEALTHY", "connected")


async def test_health_goes_with_its_instance(rig: Rig) -> None:
    await rig.sees(world.SERVING_CHECK, "HEALTHY", "200")
    world.declare_group(rig.store, "v1", size=0)
    await world.eventually(lambda: not list(health_records(rig.store)), rig.store)


async def test_a_restarted_checker_keeps_what_was_known(rig: Rig, tmp_path: Path) -> None:
    await rig.sees(world.SERVING_CHECK, "HEALTHY", "200")
    await rig.checkers.stop()
    since = rig.of(world.SERVING_CHECK)
    rig.checkers = HealthCheckers(world.settings(tmp_path), rig.store)
    async with world.running(rig.checkers):
        rig.toy().health = 503
        await rig.sees(world.SERVING_CHECK, "UNHEALTHY", "503")
    assert since is not None
    states = [text for _, _, text in rig.store.events() if text.startswith("serving:")]
    assert [text.split()[1] for text in states] == ["HEALTHY", "UNHEALTHY"]


async def test_a_stopped_sandbox_starts_with_no_health_of_vms_that_do_not_run(rig: Rig) -> None:
    await rig.sees(world.SERVING_CHECK, "HEALTHY", "200")
    await rig.checkers.stop()
    [vm] = instances(rig.store)
    world.set_status(rig.store, vm.key, status="TERMINATED", desired="TERMINATED")
    await rig.toy().stop()
    rig.checkers = HealthCheckers(rig.settings, rig.store)
    async with world.running(rig.checkers):
        assert rig.of(world.SERVING_CHECK) is None


def test_checks_that_are_not_modelled_are_named() -> None:
    with pytest.raises(UnmodelledError, match="HTTP, HTTPS and TCP"):
        health_check("c", {"grpcHealthCheck": {"port": 1}})
    with pytest.raises(UnmodelledError, match="portName"):
        health_check("c", {"httpHealthCheck": {"portName": "http"}})


async def test_the_firewall_judges_by_the_instances_own_network_tags_and_account(rig: Rig) -> None:
    await rig.sees(world.SERVING_CHECK, "HEALTHY", "200")
    [vm] = instances(rig.store)
    assert blocked_by(rig.store, vm, world.PORT) == ""
    assert "no rule" in blocked_by(rig.store, vm, 22)
    vm.service_account = "other"
    assert "no rule" in blocked_by(rig.store, vm, world.PORT)
