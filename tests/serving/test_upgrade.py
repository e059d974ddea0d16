"""`Upgrade` is passed over, as RFC 9110, 7.8 allows: Java's HTTP client offers HTTP/2 so, body and all."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from serving.gateway.protocol import MAX_HEAD_BYTES
from tests.serving.connections import answer, connection

OFFER = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n"
GET = b"GET /a HTTP/1.1\r\nHost: vm\r\n%s\r\n"
POST = b"POST /a?b=%%20c HTTP/1.1\r\nHost: vm\r\n%sContent-Length: 5\r\n\r\nhello"
CHUNKED = b"POST /a HTTP/1.1\r\nHost: vm\r\n%sTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n"


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Answers with the method, the query and the body of a request."""
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    text = b" ".join([scope["method"].encode(), scope["query_string"], body])
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(text))]})
    await send({"type": "http.response.body", "body": text})


@pytest.mark.parametrize(
    ("request_", "expected"),
    [(GET, b"GET  "), (POST, b"POST b=%20c hello"), (CHUNKED, b"POST  hello")],
    ids=["GET", "POST", "chunked"],
)
@pytest.mark.parametrize("step", [1, 7, 10_000])
async def test_a_request_that_offers_another_protocol_is_answered_in_this_one(
    request_: bytes, expected: bytes, step: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    wire = request_ % OFFER + request_ % b"" + request_ % OFFER
    async with connection(echo) as (reader, writer):
        for at in range(0, len(wire), step):
            writer.write(wire[at : at + step])
            await asyncio.sleep(0)
        for _ in range(3):
            assert await answer(reader) == (200, expected)
    assert caplog.messages == [], "a line for each such request would fill the log"


async def test_many_in_one_piece_are_all_answered() -> None:
    async with connection(echo) as (reader, writer):
        writer.write(GET % OFFER * 1500)
        for _ in range(1500):
            assert await answer(reader) == (200, b"GET  ")


@pytest.mark.parametrize(
    ("wire", "status"),
    [
        (b"CONNECT vm:80 HTTP/1.1\r\nHost: vm\r\n\r\n", 400),
        (b"CONNECT vm:80 HTTP/1.1\r\nHost: vm\r\n" + OFFER + b"\r\n", 400),
        (GET % (OFFER + b"X: " + b"a" * MAX_HEAD_BYTES + b"\r\n"), 431),
        (b"POST / HTTP/1.1\r\nHost: vm\r\n" + OFFER + b"Transfer-Encoding: chunked\r\n\r\nno size\r\n", 400),
    ],
    ids=["CONNECT", "CONNECT with Upgrade", "long head", "broken chunk"],
)
async def test_what_is_refused_without_the_offer_is_refused_with_it(wire: bytes, status: int) -> None:
    async with connection(echo) as (reader, writer):
        writer.write(wire)
        assert (await answer(reader))[0] == status
