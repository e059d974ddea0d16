"""The loop that every controller is: look at the records, act, and wait for a record to change."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from abc import ABC, abstractmethod

from sandbox.store import Store

_LOG = logging.getLogger(__name__)
_COALESCE_S = 0.05
"""Changes come in bursts (a record a VM): one look after a burst is enough."""


class Controller(ABC):
    """Reconciles after every change of the store, and at least every `period_s` seconds.

    An exception is noted as an event (once, until it changes) and the next round tries again: a controller that died
    would leave the others waiting for it.
    """

    def __init__(self, store: Store, subject: str, period_s: float) -> None:
        self._store = store
        self._subject = subject
        self._period_s = period_s
        self._task: asyncio.Task[None] | None = None
        self._last_failure = ""

    async def start(self) -> None:
        """Begin reconciling."""
        self._task = asyncio.create_task(self._run(), name=self._subject)

    async def stop(self) -> None:
        """Stop reconciling; what was under way is left as the store has it."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    @abstractmethod
    async def reconcile(self) -> None:
        """Bring the world nearer to the records, from any state."""

    async def _run(self) -> None:
        while True:
            seen = self._store.revision
            try:
                await self.reconcile()
                self._last_failure = ""
            except Exception as failure:  # noqa: BLE001 - whatever it was, the next round must come
                self._note(failure)
            await asyncio.sleep(_COALESCE_S)
            await self._store.changed(max(seen, self._store.revision) if self._last_failure else seen, self._period_s)

    def _note(self, failure: Exception) -> None:
        text = f"{type(failure).__name__}: {failure}"
        if text != self._last_failure:
            _LOG.exception("%s: a round failed", self._subject, exc_info=failure)
            self._store.event(self._subject, f"a round failed: {text}")
        self._last_failure = text
