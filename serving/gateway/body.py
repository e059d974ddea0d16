"""A request's body: read within limits, or thrown away so that its connection stays usable."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from http import HTTPStatus
from typing import Final

from serving.gateway.http import DisconnectedError, Headers, HttpError, Message, Receive, too_large

DISCARD_S: Final = 5.0
"""Time that the rest of a refused request's body has to arrive."""
LINGER_S: Final = 2.0
"""Time between the answer and the end of a connection whose body is still arriving.

Closed at once, the kernel would answer the bytes that follow with a reset, and the client would never see the answer.
"""


class Body:
    """The body of one request; `receive` is ASGI's, and may be used once the body is complete.

    Answering before the body has arrived would cost the connection: balancers close theirs then, and a client may be
    sending its next request on it.
    """

    def __init__(self, receive: Receive, headers: Headers) -> None:
        names = {name: value for name, value in headers if name in (b"content-length", b"transfer-encoding")}
        declared = names.get(b"content-length")
        self.length = int(declared) if declared is not None else None
        """As declared; the HTTP parser has checked its form. None: chunked, or none."""
        self.complete = not names or self.length == 0
        self._receive = receive

    async def receive(self) -> Message:
        """The next ASGI message."""
        message = await self._receive()
        if message["type"] == "http.disconnect" or not message.get("more_body", False):
            self.complete = True
        return message

    async def read(self, limit: int, timeout_s: float, arrived: Callable[[int], None]) -> bytes:
        """The whole body; `arrived` is told how many bytes of it have come, and may refuse it.

        Raises:
            HttpError: it is longer than `limit` bytes, or took longer than `timeout_s` to arrive.
            DisconnectedError: the client went away.
        """
        chunks: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    message = await self.receive()
                    if message["type"] == "http.disconnect":
                        raise DisconnectedError
                    chunk: bytes = message.get("body", b"")
                    size += len(chunk)
                    if size > limit:
                        raise too_large(limit)
                    arrived(size)
                    chunks.append(chunk)
                    if self.complete:
                        return chunks[0] if len(chunks) == 1 else b"".join(chunks)
        except TimeoutError:
            text = f"the request body did not arrive within {timeout_s:.0f} s"
            raise HttpError(HTTPStatus.REQUEST_TIMEOUT, text) from None

    async def discard(self, limit: int, seconds: float) -> bool:
        """Throw the rest away; whether all of it came within `limit` bytes and `seconds`."""
        size = 0
        try:
            async with asyncio.timeout(seconds):
                while not self.complete and size <= limit:
                    message = await self.receive()
                    size += len(message.get("body", b""))
        except TimeoutError:
            pass
        return self.complete
