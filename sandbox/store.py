"""Durable records of a sandbox: what was declared, what runs, and what happened.

One SQLite file; every write is committed before it returns, so a killed daemon finds its world again. All parts of the
daemon share one event loop and one store; none of them keeps the only copy of a fact in memory.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Json = dict[str, Any]

RESOURCE = "resource"
"""Declared by the engine: id -> {"type", "urn", "inputs", "state", "created"}."""
INSTANCE = "instance"
"""VMs: `<zone>/<name>` -> fields of sandbox.machine.instance.Instance."""


class Store:
    """Records by (kind, name), with a revision that waits for change."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._db = sqlite3.connect(path, isolation_level=None)
        self._db.execute("PRAGMA journal_mode=WAL")
        # Synced at checkpoints: a killed process loses nothing, and no write holds the event loop up for a disk flush.
        self._db.execute("PRAGMA synchronous=NORMAL")
        self._db.execute(
            "CREATE TABLE IF NOT EXISTS record (kind TEXT, name TEXT, value TEXT, PRIMARY KEY (kind, name))"
        )
        self._db.execute("CREATE TABLE IF NOT EXISTS event (at REAL, subject TEXT, text TEXT)")
        self._revision = 0
        self._waiters: list[asyncio.Future[None]] = []

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def get(self, kind: str, name: str) -> Json | None:
        """The record, or None."""
        row = self._db.execute("SELECT value FROM record WHERE kind=? AND name=?", (kind, name)).fetchone()
        return json.loads(row[0]) if row else None

    def put(self, kind: str, name: str, value: Json) -> None:
        """Write the record; an equal value is no change and wakes nobody."""
        text = json.dumps(value, sort_keys=True)
        changed = self._db.execute(
            "INSERT INTO record VALUES (?,?,?) "
            "ON CONFLICT DO UPDATE SET value=excluded.value WHERE value<>excluded.value",
            (kind, name, text),
        )
        if changed.rowcount:
            self._wake()

    def delete(self, kind: str, name: str) -> bool:
        """Remove the record; whether there was one."""
        removed = self._db.execute("DELETE FROM record WHERE kind=? AND name=?", (kind, name)).rowcount > 0
        if removed:
            self._wake()
        return removed

    def items(self, kind: str) -> Iterator[tuple[str, Json]]:
        """All records of a kind, by name."""
        rows = self._db.execute("SELECT name, value FROM record WHERE kind=? ORDER BY name", (kind,)).fetchall()
        return ((name, json.loads(value)) for name, value in rows)

    def resources(self, type_token: str) -> Iterator[tuple[str, Json]]:
        """Declared resources of one Pulumi type, as (id, record)."""
        return ((name, value) for name, value in self.items(RESOURCE) if value["type"] == type_token)

    def event(self, subject: str, text: str) -> None:
        """Note that something happened, for `sandbox events`."""
        self._db.execute("INSERT INTO event VALUES (?,?,?)", (time.time(), subject, text))

    def events(self, since: float = 0.0) -> list[tuple[float, str, str]]:
        """Events after `since` (Unix seconds), oldest first."""
        return self._db.execute("SELECT at, subject, text FROM event WHERE at>? ORDER BY at", (since,)).fetchall()

    @property
    def revision(self) -> int:
        """Grows by one with every change of a record in this process."""
        return self._revision

    async def changed(self, seen: int, timeout_s: float) -> int:
        """Wait until the revision is past `seen`, or the time is over; the revision then."""
        if self._revision <= seen:
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            try:
                # Not wait_for: on Python 3.11 that swallows a cancellation which meets the change it waits for.
                await asyncio.wait([waiter], timeout=timeout_s)
            finally:
                if waiter in self._waiters:
                    self._waiters.remove(waiter)
        return self._revision

    def _wake(self) -> None:
        self._revision += 1
        waiting, self._waiters = self._waiters, []
        for waiter in waiting:
            if not waiter.done():
                waiter.set_result(None)
