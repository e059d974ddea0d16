"""An `up` that is crashed at any point, and then run again, ends where it would have ended."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.crash.crashes import SIZE, STACK, Crashed, Point, running_parts

pytestmark = pytest.mark.servers


@pytest.fixture(scope="module")
def crashed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Crashed]:
    """A running sandbox, shared: what one crash leaves is where the next begins."""
    state = tmp_path_factory.mktemp("crash") / "state"
    state.mkdir()
    (state / "sandbox.json").write_text(json.dumps({"bootDelayS": 0.05}))
    one = Crashed(state.resolve())
    one.run("start")
    yield one
    one.run("down")
    left = one.processes()
    for process in left:
        process.kill()
    assert left == []


def test_an_up_that_was_crashed_converges_when_it_runs_again(crashed: Crashed, seed: int) -> None:
    point = Point.of(seed)
    if point.fresh and crashed.version:
        crashed.run("destroy", STACK)
    crashed.crash_an_up(point)
    crashed.run("up", STACK)
    group, vms = crashed.settled_group()
    assert group.target_size == len(vms) == SIZE
    assert sorted(member.name for member in group.members) == sorted(vm.name for vm in vms)
    assert [vm.status for vm in vms] == ["RUNNING"] * SIZE
    assert len({vm.address for vm in vms}) == SIZE
    assert {vm.metadata["version"] for vm in vms} == {str(crashed.version)}
    machines, programs = running_parts(crashed)
    assert machines == {vm.key: 1 for vm in vms}
    assert programs == {"sandbox.daemon": 1, "envoy": 1, "fake-gcs-server-linux-amd64": 1}
    crashed.run("preview", STACK, "--", "--expect-no-changes")
    assert "unowned" not in crashed.run("status")


def test_the_crashes_were_in_the_middle_of_runs(crashed: Crashed) -> None:
    """Or the points above prove nothing. How many are is chance, and the machine's speed."""
    assert crashed.interrupted >= max(1, crashed.version // 5)
