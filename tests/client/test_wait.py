from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from client.errors import ClientError, UnavailableError
from client.fleet import FleetState, last_script_line
from client.wait import Clock, wait
from tests.client.conftest import Run
from tests.client.google_fake import GoogleFake
from tests.client.test_rollout import ARRIVED, health, instance

pytestmark = pytest.mark.usefixtures("pulumi")
READY = FleetState(groups=(ARRIVED,))
BOOTING = FleetState(
    groups=(replace(ARRIVED, instances=(instance("vm-a", currentAction="CREATING"), instance("vm-b"))),)
)
SICK = FleetState(groups=(replace(ARRIVED, health=(health("vm-a", "UNHEALTHY"), health("vm-b"))),))


class ScriptedFleet:
    """States by the time on a clock that only sleeping moves."""

    def __init__(self, state_at: Callable[[float], FleetState], consoles: dict[str, str] | None = None) -> None:
        self.time = 0.0
        self._state_at = state_at
        self._consoles = consoles or {}
        self.clock = Clock(now=lambda: self.time, sleep=self._sleep)
        self.said: list[str] = []

    def _sleep(self, seconds: float) -> None:
        assert seconds > 0, "polling must not spin"
        self.time += seconds

    def state(self) -> FleetState:
        return self._state_at(self.time)

    def startup_script_line(self, project: str, zone: str, vm: str) -> str:
        assert (project, zone) == ("p", "us-central1-a")
        if vm not in self._consoles:
            raise ClientError("no such VM", "")
        return self._consoles[vm]

    def wait(self, timeout_s: float) -> None:
        wait(self, timeout_s, self.said.append, self.clock)


def test_returns_at_once_when_the_fleet_has_arrived() -> None:
    fleet = ScriptedFleet(lambda _: READY)
    fleet.wait(100)
    assert fleet.time == 0
    assert fleet.said == ["[   0 s] g 2 of 2 VMs healthy; versions, stability and health agree"]


def test_says_a_line_a_change_and_one_a_minute() -> None:
    fleet = ScriptedFleet(lambda time: BOOTING if time < 130 else READY)
    fleet.wait(600)
    assert [line[:8] for line in fleet.said] == ["[   0 s]", "[  60 s]", "[ 120 s]", "[ 130 s]"]
    assert "vm-a (us-central1-a): CREATING" in fleet.said[0]


def test_time_out_names_vm_zone_reason_and_the_scripts_last_line() -> None:
    fleet = ScriptedFleet(lambda _: SICK, {"vm-a": "artifact is refused: sha256 differs"})
    with pytest.raises(ClientError) as caught:
        fleet.wait(42)
    assert fleet.time == 42
    assert (
        "\n  vm-a (us-central1-a): UNHEALTHY for the load balancer: "
        "startup script said: artifact is refused: sha256 differs\n`python -m client status`" in str(caught.value)
    )


def test_time_out_without_a_console_still_names_the_vm() -> None:
    fleet = ScriptedFleet(lambda _: BOOTING)
    with pytest.raises(ClientError, match=r"vm-a \(us-central1-a\): CREATING"):
        fleet.wait(10)


def test_passing_outage_of_the_api_does_not_end_the_wait() -> None:
    def state(time: float) -> FleetState:
        if time < 20:
            raise UnavailableError("compute answered 503", "")
        return READY

    fleet = ScriptedFleet(state)
    fleet.wait(60)
    assert fleet.said[0] == "[   0 s] cannot tell: compute answered 503"


def test_lasting_outage_is_the_reason_given() -> None:
    def state(_: float) -> FleetState:
        raise UnavailableError("compute answered 503", "")

    with pytest.raises(ClientError, match="compute answered 503"):
        ScriptedFleet(state).wait(10)


def test_refusal_ends_the_wait() -> None:
    def state(_: float) -> FleetState:
        raise ClientError("403", "")

    fleet = ScriptedFleet(state)
    with pytest.raises(ClientError, match="403"):
        fleet.wait(10)
    assert fleet.time == 0


@pytest.mark.parametrize(
    ("console", "expected"),
    [
        ("", ""),
        ("[    0.0] Linux version 6.8\nlogin:", ""),
        (
            "vm script_runner[9]: startup-script: fetching\nvm: startup-script: serving\nother\n",
            "serving",
        ),
        ("x: startup-script: sha256 differs\nx: startup-script exit status 1\n", "sha256 differs (exit status 1)"),
        ("x: startup-script: sha256 differs\nx: startup-script: exit status 1\n", "sha256 differs (exit status 1)"),
        (
            'x: startup-script: gone\nx: Script "startup-script" failed with error: exit status 7\n',
            "gone (exit status 7)",
        ),
        ("x: startup-script exit status 1\n", "(exit status 1)"),
        ("x: startup-script: done\nx: startup-script exit status 0\n", "done"),
        ("x: startup-script: first\nx: startup-script:   \n", "first"),
    ],
)
def test_last_line_of_the_startup_script(console: str, expected: str) -> None:
    assert last_script_line(console) == expected


def test_command_waits_through_the_apis(run: Run, google: GoogleFake) -> None:
    outcome = run("wait", "--timeout", "5")
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.endswith(" s] fleet-main 2 of 2 VMs healthy; versions, stability and health agree\n")
    assert "POST /compute/v1/projects/my-project/global/backendServices/fleet-backend/getHealth" in google.calls


def test_command_fails_with_1_and_names_the_vm(run: Run, google: GoogleFake) -> None:
    google.health[1]["healthState"] = "UNHEALTHY"
    google.consoles["vm-b"] = "vm-b runner[1]: startup-script: waiting for 4 GPUs, nvidia-smi lists 3\n"
    outcome = run("wait", "--timeout", "0")
    assert outcome.code == 1
    assert "vm-b (us-central1-b): UNHEALTHY for the load balancer: startup script said: waiting for 4" in outcome.err
