"""By when a request must be begun and answered."""

from __future__ import annotations

import math
import re
import time
from dataclasses import dataclass
from typing import Final

from serving.gateway.http import Headers, bad_request

TIMEOUT_HEADER: Final = b"x-request-timeout-ms"
"""How long the sender waits for the answer, in milliseconds. TensorFlow Serving's REST API has no such thing; its gRPC
API has a deadline on every call."""
_MILLISECONDS: Final = re.compile(rb"[1-9][0-9]{0,8}")


def patience_s(headers: Headers) -> float:
    """How long the sender waits; infinite where the request does not say.

    Raises:
        HttpError: 400, it is no number of milliseconds.
    """
    for name, value in headers:
        if name == TIMEOUT_HEADER:
            if not _MILLISECONDS.fullmatch(value.strip()):
                text = (
                    f"{TIMEOUT_HEADER.decode()}: {value.decode('latin-1')!r} is no whole number of milliseconds above 0"
                )
                raise bad_request(text)
            return int(value) / 1000
    return math.inf


@dataclass(frozen=True, slots=True)
class Deadlines:
    """Points in time (CLOCK_MONOTONIC): a request not begun by `start_by` is refused, one not done by `answer_by` is
    given up.
    """

    start_by: float
    answer_by: float

    @classmethod
    def of(cls, queue_s: float, answer_s: float) -> Deadlines:
        """So many seconds from now."""
        now = time.monotonic()
        return cls(now + min(queue_s, answer_s), now + answer_s)
