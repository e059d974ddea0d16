"""The order in which a VM leaves service, so that no request is lost on the way."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Protocol

_log = logging.getLogger(__name__)

TRITON_GRACE_S: Final = 3.0
"""Triton has nothing left to do by then."""


class Stoppable(Protocol):
    """A part of the VM that can be ended."""

    async def stop(self, grace_s: float) -> None:
        """End it, by force after `grace_s`."""


async def drain(
    *,
    began: float,
    drain_s: float,
    finish_s: float,
    hurry: asyncio.Event,
    stop_listening: Callable[[], None],
    workers: Sequence[Stoppable],
    others: Sequence[Stoppable],
    triton: Stoppable,
    clock: Callable[[], float] = time.monotonic,
    wait: Callable[[asyncio.Event, float], Awaitable[None]] | None = None,
) -> None:
    """Leave service, health being 503 since `began` (by `clock`).

    Serve on until the balancer has seen the 503 (`drain_s`); then let the workers finish what they have until
    `finish_s`; then end the rest, Triton last, as requests in flight need it. `hurry` cuts the first part short. After
    a notice that came long before the end, requests in flight still get the time between the two.
    """
    await (wait or _wait)(hurry, began + drain_s - clock())
    _log.info("no more connections are accepted")
    stop_listening()
    await _stop_all(workers, max(began + finish_s - clock(), finish_s - drain_s))
    await _stop_all(others, 1.0)
    await triton.stop(TRITON_GRACE_S)


async def _stop_all(parts: Sequence[Stoppable], grace_s: float) -> None:
    await asyncio.gather(*(part.stop(max(0.0, grace_s)) for part in parts))


async def _wait(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(max(0.0, seconds)):
            await event.wait()
    except TimeoutError:
        pass
