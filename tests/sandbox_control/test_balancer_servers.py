"""The balancer with a real Envoy in front of toy servers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from sandbox.balancer.envoy import Balancer
from sandbox.compute.groups import GroupManager
from sandbox.compute.health import HealthCheckers
from sandbox.compute.records import group_record, health_records
from sandbox.store import Store
from tests.sandbox_control import world

pytestmark = [pytest.mark.servers, pytest.mark.timeout(120)]

ADDRESS, PORT = "127.206.1.9", 18080
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
