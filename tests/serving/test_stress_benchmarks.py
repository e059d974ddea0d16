"""The load generator against a server of known ways, and what the reports call a problem."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import contract
from benchmarks.serving import overload, soak
from benchmarks.serving.generator import Load, generate
from benchmarks.serving.soak import Sample

pytestmark = pytest.mark.slow

HOST = f"127.208.{os.getpid() // 250 % 250}.{1 + os.getpid() % 250}"
"""Of this test process alone: several may run side by side."""


@contextmanager
def server(statuses: list[int], delay_s: float = 0.0, *, closes: bool = False) -> Iterator[list[bytes]]:
    """Answers with these statuses in turn; yields the bodies that it was sent."""
    bodies: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.readuntil(b"\r\n\r\n"):
            length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
            bodies.append(await reader.readexactly(length))
            status = statuses[(len(bodies) - 1) % len(statuses)]
            await asyncio.sleep(delay_s)
            close = b"Connection: close\r\n" if closes else b""
            writer.write(b"HTTP/1.1 %d X\r\nContent-Length: 2\r\n%s\r\n{}" % (status, close))
            if closes:
                writer.close()
                return

    loop = asyncio.new_event_loop()
    made = loop.run_until_complete(asyncio.start_server(answer, HOST, contract.API_PORT))
    loop.set_exception_handler(lambda *_: None)
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield bodies
    finally:
        loop.call_soon_threadsafe(made.close)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / "a", tmp_path / "b"]
    for path in paths:
        path.write_bytes(path.name.encode())
    return paths


def test_an_open_loop_does_not_wait_for_slow_answers(files: list[Path]) -> None:
    with server([200, 429], delay_s=0.3) as bodies:
        load = generate(HOST, files, 0.5, rate=40)
    assert load.answers == {"200": 10, "429": 10}
    assert sorted(bodies) == [b"a"] * 10 + [b"b"] * 10, "each once, none again"
    assert len(load.lag_s) == 20
    assert load.connections > 5, "more than one at a time were under way"
    assert min(load.good_s) >= 0.3
    assert load.goodput == pytest.approx(20, rel=0.01)


def test_a_closed_loop_keeps_its_connections(files: list[Path]) -> None:
    with server([200]):
        load = generate(HOST, files, 0.3, concurrency=2)
    assert load.connections == 2
    assert set(load.answers) == {"200"}


def test_a_connection_that_the_server_ends_is_not_used_again(files: list[Path]) -> None:
    with server([200], closes=True):
        load = generate(HOST, files, 0.3, rate=30)
    assert load.answers == {"200": 9}
    assert load.connections == 9


def test_nobody_there_is_a_failure_of_each_request(files: list[Path]) -> None:
    load = generate("127.209.0.1", files, 0.2, rate=20)
    assert load.answers == {"cannot connect (ConnectionRefusedError)": 4}


def samples(resident_mib: float = 500.0, descriptors: int = 200, health: int = 200) -> list[Sample]:
    steady = [Sample(float(at), 500 * 2**20, 200, 200) for at in range(90)]
    return steady + [Sample(float(at), int(resident_mib * 2**20), descriptors, health) for at in range(90, 100)]


@pytest.mark.parametrize(
    ("late", "restarts", "answers", "text"),
    [
        (samples(resident_mib=511), [], {"200": 9}, "resident memory grew by 11.0 MiB"),
        (samples(descriptors=300), [], {"200": 9}, "100 more descriptors"),
        (samples(health=503), [], {"200": 9}, "health was not always 200"),
        (samples(), ["triton"], {"200": 9}, "processes were started again"),
        (samples(), [], {"200": 9, "429": 1}, "not everything was answered with 200"),
    ],
)
def test_a_soak_finds_what_grows_and_what_fails(
    late: list[Sample], restarts: list[str], answers: dict[str, int], text: str
) -> None:
    assert soak.problems(Load(answers={"200": 9}), samples(resident_mib=509), []) == []
    (problem,) = soak.problems(Load(answers=answers), late, restarts)
    assert text in problem


def test_an_overload_that_misses_a_goal_says_which() -> None:
    fine = {
        "overload_goodput_ratio": 0.81,
        "accepted_p99_ms": 1100.0,
        "accepted_p99_goal_ms": 1200.0,
        "health_answers": {"overload": {200: 9}},
        "overload": {"answers": {"200": 3, "429": 6}},
        "restarts": [],
    }
    assert overload.missed(fine) == []
    worse = {
        "overload_goodput_ratio": 0.79,
        "accepted_p99_ms": 1300.0,
        "health_answers": {"overload": {200: 9, 503: 1}},
        "overload": {"answers": {"200": 3, "503": 1}},
        "restarts": ["triton"],
    }
    for name, value in worse.items():
        assert len(overload.missed(fine | {name: value})) == 1
