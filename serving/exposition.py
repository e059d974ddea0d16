"""Prometheus metrics of the VM on port 8889: the supervisor's own, and the gateway workers' summed up."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from prometheus_client import CollectorRegistry, Metric, start_http_server
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.registry import Collector

from serving.health import VmHealth, canary_ages


class Exposition:
    """Serves the metrics; `forget` drops what is true only of a worker that lives."""

    def __init__(self, folder: Path, health: VmHealth) -> None:
        self._folder = folder
        self._registry = CollectorRegistry()
        MultiProcessCollector(self._registry, str(folder))  # type: ignore[no-untyped-call]
        self._registry.register(_Supervisor(health))

    def serve(self, host: str, port: int) -> None:
        """Answer scrapes from a thread."""
        start_http_server(port, host, self._registry)

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
        yield GaugeMetricFamily("serving_live", "1 while the autohealing check gets 200", value=status.live)
        ages = GaugeMetricFamily("serving_canary_age_seconds", "Since the latest passed canary", labels=["model"])
        for model, age in canary_ages(self._health.models.values(), now).items():
            ages.add_metric([model], age)
        yield ages
