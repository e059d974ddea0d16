"""Loopback addresses stay with their owners."""

from __future__ import annotations

from pathlib import Path

import pytest

from sandbox.network.addresses import Addresses
from sandbox.store import Store
from tests.sandbox_control import world


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store.db")


def make(store: Store) -> Addresses:
    return Addresses(world.settings(Path("state")), store)


def test_addresses_are_distinct_stable_and_in_their_ranges(store: Store) -> None:
    addresses = make(store)
    handed = {key: addresses.for_instance(key) for key in (f"zone/vm-{n}" for n in range(300))}
    assert len(set(handed.values())) == 300
    octets = [[int(octet) for octet in address.split(".")] for address in handed.values()]
    assert {(first, second) for first, second, _, _ in octets} == {(127, world.BLOCK)}
    assert {third for _, _, third, _ in octets} <= set(range(16, 32))
    again = make(store)
    assert {key: again.for_instance(key) for key in handed} == handed
    assert again.for_global_address("zone/vm-1").startswith(f"127.{world.BLOCK}.1.")


def test_a_released_address_is_not_the_next_one_handed_out(store: Store) -> None:
    addresses = make(store)
    first = addresses.for_instance("zone/a")
    addresses.release_instance("zone/a")
    assert addresses.for_instance("zone/b") != first
    assert addresses.for_instance("zone/a") != first


def test_the_pool_goes_round_and_says_when_it_is_empty(store: Store) -> None:
    addresses = make(store)
    handed = [addresses.for_global_address(f"a{n}") for n in range(254)]
    assert len(set(handed)) == 254
    with pytest.raises(RuntimeError, match=r"1-1\.x are in use"):
        addresses.for_global_address("one more")
    addresses.release_global_address("a7")
    assert addresses.for_global_address("one more") == handed[7]
