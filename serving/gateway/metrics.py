"""Prometheus metrics of a gateway worker. Their files are summed up by the supervisor, which serves them."""

from __future__ import annotations

import asyncio
import functools
from typing import Final

from prometheus_client import Counter, Gauge, Histogram

from serving.gateway.admission import Admission
from serving.gateway.trace import INFERENCE_ROUTES, Trace

_BUCKETS: Final = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 25.0)
_PUBLISH_S: Final = 0.5
_BATCHES: Final = (1, 2, 4, 8, 16, 32, 64, 128)

REQUESTS: Final = Counter("serving_requests", "Requests, by route and HTTP status", ["route", "code"])
SECONDS: Final = Histogram("serving_request_seconds", "From an inference request to its answer", buckets=_BUCKETS)
STAGE_SECONDS: Final = Histogram(
    "serving_stage_seconds", "Time of an answered inference request in each stage", ["stage"], buckets=_BUCKETS
)
BATCH: Final = Histogram("serving_request_images", "Images or tensors of an answered request", buckets=_BATCHES)
REJECTED: Final = Counter("serving_rejected", "Inference requests refused or given up, by reason", ["reason"])
IN_FLIGHT: Final = Gauge("serving_in_flight_images", "Images held, waiting or running", multiprocess_mode="livesum")

_DECODE: Final = STAGE_SECONDS.labels("decode")
_QUEUE: Final = STAGE_SECONDS.labels("queue")
_INFER: Final = STAGE_SECONDS.labels("infer")
_ENCODE: Final = STAGE_SECONDS.labels("encode")


def count(trace: Trace, code: str, seconds: float) -> None:
    """One request is over; `code` is its HTTP status, or `disconnected`."""
    _requests(trace.route, code).inc()
    if trace.route not in INFERENCE_ROUTES:
        return
    SECONDS.observe(seconds)
    if trace.answered:
        _DECODE.observe(trace.decode_s)
        _QUEUE.observe(trace.queue_s)
        _INFER.observe(trace.infer_s)
        _ENCODE.observe(trace.encode_s)
        BATCH.observe(trace.images)
    else:
        REJECTED.labels(trace.reason).inc()


async def publish_in_flight(admission: Admission) -> None:
    """Show how many images are held, now and then: a gauge costs more than what it tells if each request sets it."""
    while True:
        IN_FLIGHT.set(admission.images)
        await asyncio.sleep(_PUBLISH_S)


@functools.cache
def _requests(route: str, code: str) -> Counter:
    """Finding a label's counter takes as long as counting."""
    return REQUESTS.labels(route, code)
