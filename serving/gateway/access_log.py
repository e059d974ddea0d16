"""The access log: a sample of the requests, and every one that failed within a bound a second.

A line holds the route, sizes, status and times, never what a client sent beyond the path.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from typing import Final

from serving.gateway.trace import Trace

_log = logging.getLogger(__name__)

_PATH_CHARACTERS: Final = 200
_FAILED: Final = 400


class AccessLog:
    """Logs `sample` (0 to 1) of a worker's requests, and up to `errors_per_s` of those that failed."""

    def __init__(
        self,
        sample: float,
        errors_per_s: int,
        *,
        clock: Callable[[], float] = time.monotonic,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._sample = sample
        self._errors_per_s = errors_per_s
        self._clock = clock
        self._draw = draw
        self._second = -1
        self._errors = 0
        self._unlogged = 0

    def record(self, trace: Trace, status: int, bytes_out: int, seconds: float) -> None:
        """One request is over; `status` 0: its client went away."""
        failed = status >= _FAILED or status == 0
        if not (self._may_log_error() if failed else self._draw() < self._sample):
            return
        fields: dict[str, object] = {
            "method": trace.method,
            "path": trace.path[:_PATH_CHARACTERS],
            "route": trace.route,
            "status": status,
            "bytes_in": trace.bytes_in,
            "bytes_out": bytes_out,
            "ms": round(seconds * 1e3, 2),
        }
        if trace.images:
            fields["images"] = trace.images
        if trace.answered:
            for stage in ("decode", "queue", "infer", "encode"):
                fields[f"{stage}_ms"] = round(getattr(trace, f"{stage}_s") * 1e3, 2)
        if trace.reason:
            fields["reason"] = trace.reason
        if failed and self._unlogged:
            fields["unlogged_failures"], self._unlogged = self._unlogged, 0
        _log.log(logging.WARNING if failed else logging.INFO, "request", extra=fields)

    def _may_log_error(self) -> bool:
        second = int(self._clock())
        if second != self._second:
            self._second, self._errors = second, 0
        self._errors += 1
        allowed = self._errors <= self._errors_per_s
        self._unlogged += not allowed
        return allowed
