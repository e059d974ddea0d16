"""Prometheus metrics of a gateway worker. Their files are summed up by the supervisor, which serves them."""

from __future__ import annotations

from typing import Final

from prometheus_client import Counter, Gauge, Histogram

_BUCKETS: Final = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 25.0)

REQUESTS: Final = Counter("serving_requests", "Answered predict requests, by HTTP status", ["code"])
SECONDS: Final = Histogram("serving_request_seconds", "From a predict request's head to its answer", buckets=_BUCKETS)
STAGE_SECONDS: Final = Histogram(
    "serving_stage_seconds", "Time of a predict request in each stage", ["stage"], buckets=_BUCKETS
)
INSTANCES: Final = Counter("serving_instances", "Images or tensors answered")
REJECTED: Final = Counter("serving_rejected", "Predict requests refused for want of room")
IN_FLIGHT: Final = Gauge("serving_in_flight_images", "Images held, waiting or running", multiprocess_mode="livesum")
