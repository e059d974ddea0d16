"""Prometheus metrics of the VM on port 8889: the supervisor's own, the gateway workers' summed up, and of Triton's and
nvidia-smi's those that say where time goes.
"""

from __future__ import annotations

import asyncio
import http.client
import logging
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from prometheus_client import CollectorRegistry, Metric, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

import contract
from serving import gpus
from serving.health import VmHealth, canary_ages

_log = logging.getLogger(__name__)

_TIMEOUT_S: Final = 2.0
"""For what is asked during a scrape: below Prometheus's own 10 s, so that a part that hangs costs only its metrics."""
_OF_TRITON: Final = (
    ("nv_inference_count", "serving_triton_images", "Images or tensors that Triton inferred, canaries too", 1.0),
    ("nv_inference_exec_count", "serving_triton_batches", "Batches in which it did", 1.0),
    ("nv_inference_queue_duration_us", "serving_triton_queue_seconds", "Time of requests in Triton's queue", 1e-6),
    ("nv_inference_compute_infer_duration_us", "serving_triton_infer_seconds", "Time of requests in the model", 1e-6),
)
"""Triton's counters (user guide, "Metrics"), our names for them, and the factor to our unit."""


class Exposition:
    """Serves the metrics; `forget` drops what is true only of a worker that lives."""

    def __init__(self, folder: Path, health: VmHealth, host: str) -> None:
        self._folder = folder
        self._host = host
        self._registry = CollectorRegistry()
        MultiProcessCollector(self._registry, str(folder))  # type: ignore[no-untyped-call]
        self._registry.register(_Supervisor(health))
        self._registry.register(_Triton(host, contract.TRITON_METRICS_PORT))
        if health.gpus_expected:
            self._registry.register(_Gpus())

    def serve(self, port: int) -> None:
        """Answer scrapes from a thread."""
        start_http_server(port, self._host, self._registry)

    def forget(self, pid: int) -> None:
        """A worker has ended: its gauges no longer count, its counters do."""
        mark_process_dead(pid, str(self._folder))  # type: ignore[no-untyped-call]


class _Supervisor(Collector):
    """What the supervisor knows at the time of a scrape."""

    def __init__(self, health: VmHealth) -> None:
        self._health = health

    def collect(self) -> Iterator[Metric]:
        """The supervisor's gauges."""
        now = time.monotonic()
        status = self._health.status(now)
        yield GaugeMetricFamily("serving_in_rotation", "1 while the balancer's check gets 200", value=status.serving)
        yield GaugeMetricFamily(
            "serving_plans_built_here",
            "TensorRT plans that this VM built, as none of the artifact's fits its GPU and TensorRT",
            value=self._health.plans_built_here,
        )
        yield GaugeMetricFamily("serving_live", "1 while the autohealing check gets 200", value=status.live)
        ages = GaugeMetricFamily("serving_canary_age_seconds", "Since the latest passed canary", labels=["model"])
        for model, age in canary_ages(self._health.models.values(), now).items():
            ages.add_metric([model], age)
        yield ages


class _Triton(Collector):
    """What Triton counts: its port is the VM's own business, so these come through ours. Nothing while it is away."""

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._port = port

    def describe(self) -> Iterable[Metric]:
        """Nothing: registering must not ask a Triton that is not there yet."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Triton's counters by model."""
        try:
            families = {family.name: family for family in text_string_to_metric_families(self._text())}
        except (OSError, http.client.HTTPException, ValueError) as error:
            _log.info("no metrics from Triton", extra={"error": str(error)})
            return
        for theirs, ours, text, factor in _OF_TRITON:
            counter = CounterMetricFamily(ours, text, labels=["model"])
            for sample in families[theirs].samples if theirs in families else ():
                counter.add_metric([sample.labels["model"]], sample.value * factor)
            yield counter

    def _text(self) -> str:
        connection = http.client.HTTPConnection(self._host, self._port, timeout=_TIMEOUT_S)
        try:
            connection.request("GET", "/metrics")
            return connection.getresponse().read().decode()
        finally:
            connection.close()


class _Gpus(Collector):
    """What nvidia-smi says at the time of a scrape."""

    def describe(self) -> Iterable[Metric]:
        """Nothing: registering must not ask nvidia-smi."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Utilisation of each GPU."""
        try:
            percent = asyncio.run(gpus.utilization(_TIMEOUT_S))
        except gpus.NvidiaSmiError as error:
            _log.warning("no GPU utilisation", extra={"error": str(error)})
            return
        gauge = GaugeMetricFamily(
            "serving_gpu_utilization_percent", "As nvidia-smi says at the time of the scrape", labels=["gpu"]
        )
        for index, value in percent.items():
            gauge.add_metric([str(index)], value)
        yield gauge
