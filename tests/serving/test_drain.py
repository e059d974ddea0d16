"""The order in which a VM leaves service."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from serving.drain import TRITON_GRACE_S, drain


class Vm:
    """Notes what happens, and when by its own clock, which only waiting and stopping move on."""

    def __init__(self, worker_s: float = 1.0) -> None:
        self.now = 100.0
        self.events: list[tuple[float, str]] = []
        self.graces: dict[str, float] = {}
        self._worker_s = worker_s

    def note(self, what: str) -> None:
        self.events.append((self.now - 100, what))

    def part(self, name: str, seconds: float) -> Any:
        vm = self

        class Part:
            async def stop(self, grace_s: float) -> None:
                vm.graces[name] = grace_s
                vm.note(f"stop {name}")
                await asyncio.sleep(0)
                vm.now += min(seconds, grace_s)
                vm.note(f"{name} stopped")

        return Part()

    async def leave(self, *, drain_s: float = 12.0, hurry_after: float | None = None) -> None:
        async def wait(event: asyncio.Event, seconds: float) -> None:
            del event
            self.now += max(0.0, seconds if hurry_after is None else min(seconds, hurry_after))

        await drain(
            began=100.0,
            drain_s=drain_s,
            finish_s=25.0,
            hurry=asyncio.Event(),
            stop_listening=lambda: self.note("stop listening"),
            workers=[self.part("gateway", self._worker_s)],
            others=[self.part("agent", 0.1)],
            triton=self.part("triton", 1.0),
            clock=lambda: self.now,
            wait=wait,
        )

    @property
    def order(self) -> list[str]:
        return [what for _, what in self.events]


async def test_it_serves_on_for_twelve_seconds_and_triton_goes_last() -> None:
    vm = Vm()
    await vm.leave()
    assert vm.events[0] == (12.0, "stop listening")
    assert vm.order == [
        "stop listening",
        "stop gateway",
        "gateway stopped",
        "stop agent",
        "agent stopped",
        "stop triton",
        "triton stopped",
    ]


async def test_requests_in_flight_have_until_the_25th_second() -> None:
    vm = Vm(worker_s=60.0)
    await vm.leave()
    assert vm.graces["gateway"] == 13.0
    assert {what: at for at, what in vm.events}["gateway stopped"] == 25.0
    assert vm.now - 100 < 30, "a Spot VM is gone after 30 s"
    assert vm.graces["triton"] == TRITON_GRACE_S


async def test_a_drain_that_began_with_a_notice_is_not_begun_again() -> None:
    vm = Vm()
    vm.now += 40
    await vm.leave()
    assert vm.events[0] == (40.0, "stop listening")
    assert vm.graces["gateway"] == 13.0


@pytest.mark.parametrize("drain_s", [0.0, 12.0])
async def test_a_second_signal_or_no_balancer_means_no_waiting(drain_s: float) -> None:
    vm = Vm()
    await vm.leave(drain_s=drain_s, hurry_after=0.5)
    assert vm.events[0][0] <= 0.5


async def test_the_real_wait_ends_early_by_the_event() -> None:
    hurry = asyncio.Event()
    hurry.set()
    vm = Vm()
    async with asyncio.timeout(5):
        await drain(
            began=asyncio.get_running_loop().time(),
            drain_s=60.0,
            finish_s=60.0,
            hurry=hurry,
            stop_listening=lambda: vm.note("stop listening"),
            workers=[],
            others=[],
            triton=vm.part("triton", 0.0),
        )
    assert vm.order[0] == "stop listening"
