"""Loopback addresses that stand for the internal and external addresses of Google Cloud."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from sandbox.settings import SandboxSettings
from sandbox.store import Store

_ADDRESS: Final = "address"
"""Kind of the records: `instance/<key>` or `global/<name>` -> {"address"}."""
_CURSOR: Final = "address-cursor"
"""Kind of the records that say where the next search for a free address begins."""

_GLOBAL_POOL: Final = ("global", range(1, 2))
_INSTANCE_POOL: Final = ("instance", range(16, 32))
_LAST_OCTETS: Final = range(1, 255)


class Addresses:
    """Hands out addresses that stay with their owner until they are released.

    Instances get 127.<block>.16-31.x, global addresses 127.<block>.1.x. A released address is the last to be handed out
    again, so that whatever still remembers it does not meet another instance there.
    """

    def __init__(self, settings: SandboxSettings, store: Store) -> None:
        self._block = settings.block
        self._store = store

    def for_instance(self, key: str) -> str:
        """Address of the instance `<zone>/<name>`; a new one at the first call."""
        return self._of(_INSTANCE_POOL, key)

    def for_global_address(self, name: str) -> str:
        """Address of the global address `name`; a new one at the first call."""
        return self._of(_GLOBAL_POOL, name)

    def release_instance(self, key: str) -> None:
        """Give back the address of a deleted instance."""
        self._store.delete(_ADDRESS, f"{_INSTANCE_POOL[0]}/{key}")

    def release_global_address(self, name: str) -> None:
        """Give back a deleted global address."""
        self._store.delete(_ADDRESS, f"{_GLOBAL_POOL[0]}/{name}")

    def _of(self, pool: tuple[str, range], owner: str) -> str:
        kind, third_octets = pool
        record = self._store.get(_ADDRESS, f"{kind}/{owner}")
        if record is not None:
            held: str = record["address"]
            return held
        taken = {value["address"] for _, value in self._store.items(_ADDRESS)}
        cursor = self._store.get(_CURSOR, kind)
        for index, address in self._round(third_octets, cursor["next"] if cursor else 0):
            if address not in taken:
                self._store.put(_ADDRESS, f"{kind}/{owner}", {"address": address})
                self._store.put(_CURSOR, kind, {"next": index + 1})
                return address
        raise RuntimeError(
            f"no free {kind} address for {owner}: all {len(third_octets) * len(_LAST_OCTETS)} of "
            f"127.{self._block}.{third_octets[0]}-{third_octets[-1]}.x are in use; delete what is no longer needed"
        )

    def _round(self, third_octets: range, start: int) -> Iterator[tuple[int, str]]:
        size = len(third_octets) * len(_LAST_OCTETS)
        for step in range(size):
            index = (start + step) % size
            third, last = divmod(index, len(_LAST_OCTETS))
            yield index, f"127.{self._block}.{third_octets[third]}.{_LAST_OCTETS[last]}"
