"""Prometheus metrics of a gateway worker. Their files are summed up by the supervisor, which serves them."""

from __future__ import annotations

from typing import Final

from prometheus_client import Counter, Gauge, Histogram

from serving.gateway.trace import INFERENCE_ROUTES, Trace

_BUCKETS: Final = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 25.0)
_BATCHES: Final = (1, 2, 4, 8, 16, 32, 64, 128)

REQUESTS: Final = Counter("serving_requests", "Requests, by route and HTTP status", ["route", "code"])
SECONDS: Final = Histogram("serving_request_seconds", "From an inference request to its answer", buckets=_BUCKETS)
STAGE_SECONDS: Final = Histogram(
    "serving_stage_seconds", "Time of an answered inference request in each stage", ["stage"], buckets=_BUCKETS
)
BATCH: Final = Histogram("serving_request_images", "Images or tensors of an answered request", buckets=_BATCHES)
INSTANCES: Final = Counter("serving_instances", "Images or tensors answered")
REJECTED: Final = Counter("serving_rejected", "Inference requests refused or given up, by reason", ["reason"])
IN_FLIGHT: Final = Gauge("serving_in_flight_images", "Images held, waiting or running", multiprocess_mode="livesum")

_DECODE: Final = STAGE_SECONDS.labels("decode")
_QUEUE: Final = STAGE_SECONDS.labels("queue")
_INFER: Final = STAGE_SECONDS.labels("infer")
_ENCODE: Final = STAGE_SECONDS.labels("encode")


def count(trace: Trace, code: str, seconds: float) -> None:
    """One request is over; `code` is its HTTP status, or `disconnected`."""
    REQUESTS.labels(trace.route, code).inc()
    if trace.route not in INFERENCE_ROUTES:
        return
    SECONDS.observe(seconds)
    if trace.answered:
        _DECODE.observe(trace.decode_s)
        _QUEUE.observe(trace.queue_s)
        _INFER.observe(trace.infer_s)
        _ENCODE.observe(trace.encode_s)
        BATCH.observe(trace.images)
        INSTANCES.inc(trace.images)
    else:
        REJECTED.labels(trace.reason).inc()
