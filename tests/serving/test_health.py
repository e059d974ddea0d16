"""Serving health, liveness and repair: what canaries and counts of GPUs lead to."""

from __future__ import annotations

from pathlib import Path

import pytest

from serving import health
from serving.boot import BootMark
from serving.health import DEAD_S, HUNG_S, LATELY_S, LOADING_S, STALE_S, ModelHealth, StatusFile, VmHealth, repair


def vm(*gpus: int, passed: float | None = 0.0) -> VmHealth:
    """A VM with two models a GPU, whose canaries passed at `passed`."""
    models = {
        f"{form}{gpu}": ModelHealth(f"{form}{gpu}", gpu, last_pass=passed)
        for gpu in gpus
        for form in ("image", "tensor")
    }
    return VmHealth(started=0.0, models=models, gpus_expected=len(gpus), gpus_seen=len(gpus), triton="")


def test_a_vm_serves_while_every_canary_passes() -> None:
    status = vm(0, 1).status(1.0)
    assert (status.serving, status.live, status.state, status.gpus) == (True, True, "AVAILABLE", (0, 1))


def test_one_failed_canary_takes_the_vm_out_of_rotation_at_once() -> None:
    machine = vm(0, 1)
    machine.models["tensor1"].failed(1.0, "Stub process is not healthy")
    status = machine.status(1.0)
    assert not status.serving
    assert status.live
    assert status.reason == "tensor1: Stub process is not healthy"
    assert status.gpus == (0,)


def test_a_late_canary_is_forgiven_for_a_while_only() -> None:
    machine = vm(0)
    machine.models["image0"].unanswered(9.0)
    assert machine.status(LATELY_S).serving
    assert not machine.status(LATELY_S + 0.1).serving


def test_a_vm_is_not_live_before_it_first_serves() -> None:
    """A group manager takes the first live answer for readiness and would delete an old VM on it."""
    machine = vm(0, passed=None)
    machine.triton = "loading image0"
    status = machine.status(1.0)
    assert (status.serving, status.live, status.state) == (False, False, "LOADING")
    assert status.reason == "has not served since the VM booted: Triton: loading image0"
    machine.triton = ""
    for model in machine.models.values():
        model.passed(2.0)
    status = machine.status(2.0)
    assert (status.serving, status.live) == (True, True)


def test_loading_again_is_not_serving_but_live() -> None:
    machine = vm(0, passed=None)
    machine.triton = "loading image0"
    machine.served_before = True
    for now in (1.0, DEAD_S + 1, LOADING_S):
        status = machine.status(now)
        assert (status.serving, status.live, status.state) == (False, True, "LOADING")
        assert status.reason == "Triton: loading image0"
    assert not machine.status(LOADING_S + 1).live


def test_the_boot_mark_outlives_the_supervisor_but_not_the_boot(tmp_path: Path) -> None:
    boot_id = tmp_path / "boot_id"
    boot_id.write_text("one")
    mark = BootMark(tmp_path / "mark", boot_id)
    assert not mark.served_before()
    mark.serves()
    assert BootMark(tmp_path / "mark", boot_id).served_before()
    boot_id.write_text("two")
    assert not mark.served_before()


def test_triton_going_away_is_not_serving_at_once_and_no_gpu_takes_requests() -> None:
    machine = vm(0)
    machine.triton = "ended; it is started again"
    status = machine.status(0.1)
    assert (status.serving, status.live, status.gpus) == (False, True, ())


def test_draining_is_not_serving_but_live_and_its_gpus_serve_on() -> None:
    machine = vm(0)
    machine.draining = "preempted"
    status = machine.status(1.0)
    assert (status.serving, status.live, status.draining, status.gpus) == (False, True, True, (0,))
    assert status.state == "UNLOADING"
    assert status.reason == "draining: preempted"


def test_a_lost_gpu_makes_the_vm_not_live() -> None:
    machine = vm(0, 1)
    machine.gpus_seen = 1
    status = machine.status(1.0)
    assert (status.serving, status.live) == (False, False)
    assert status.reason == "1 of 2 GPUs are visible"


def test_canaries_failing_for_five_minutes_make_the_vm_not_live() -> None:
    machine = vm(0)
    machine.models["image0"].failed(10.0, "no")
    machine.models["image0"].failed(200.0, "no")
    assert machine.status(10.0 + DEAD_S).live
    assert not machine.status(10.1 + DEAD_S).live
    machine.models["image0"].passed(11.0 + DEAD_S)
    assert machine.status(11.0 + DEAD_S).live


def test_giving_up_makes_the_vm_not_live() -> None:
    machine = vm(0)
    machine.given_up = "triton ended too often"
    assert machine.status(1.0).live is False
    assert machine.status(1.0).reason == "triton ended too often"


def test_a_dead_stub_is_loaded_again_then_triton_restarted() -> None:
    model = ModelHealth("m", 0, last_pass=0.0)
    assert repair(model, 1.0) == "none"
    model.failed(1.0, "Stub process is not healthy")
    assert repair(model, 1.0) == "reload"
    model.repaired()
    assert repair(model, 2.0) == "none"
    model.failed(3.0, "Stub process is not healthy")
    assert repair(model, 3.0) == "none", "one error after a reload may have been on its way"
    model.failed(5.0, "Stub process is not healthy")
    assert repair(model, 5.0) == "restart"
    model.restarted()
    assert repair(model, 6.0) == "none"
    model.failed(7.0, "no")
    assert repair(model, 7.0) == "reload"
    model.passed(8.0)
    model.failed(9.0, "no")
    assert repair(model, 9.0) == "reload"


def test_silence_restarts_triton_only_after_a_minute() -> None:
    model = ModelHealth("m", 0, last_pass=0.0)
    model.unanswered(10.0)
    assert repair(model, 10.0 + HUNG_S) == "none"
    assert repair(model, 10.1 + HUNG_S) == "restart"


@pytest.fixture
def status_file(tmp_path: Path) -> tuple[StatusFile, list[float]]:
    """A status file and its reader's clock."""
    clock = [0.0]
    return StatusFile(tmp_path / "status.json", lambda: clock[0]), clock


def test_a_status_is_read_as_it_was_written(status_file: tuple[StatusFile, list[float]]) -> None:
    file, _ = status_file
    written = vm(0, 1).status(0.0)
    file.write(written)
    assert file.read() == written


def test_a_missing_status_is_starting_not_serving_and_live(status_file: tuple[StatusFile, list[float]]) -> None:
    file, _ = status_file
    status = file.read()
    assert (status.serving, status.live, status.reason) == (False, True, "starting")


def test_a_stale_status_is_not_serving_and_in_the_end_not_live(status_file: tuple[StatusFile, list[float]]) -> None:
    file, clock = status_file
    file.write(vm(0).status(0.0))
    clock[0] = STALE_S
    assert file.read().serving
    clock[0] = STALE_S + 1
    status = file.read()
    assert (status.serving, status.live) == (False, True)
    assert "the supervisor has said nothing for 11 s" in status.reason
    clock[0] = DEAD_S + 1
    assert not file.read().live


def test_a_new_status_is_seen_at_once(status_file: tuple[StatusFile, list[float]]) -> None:
    file, _ = status_file
    machine = vm(0)
    for draining in ("", "SIGTERM", ""):
        machine.draining = draining
        file.write(machine.status(0.0))
        assert file.read().serving is not bool(draining)


def test_canary_ages(tmp_path: Path) -> None:
    del tmp_path
    models = [ModelHealth("a", 0, last_pass=4.0), ModelHealth("b", 0)]
    assert health.canary_ages(models, 10.0) == {"a": 6.0, "b": float("inf")}
