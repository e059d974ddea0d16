"""What is told of one request: to the metrics, to the access log, and to its sender."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

INFERENCE_ROUTES: Final = frozenset({"predict", "infer"})


@dataclass(slots=True)
class Trace:
    """Filled in while a request is answered. Times are seconds.

    `decode`: the body is understood, and its images decoded; `queue`: until a decoder takes the first of them; `infer`:
    from the gateway to Triton and back, its queue and batching included; `encode`: the answer is written.
    """

    method: str
    path: str
    route: str = "none"
    bytes_in: int = 0
    images: int = 0
    answered: bool = False
    reason: str = ""
    """Why it was refused or given up, in a word; empty for an answer, as a health check's 503 is one."""
    decode_s: float = 0.0
    queue_s: float = 0.0
    infer_s: float = 0.0
    encode_s: float = 0.0

    def server_timing(self) -> bytes:
        """Value of the header Server-Timing (W3C), in milliseconds."""
        return b"decode;dur=%.2f, queue;dur=%.2f, infer;dur=%.2f, encode;dur=%.2f" % (
            self.decode_s * 1e3,
            self.queue_s * 1e3,
            self.infer_s * 1e3,
            self.encode_s * 1e3,
        )
