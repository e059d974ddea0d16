from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from client import load
from client.load import LoadResult, as_json, generate, percentile
from client.photo import synthetic_jpeg
from tests.client.conftest import Run
from tests.client.model_fake import ModelFake
from tests.client.server import BackgroundServer

pytestmark = pytest.mark.usefixtures("pulumi")


def test_every_request_is_sent_once_and_counted_by_vm(run: Run, model: ModelFake) -> None:
    outcome = run("load", "--url", model.url, "--rate", "50", "--seconds", "0.4", "--json")
    figures = json.loads(outcome.out)
    assert (outcome.code, figures["good"], figures["failed"]) == (0, 20, 0)
    assert model.requests == 20
    assert figures["servedBy"] == {"vm-a": 10, "vm-b": 10}
    assert figures["latencyMs"]["p50"] > 0
    assert figures["latencyMs"]["p99"] is None, "20 answers say nothing about one in a hundred"
    assert model.images[0] == synthetic_jpeg()


def test_given_images_are_sent_in_turn(run: Run, model: ModelFake, tmp_path: Path) -> None:
    first, second = tmp_path / "1.jpg", tmp_path / "2.jpg"
    first.write_bytes(b"one")
    second.write_bytes(b"two")
    run("load", "--url", model.url, "--rate", "40", "--seconds", "0.1", "--image", str(first), "--image", str(second))
    assert sorted(model.images) == [b"one", b"one", b"two", b"two"]


def test_failures_are_kept_by_kind_and_not_repeated(run: Run, model: ModelFake) -> None:
    model.status, model.headers = 503, {"x-served-by": "vm-a"}
    outcome = run("load", "--url", model.url, "--rate", "50", "--seconds", "0.2", "--json")
    figures = json.loads(outcome.out)
    assert (outcome.code, figures["good"], figures["failures"]) == (1, 0, {"503 from vm-a": 10})
    assert model.requests == 10


def test_nothing_listening_is_a_failure_of_every_request(run: Run) -> None:
    outcome = run("load", "--url", "http://127.0.0.1:1", "--rate", "50", "--seconds", "0.1")
    assert outcome.code == 1
    assert "connection refused" in outcome.out


def slow_server(delay_s: float) -> BackgroundServer:
    async def answer(_: web.Request) -> web.Response:
        await asyncio.sleep(delay_s)
        return web.json_response({"predictions": []})

    application = web.Application()
    application.router.add_post("/v1/models/default:predict", answer)
    return BackgroundServer(application)


async def test_slow_answers_do_not_slow_the_schedule() -> None:
    """A closed loop of any sensible width would need 10 s for these 20 requests of 0.5 s each, one after another."""
    with slow_server(0.5) as server:
        began = time.monotonic()
        result = await generate(server.url, [b"{}"], rate=100, seconds=0.2, timeout_s=5)
        assert time.monotonic() - began < 5
    assert len(result.latencies_s) == 20
    assert min(result.latencies_s) >= 0.5


async def test_timeout_is_a_kind_of_its_own() -> None:
    with slow_server(30) as server:
        result = await generate(server.url, [b"{}"], rate=20, seconds=0.1, timeout_s=0.05)
    assert dict(result.failures) == {"timeout": 2}


async def test_requests_in_flight_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "MAX_IN_FLIGHT", 3)
    with slow_server(0.3) as server:
        result = await generate(server.url, [b"{}"], rate=100, seconds=0.1, timeout_s=5)
    assert (len(result.latencies_s), sum(result.failures.values())) == (3, 7)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--rate", "0"], "--rate is 0 a second. Choose more than 0"),
        (["--rate", "1e9"], "--rate is 1e+09 a second"),
        (["--rate", "nan"], "--rate is nan a second"),
        (["--seconds", "86400"], "--seconds is 86400. Choose more than 0 and at most 3600"),
        (["--rate", "0.1", "--seconds", "1"], "less than one request"),
        (["--url", "http://203.0.113.7"], "neither on this machine nor the stack's endpoint, http://127.0.0.1:1."),
        (["--url", "http://example.com"], "neither on this machine nor the stack's endpoint"),
    ],
)
def test_load_that_is_too_large_or_on_someone_else_is_refused(run: Run, arguments: list[str], expected: str) -> None:
    outcome = run("load", *arguments)
    assert outcome.code == 1
    assert expected in outcome.err


@pytest.mark.parametrize("host", ["127.0.0.1:80", "127.99.1.2:8080", "localhost:8888", "[::1]:8888"])
def test_this_machine_may_be_loaded(host: str) -> None:
    assert load.is_loopback(f"http://{host}")


@given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(0.01, 1))
def test_percentile_is_the_smallest_sample_that_covers_its_share(samples: list[float], share: float) -> None:
    value = percentile(samples, share)
    assert value in samples
    assert sum(one <= value for one in samples) >= share * len(samples) - 1e-6
    assert sum(one < value for one in samples) < share * len(samples) + 1e-6


@pytest.mark.parametrize(("count", "has_p99"), [(199, False), (200, True)])
def test_p99_needs_200_answers(count: int, has_p99: bool) -> None:
    result = LoadResult(rate=1, scheduled=count, latencies_s=[0.001] * count, elapsed_s=1)
    figures: dict[str, Any] = as_json(result)
    assert (figures["latencyMs"]["p99"] is not None) is has_p99
