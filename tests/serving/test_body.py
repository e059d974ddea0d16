"""Bodies that arrive slowly, too long or in vain, and the connection after them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import pytest

from serving.gateway import body as bodies
from serving.gateway.http import HttpError
from tests.model.tiny import colour_jpeg
from tests.serving.conftest import Client, b64

RED = json.dumps({"instances": [b64(colour_jpeg("red"))]}).encode()


class Sender:
    """Sends a body in parts; `ends`: its last part is the end, otherwise there is more that never comes."""

    def __init__(self, parts: Sequence[bytes], *, ends: bool = True) -> None:
        self.left = list(parts)
        self.taken = 0
        self.sent: list[Any] = []
        self._ends = ends

    async def receive(self) -> Any:
        if not self.left:
            await asyncio.Event().wait()
        part = self.left.pop(0)
        self.taken += len(part)
        return {"type": "http.request", "body": part, "more_body": bool(self.left) or not self._ends}

    async def send(self, message: Any) -> None:
        self.sent.append(message)

    async def predict(self, client: Client, *, length: int | None = None, **headers: str) -> int:
        """POST the body, chunked unless it has a length; the answer's status."""
        given = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
        given.append((b"transfer-encoding", b"chunked") if length is None else (b"content-length", b"%d" % length))
        path = "/v1/models/default:predict"
        scope = {"type": "http", "method": "POST", "path": path, "headers": given}
        await client.app(scope, self.receive, self.send)
        return int(self.sent[0]["status"])

    @property
    def closes(self) -> bool:
        return (b"connection", b"close") in self.sent[0]["headers"]


@pytest.fixture(autouse=True)
def impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test waits for seconds."""
    monkeypatch.setattr("serving.gateway.app.DISCARD_S", 0.05)
    monkeypatch.setattr("serving.gateway.app.LINGER_S", 0.05)


async def test_a_refused_body_is_thrown_away_and_its_connection_kept(client: Client) -> None:
    sender = Sender([b"x" * 1000] * 20)
    with client.admission.admit() as place:
        place.grow(64)
        assert await sender.predict(client, length=20_000) == 429
        assert client.admission.bytes == 0, "nothing of it was kept"
    assert sender.taken == 20_000
    assert not sender.closes
    assert [part.get("more_body", False) for part in sender.sent[1:]] == [False]


async def test_a_refused_body_that_does_not_arrive_ends_the_connection_after_the_answer(client: Client) -> None:
    sender = Sender([b"x" * 1000], ends=False)
    with client.admission.admit() as place:
        place.grow(64)
        assert await sender.predict(client, length=20_000) == 429
    assert sender.closes
    first, last = sender.sent[1:]
    assert first["body"], "the whole answer is sent before the wait for the rest"
    assert first["more_body"]
    assert not last.get("more_body", False)


async def test_a_body_that_is_too_long_is_413_wherever_that_shows(client: Client) -> None:
    for length in (None, 3 * 2**20):
        sender = Sender([b" " * 2**18] * 12)
        assert await sender.predict(client, length=length) == 413
    sender = Sender([b" " * 2**18] * 5)
    assert await sender.predict(client) == 413
    assert not sender.closes, "its end was near enough"


async def test_an_endless_body_is_not_read_for_ever(client: Client) -> None:
    sender = Sender([b" " * 2**18] * 100)
    assert await sender.predict(client) == 413
    assert sender.closes
    assert sender.taken < 5 * 2**20


async def test_a_slow_body_is_408_and_holds_only_what_it_sent(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client.app._v1._inference, "_body_timeout_s", 0.1)
    sender = Sender([b"x" * 100], ends=False)
    waiting = asyncio.create_task(sender.predict(client, length=2**20))
    await asyncio.sleep(0.02)
    assert (client.admission.images, client.admission.bytes) == (0, 100), "it has no place in the queue yet"
    assert await waiting == 408
    assert sender.closes
    assert client.admission.bytes == 0


async def test_many_slow_bodies_hold_nobody_up(client: Client) -> None:
    slow = [Sender([b"x"], ends=False) for _ in range(200)]
    waiting = [asyncio.create_task(sender.predict(client, length=2**20)) for sender in slow]
    await asyncio.sleep(0.02)
    assert (await client.predict(RED)).status == 200
    for task in waiting:
        task.cancel()


async def test_without_a_body_nothing_is_waited_for() -> None:
    async def never() -> Any:
        raise AssertionError("nothing is to come")

    for headers in ((), ((b"content-length", b"0"),)):
        incoming = bodies.Body(never, headers)
        assert incoming.complete
        assert await incoming.discard(100, 1.0)


async def test_the_senders_deadline_is_kept(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    async def endless(*_: Any) -> Any:
        await asyncio.Event().wait()

    monkeypatch.setattr(client.router, "infer", endless)
    assert await Sender([RED]).predict(client, x_request_timeout_ms="50") == 504
    assert client.admission.images == 0


async def test_space_around_it_is_no_part_of_a_deadline(client: Client) -> None:
    assert await Sender([RED]).predict(client, x_request_timeout_ms="5000 ") == 200  # RFC 9110, 5.5


@pytest.mark.parametrize("value", ["0", "-1", "1.5", "soon", "1e3", "9999999999"])
async def test_a_deadline_is_a_whole_number_of_milliseconds(client: Client, value: str) -> None:
    sender = Sender([RED])
    assert await sender.predict(client, x_request_timeout_ms=value) == 400
    assert b"x-request-timeout-ms" in sender.sent[1]["body"]


async def test_a_request_that_waited_too_long_for_a_decoder_is_429(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client.admission, "queue_deadline_s", -1.0)
    reply = await client.predict(RED)
    assert reply.status == 429
    assert "too long" in reply.json["error"]


async def test_a_body_that_may_not_be_held_is_refused_while_it_arrives() -> None:
    sender = Sender([b"x" * 10] * 10)
    incoming = bodies.Body(sender.receive, ((b"content-length", b"100"),))

    def at_most_30(size: int) -> None:
        if size > 30:
            raise HttpError(429, "full")  # type: ignore[arg-type]

    with pytest.raises(HttpError, match="full"):
        await incoming.read(1000, 5.0, at_most_30)
    assert sender.taken == 40
