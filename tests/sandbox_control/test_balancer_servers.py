"""The balancer with a real Envoy in front of toy servers."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import pytest

from sandbox.balancer.envoy import Balancer
from sandbox.compute.groups import GroupManager
from sandbox.compute.health import HealthCheckers
from sandbox.compute.records import BALANCER, group_record, health_records
from sandbox.machine.markers import STATE_MARKER
from sandbox.machine.processes import ProcessId, marked
from sandbox.store import Store
from tests.sandbox_control import world

pytestmark = [pytest.mark.servers, pytest.mark.timeout(120)]

ADDRESS, PORT = f"127.{world.BLOCK}.1.9", 18080
URL = f"http://{ADDRESS}:{PORT}/v1/thing"


class Fleet:
    """Group, health checkers, balancer and toy host over one store."""

    def __init__(self, state: Path) -> None:
        self.settings = world.settings(state)
        self.store = Store(state / "store.db")
        self.host = world.ToyHost(self.store)
        self.balancer = Balancer(self.settings, self.store)
        self.parts = (
            self.host,
            GroupManager(self.settings, self.store),
            HealthCheckers(self.settings, self.store),
            self.balancer,
        )

    async def crash_balancer(self) -> None:
        """End the balancer's tasks without the tidying of its stop()."""
        for task in asyncio.all_tasks():
            if task.get_name() in {"balancer", "envoy"}:
                task.cancel()
        self.balancer._envoy._process = None
        self.balancer._envoy._keeper = None

    def declare(self, version: str) -> None:
        world.declare_template(self.store, version)
        world.declare_group(self.store, version)

    def stable(self, size: int = 2) -> bool:
        record = group_record(self.store, world.GROUP)
        healthy = [one for one in health_records(self.store) if one.state == "HEALTHY"]
        return record is not None and record.stable and record.reached and len(healthy) == 2 * size

    def versions(self) -> set[str]:
        return {toy.version for toy in self.host.toys.values()}


@pytest.fixture
async def fleet(tmp_path: Path) -> AsyncIterator[Fleet]:
    one = Fleet(tmp_path)
    world.declare_chain(one.store, ADDRESS, PORT)
    one.declare("v1")
    async with world.running(*one.parts):
        await world.eventually(one.stable, one.store)
        async with aiohttp.ClientSession() as client:
            await world.answers(lambda: _answers(client))
        yield one


async def _answers(client: aiohttp.ClientSession) -> bool:
    try:
        async with client.get(URL) as response:
            return response.status == 200
    except aiohttp.ClientError:
        return False


async def test_requests_reach_every_healthy_instance(fleet: Fleet) -> None:
    async with aiohttp.ClientSession() as client:
        bodies = set()
        for _ in range(8):
            async with client.get(URL) as response:
                assert response.status == 200
                bodies.add(await response.text())
    assert bodies == {f"{toy.name} v1" for toy in fleet.host.toys.values()}
    assert fleet.balancer.access_log.exists()


@dataclass
class Load:
    """Requests in a steady stream over kept-alive connections; every answer and every broken connection is noted."""

    statuses: Counter[str] = field(default_factory=Counter)

    async def run(self, stop: asyncio.Event) -> None:
        async with aiohttp.ClientSession() as client:
            await asyncio.gather(*(self._one(client, method, stop) for method in ("GET", "POST") * 3))

    async def _one(self, client: aiohttp.ClientSession, method: str, stop: asyncio.Event) -> None:
        while not stop.is_set():
            try:
                async with client.request(method, URL, data=b"x" if method == "POST" else None) as response:
                    await response.read()
                    self.statuses[f"{method} {response.status}"] += 1
            except aiohttp.ClientError as failure:
                self.statuses[f"{method} {type(failure).__name__}"] += 1
            await asyncio.sleep(0.01)


async def test_a_rolling_update_loses_no_request(fleet: Fleet) -> None:
    load, stop = Load(), asyncio.Event()
    for toy in fleet.host.toys.values():
        toy.delay_s = 0.05
    running = asyncio.create_task(load.run(stop))
    fleet.declare("v2")
    await world.eventually(lambda: fleet.stable() and fleet.versions() == {"v2"}, fleet.store, 60)
    stop.set()
    await running
    assert set(load.statuses) == {"GET 200", "POST 200"}
    assert min(load.statuses.values()) > 50


async def test_an_instance_is_drained_before_it_is_deleted(fleet: Fleet) -> None:
    """A request that is under way when its instance is removed from the group is answered."""
    toys = list(fleet.host.toys.values())
    for toy in toys:
        toy.delay_s = 0.8
    async with aiohttp.ClientSession() as client:
        slow = [asyncio.create_task(_text(client)) for _ in range(4)]
        await world.answers(lambda: _received(toys, 4))
        world.declare_group(fleet.store, "v1", size=1)
        await world.eventually(lambda: fleet.stable(1), fleet.store)
        assert {status for status, _ in await asyncio.gather(*slow)} == {200}
        survivor = next(iter(fleet.host.toys.values()))
        assert {await _text(client) for _ in range(3)} == {(200, f"{survivor.name} v1")}


async def test_an_unhealthy_instance_gets_no_requests_until_it_is_healthy_again(fleet: Fleet) -> None:
    sick, well = fleet.host.toys.values()
    sick.health = 503
    async with aiohttp.ClientSession() as client:

        async def only_well() -> bool:
            return {await _text(client) for _ in range(6)} == {(200, f"{well.name} v1")}

        async def both() -> bool:
            return len({await _text(client) for _ in range(6)}) == 2

        await world.answers(only_well)
        assert sick.alive == 200, "it is out of rotation, and not repaired"
        sick.health = 200
        await world.answers(both)
    assert len(fleet.host.toys) == 2


async def test_without_a_healthy_instance_the_answer_is_503(fleet: Fleet) -> None:
    for toy in fleet.host.toys.values():
        toy.health = 503
    async with aiohttp.ClientSession() as client:

        async def unavailable() -> bool:
            return (await _text(client))[0] == 503

        await world.answers(unavailable)


async def test_a_firewall_without_googles_ranges_takes_every_instance_out(fleet: Fleet) -> None:
    world.declare_firewall(fleet.store, "10.0.0.0/8")
    async with aiohttp.ClientSession() as client:

        async def unavailable() -> bool:
            return (await _text(client))[0] == 503

        await world.answers(unavailable)


async def test_a_get_is_tried_once_more_on_another_instance_and_a_post_never(fleet: Fleet) -> None:
    bad, good = fleet.host.toys.values()
    bad.answers = 503
    async with aiohttp.ClientSession() as client:
        gets = [await _text(client) for _ in range(10)]
        assert {status for status, _ in gets} == {200}
        posts = [await _text(client, "POST") for _ in range(10)]
        assert {status for status, _ in posts} == {200, 503}
    assert bad.requests.count("POST") + good.requests.count("POST") == 10
    assert bad.requests.count("GET") + good.requests.count("GET") > 10


async def test_the_backend_timeout_ends_a_request(fleet: Fleet) -> None:
    for toy in fleet.host.toys.values():
        toy.delay_s = 5.0
    world.declare_service(fleet.store, timeout_s=1)
    async with aiohttp.ClientSession() as client:

        async def gave_up() -> bool:
            return (await _text(client, "POST"))[0] == 504

        await world.answers(gave_up)


async def test_an_envoy_that_dies_is_started_again(fleet: Fleet) -> None:
    [process] = envoys(fleet)
    process.signal(signal.SIGKILL)
    await process.ended()
    async with aiohttp.ClientSession() as client:
        await world.answers(lambda: _answers(client))
    assert envoys(fleet) != [process]


async def test_a_crashed_daemon_leaves_an_envoy_that_serves_and_the_next_takes_it_over(fleet: Fleet) -> None:
    """The crash is played by forgetting the balancer without stopping it."""
    [process] = envoys(fleet)
    await fleet.crash_balancer()
    async with aiohttp.ClientSession() as client:
        assert await _answers(client)
        async with world.running(Balancer(fleet.settings, fleet.store)):
            assert envoys(fleet) == [process]
            world.declare_group(fleet.store, "v1", size=3)
            await world.eventually(lambda: fleet.stable(3), fleet.store)

            async def all_three() -> bool:
                return len({await _text(client) for _ in range(9)}) == 3

            await world.answers(all_three)
    assert envoys(fleet) == [], "stopping ends an Envoy that was taken over"


async def test_a_changed_forwarding_rule_moves_the_listener_without_a_restart(fleet: Fleet) -> None:
    [process] = envoys(fleet)
    world.declare_chain(fleet.store, ADDRESS, PORT + 1)
    async with aiohttp.ClientSession() as client:

        async def moved() -> bool:
            try:
                async with client.get(URL.replace(str(PORT), str(PORT + 1))) as response:
                    return response.status == 200
            except aiohttp.ClientError:
                return False

        await world.answers(moved)

        async def closed() -> bool:
            return not await _answers(client)

        await world.answers(closed)
    assert envoys(fleet) == [process]


async def test_a_port_that_is_taken_is_named_in_the_record(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind((ADDRESS, PORT + 2))
        taken.listen()
        one = Fleet(tmp_path)
        world.declare_chain(one.store, ADDRESS, PORT + 2)
        async with world.running(one.balancer):
            await world.eventually(lambda: one.store.get(BALANCER, world.RULE) is not None, one.store)
            record = one.store.get(BALANCER, world.RULE)
    assert record is not None
    assert f"cannot listen on {ADDRESS}:{PORT + 2}: Address already in use" in record["error"]


def envoys(fleet: Fleet) -> list[ProcessId]:
    return marked({STATE_MARKER: str(fleet.settings.state)})


async def _text(client: aiohttp.ClientSession, method: str = "GET") -> tuple[int, str]:
    async with client.request(method, URL) as response:
        return response.status, await response.text()


async def _received(toys: list[world.Toy], count: int) -> bool:
    return sum(len(toy.requests) for toy in toys) >= count
