from __future__ import annotations

import json
from pathlib import Path

import pytest

from sandbox.provider.server import ProviderServer
from sandbox.recovery import leftovers, mend_checkpoint, note_owned, of_stack, read_checkpoint, remove, stacks_folder
from sandbox.store import RESOURCE
from tests.sandbox_provider.world import ADDRESS, NETWORK, SUBNETWORK, World


def write_checkpoint(backend: Path, ids: list[str], pending: int = 0) -> Path:
    path = stacks_folder(backend, "project") / "test.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    latest = {"resources": [{"urn": "u", "id": one} for one in ids], "pending_operations": [{}] * pending}
    path.write_text(json.dumps({"version": 3, "checkpoint": {"latest": latest}}))
    return path


async def test_what_no_stack_ever_knew_is_left_over(world: World, tmp_path: Path) -> None:
    known, _ = await world.create(NETWORK)
    await world.create(ADDRESS)
    write_checkpoint(tmp_path, [known])
    note_owned(world.store, tmp_path)
    found = leftovers(world.store)
    assert [one.type for one in found] == [ADDRESS]
    assert of_stack(found, "project", "test") == found
    assert of_stack(found, "project", "other") == []


async def test_what_a_stack_let_go_stays(world: World, tmp_path: Path) -> None:
    known, _ = await world.create(NETWORK)
    write_checkpoint(tmp_path, [known])
    note_owned(world.store, tmp_path)
    write_checkpoint(tmp_path, [])
    note_owned(world.store, tmp_path)
    assert leftovers(world.store) == []


async def test_a_name_that_is_used_again_is_another_resource(world: World, tmp_path: Path) -> None:
    known, _ = await world.create(NETWORK)
    write_checkpoint(tmp_path, [known])
    note_owned(world.store, tmp_path)
    await world.resources.delete(NETWORK, known)
    await world.create(NETWORK)
    write_checkpoint(tmp_path, [])
    assert [one.identifier for one in leftovers(world.store)] == [known]


async def test_leftovers_are_removed_by_the_providers_rules(world: World) -> None:
    await world.create_up_to(SUBNETWORK, ADDRESS)
    server = ProviderServer(
        world.cloud.settings, world.store, world.cloud.addresses, world.buckets, program=world.cloud.program
    )
    await server.start()
    await remove(leftovers(world.store), server.port)
    await server.stop()
    assert list(world.store.items(RESOURCE)) == []


def test_operations_under_way_are_counted(tmp_path: Path) -> None:
    assert read_checkpoint(write_checkpoint(tmp_path, ["a"], pending=2)).pending == 2
    assert read_checkpoint(tmp_path / "none.json").pending == 0


@pytest.mark.parametrize("torn", ["", '{"version": 3, "checkp'])
def test_a_torn_checkpoint_is_replaced_by_its_backup(tmp_path: Path, torn: str) -> None:
    checkpoint = tmp_path / "toy.json"
    checkpoint.write_text(torn)
    (tmp_path / "toy.json.bak").write_text('{"checkpoint": {}}')
    assert mend_checkpoint(checkpoint)
    assert checkpoint.read_text() == '{"checkpoint": {}}'


def test_a_torn_checkpoint_without_a_backup_goes(tmp_path: Path) -> None:
    checkpoint = tmp_path / "toy.json"
    checkpoint.touch()
    assert mend_checkpoint(checkpoint)
    assert not checkpoint.exists()


def test_a_whole_checkpoint_and_a_stack_that_is_gone_stay_as_they_are(tmp_path: Path) -> None:
    checkpoint = tmp_path / "toy.json"
    (tmp_path / "toy.json.bak").write_text('{"checkpoint": {}}')
    assert not mend_checkpoint(checkpoint)
    assert not checkpoint.exists()
    checkpoint.write_text("{}")
    assert not mend_checkpoint(checkpoint)
    assert checkpoint.read_text() == "{}"
