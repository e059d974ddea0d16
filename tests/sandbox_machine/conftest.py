from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from sandbox.iam.policy import Policy
from sandbox.iam.tokens import Tokens
from sandbox.machine.host import MachineHost
from sandbox.storage.service import StorageService
from sandbox.store import Store
from tests.sandbox_machine.machines import World, free_block, settings_for


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with free_block() as block:
        store = Store(tmp_path / "state" / "store.db")
        world = World(settings_for(tmp_path / "state", block), store)
        yield world
        store.close()
        world.end_all()


@pytest.fixture
async def host(world: World) -> AsyncIterator[MachineHost]:
    host = MachineHost(world.settings, world.store, Tokens(world.store))
    await host.start()
    yield host
    await host.stop()


@pytest.fixture
async def storage(world: World) -> AsyncIterator[StorageService]:
    service = StorageService(world.settings, world.store, Policy(world.settings, world.store))
    await service.start()
    yield service
    await service.stop()
