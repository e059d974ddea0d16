"""What is told of a request: the access log, the metrics, Server-Timing."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from prometheus_client import REGISTRY

from artifact import preprocessing
from serving.gateway import inference
from serving.gateway.access_log import AccessLog
from serving.gateway.http import unavailable
from serving.gateway.trace import Trace
from serving.log import JsonFormatter
from tests.model.tiny import colour_jpeg
from tests.serving.conftest import SERVING, Client, b64

RED = {"instances": [b64(colour_jpeg("red"))] * 3}


class Clock:
    """Tells the time that a test sets."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Iterator[list[dict[str, Any]]]:
    """The access log's lines as they are written."""
    written: list[dict[str, Any]] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            written.append(json.loads(JsonFormatter("gateway").format(record)))

    handler = Handler()
    logger = logging.getLogger("serving.gateway.access_log")
    logger.addHandler(handler)
    caplog.set_level(logging.INFO, logger="serving.gateway.access_log")
    yield written
    logger.removeHandler(handler)


def done(status: int) -> tuple[Trace, int, int, float]:
    """Arguments of `record`."""
    return Trace("POST", "/v1/models/default:predict", "predict"), status, 10, 0.5


def test_answered_requests_are_sampled(lines: list[dict[str, Any]]) -> None:
    draws = iter([0.0, 0.09, 0.1, 0.5, 0.99])
    log = AccessLog(0.1, 10, draw=lambda: next(draws))
    for _ in range(5):
        log.record(*done(200))
    assert len(lines) == 2


def test_all_and_none_are_samples_too(lines: list[dict[str, Any]]) -> None:
    for sample in (0.0, 1.0):
        log = AccessLog(sample, 10)
        for _ in range(20):
            log.record(*done(200))
    assert len(lines) == 20


def test_failures_are_logged_whatever_the_sample_within_a_bound_a_second(lines: list[dict[str, Any]]) -> None:
    clock = Clock()
    log = AccessLog(0.0, 3, clock=clock)
    for status in (400, 429, 503, 500, 0, 404):
        log.record(*done(status))
    assert [line["status"] for line in lines] == [400, 429, 503]
    clock.now = 1.5
    log.record(*done(500))
    log.record(*done(500))
    assert lines[3]["unlogged_failures"] == 3
    assert "unlogged_failures" not in lines[4]


async def test_a_line_tells_sizes_and_times_and_nothing_of_the_client(
    client: Client, lines: list[dict[str, Any]]
) -> None:
    reply = await client.predict(RED, headers={"authorization": "secret", "user-agent": "me"})
    (line,) = lines
    body = len(json.dumps(RED))
    expected: dict[str, Any] = {
        "method": "POST",
        "path": "/v1/models/default:predict",
        "route": "predict",
        "status": 200,
    }
    expected |= {"bytes_in": body, "bytes_out": len(reply.body), "images": 3}
    assert expected.items() <= line.items()
    assert line["severity"] == "INFO"
    assert line["ms"] >= line["decode_ms"] > 0
    text = json.dumps(line)
    assert "secret" not in text
    assert RED["instances"][0]["b64"][:40] not in text


async def test_a_refused_request_says_why(client: Client, lines: list[dict[str, Any]]) -> None:
    client.router.refusal = unavailable("no GPU is ready")
    await client.predict(RED)
    await client.predict(b"{")
    await client.request("GET", f"/{'x' * 5000}")
    assert [(line["status"], line["reason"], line["severity"]) for line in lines] == [
        (503, "unavailable", "WARNING"),
        (400, "bad_request", "WARNING"),
        (404, "bad_request", "WARNING"),
    ]
    assert len(lines[2]["path"]) == 200


async def test_a_failing_health_check_is_an_answer_with_no_reason(client: Client, lines: list[dict[str, Any]]) -> None:
    client.status = replace(SERVING, serving=False, reason="loading")
    await client.request("GET", "/v1/models/default")
    (line,) = lines
    assert (line["status"], line["route"]) == (503, "status")
    assert "reason" not in line


async def test_a_client_that_leaves_is_status_0(
    client: Client, lines: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def endless(*_: Any) -> Any:
        await asyncio.Event().wait()

    monkeypatch.setattr(client.router, "infer", endless)
    await client.predict(RED, leaves=True)
    assert [(line["status"], line["reason"]) for line in lines] == [(0, "disconnected")]


def timings(header: str) -> dict[str, float]:
    """Server-Timing, in milliseconds."""
    return {name: float(ms) for name, ms in re.findall(r"(\w+);dur=([0-9.]+)", header)}


async def test_server_timing_tells_where_the_time_went(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = client.router.infer

    async def slow_infer(*arguments: Any) -> Any:
        await asyncio.sleep(0.05)
        return await answer(*arguments)

    def slow_decode(*arguments: Any) -> Any:
        time.sleep(0.03)
        return preprocessing.load_image(*arguments)

    monkeypatch.setattr(client.router, "infer", slow_infer)
    monkeypatch.setattr(inference, "load_image", slow_decode)
    reply = await client.predict(RED)
    stages = timings(reply.headers["server-timing"])
    assert list(stages) == ["decode", "queue", "infer", "encode"]
    assert stages["infer"] >= 50
    # Two threads decode three images: the first begins at once, all take two rounds.
    assert stages["decode"] >= 60
    assert "server-timing" not in (await client.predict(b"{")).headers


async def test_waiting_for_a_decoder_is_queueing(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def slow_decode(*arguments: Any) -> Any:
        time.sleep(0.03)
        return preprocessing.load_image(*arguments)

    monkeypatch.setattr(inference, "load_image", slow_decode)
    first, second = await asyncio.gather(client.predict({"instances": RED["instances"] * 2}), client.predict(RED))
    queued = [timings(reply.headers["server-timing"])["queue"] for reply in (first, second)]
    assert queued[1] >= 60
    assert queued[0] < queued[1]


def counted(name: str, **labels: str) -> float:
    """A counter's value now."""
    return REGISTRY.get_sample_value(name, labels) or 0.0


async def test_requests_are_counted_by_route_code_and_reason(client: Client) -> None:
    names: tuple[tuple[str, dict[str, str]], ...] = (
        ("serving_requests_total", {"route": "predict", "code": "200"}),
        ("serving_requests_total", {"route": "status", "code": "200"}),
        ("serving_requests_total", {"route": "none", "code": "404"}),
        ("serving_requests_total", {"route": "predict", "code": "413"}),
        ("serving_rejected_total", {"reason": "too_large"}),
        ("serving_rejected_total", {"reason": "overloaded"}),
        ("serving_request_images_sum", {}),
        ("serving_request_images_bucket", {"le": "4.0"}),
        ("serving_request_images_bucket", {"le": "2.0"}),
        ("serving_stage_seconds_count", {"stage": "queue"}),
        ("serving_request_seconds_count", {}),
    )
    before = [counted(name, **labels) for name, labels in names]
    await client.predict(RED)
    await client.request("GET", "/v1/models/default")
    await client.request("GET", "/nothing")
    await client.predict(b"x" * (2**20 + 1))
    with client.admission.admit() as place:
        place.grow(64)
        await client.predict(RED)
    after = [counted(name, **labels) for name, labels in names]
    assert [new - old for new, old in zip(after, before, strict=True)] == [1, 1, 1, 1, 1, 1, 3, 1, 0, 1, 3]
