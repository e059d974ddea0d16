"""Heads of requests: too large, too slow, no HTTP. Against uvicorn as the gateway runs it, on a socket."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from serving.gateway import protocol
from serving.gateway.protocol import MAX_HEAD_BYTES
from tests.serving.connections import answer, connection

OK = b"GET / HTTP/1.1\r\nHost: vm\r\n\r\n"


async def app(scope: Any, receive: Any, send: Any) -> None:
    del scope, receive
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


async def ends(reader: asyncio.StreamReader) -> bool:
    async with asyncio.timeout(10):
        return await reader.read() == b""


@pytest.mark.parametrize(
    ("wire", "status"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00", 400),
        (b"GET / HTTP/1.1\r\nno colon\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nX: " + b"a" * 2 * MAX_HEAD_BYTES + b"\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\n" + b"".join(b"X-%d: 1\r\n" % n for n in range(9000)) + b"\r\n", 431),
        (b"GET /" + b"a" * 2 * MAX_HEAD_BYTES, 431),
    ],
)
async def test_what_is_no_request_is_answered_in_json_and_the_connection_ended(wire: bytes, status: int) -> None:
    async with connection(app) as (reader, writer):
        writer.write(OK)
        assert await answer(reader) == (200, b"ok")
        writer.write(wire)
        got, body = await answer(reader)
        assert got == status
        assert set(json.loads(body)) == {"error"}
        assert await ends(reader)


async def test_a_head_in_many_parts_is_one_as_long_as_it_is_short() -> None:
    async with connection(app) as (reader, writer):
        for _ in range(3):
            for byte in OK + b"":
                writer.write(bytes([byte]))
                await writer.drain()
            assert await answer(reader) == (200, b"ok")


async def test_a_long_body_is_no_long_head() -> None:
    async with connection(app) as (reader, writer):
        body = b"x" * 4 * MAX_HEAD_BYTES
        for _ in range(3):
            writer.write(b"POST / HTTP/1.1\r\nHost: vm\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body) + OK)
            assert await answer(reader) == (200, b"ok")
            assert await answer(reader) == (200, b"ok")


async def test_a_head_that_never_ends_is_408(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "HEAD_TIMEOUT_S", 0.1)
    async with connection(app) as (reader, writer):
        writer.write(OK)
        assert await answer(reader) == (200, b"ok")
        await asyncio.sleep(0.2)
        writer.write(OK[:-2])
        assert (await answer(reader))[0] == 408, "the time between two requests is not counted"
        assert await ends(reader)
