"""uvicorn's HTTP/1.1, with limits on a request's head: uvicorn itself has none on its size nor on its time."""

from __future__ import annotations

import asyncio
import sys
from http import HTTPStatus
from typing import Any, Final, cast

from httptools import HttpParserUpgrade
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from serving.gateway.body import LINGER_S
from serving.gateway.http import HttpError

MAX_HEAD_BYTES: Final = 64 * 2**10
"""Request line and headers together; each byte of them is held until the request is over."""
HEAD_TIMEOUT_S: Final = 20.0
"""From a head's first byte to its last."""


class _TooLargeError(Exception):
    """Ends the parsing of a request."""


class LimitedProtocol(HttpToolsProtocol):
    """One connection. What is no request is answered in the API's own form, and its connection closed."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - uvicorn's
        super().__init__(*args, **kwargs)
        self._in_head = False
        self._head_bytes = 0
        self._too_large = False
        self._refused = False
        self._timer: asyncio.TimerHandle | None = None
        self._upgrade_at: int | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A connection that has had no request is idle like one that has."""
        super().connection_made(cast("asyncio.Transport", transport))
        self.timeout_keep_alive_task = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing more is to come."""
        self._stop_timer()
        self._unset_keepalive_if_required()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Bytes of any number of requests, in any pieces."""
        if self._refused:
            return
        continued = self._in_head
        super().data_received(data)
        while self._upgrade_at is not None:
            rest, self._upgrade_at = data[self._upgrade_at :], None
            data = self._head_without_upgrade() + rest
            super().data_received(data)
        if not self._in_head:
            return
        if self._timer is None:
            self._timer = self.loop.call_later(HEAD_TIMEOUT_S, self._refuse, HTTPStatus.REQUEST_TIMEOUT)
        # The parser hands a header on when it is complete, so only here is one seen to grow.
        self._head_bytes += len(data) if continued else 0
        if self._head_bytes > MAX_HEAD_BYTES:
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)

    def on_message_begin(self) -> None:
        """The first byte of a request's head."""
        super().on_message_begin()
        self._in_head = True
        self._head_bytes = 0

    def on_headers_complete(self) -> None:
        """The head has arrived."""
        self._in_head = False
        self._stop_timer()
        if len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers) > MAX_HEAD_BYTES:
            self._too_large = True
            raise _TooLargeError
        if not self._asks_for_upgrade():
            super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The whole request has arrived."""
        if not self._asks_for_upgrade():
            super().on_message_complete()

    def _asks_for_upgrade(self) -> bool:
        """Whether this head offers another protocol, as those of Java's HTTP client do unless it is told not to.

        A server may pass over that (RFC 9110, 7.8). The parser cannot: it takes such a request for one without a body
        and stops behind its head. So the head is parsed a second time, without its Upgrade.
        """
        return bool(self.parser.should_upgrade()) and self.parser.get_method() != b"CONNECT"

    def _unsupported_upgrade_warning(self) -> None:
        """The parser has stopped; its error, which uvicorn is handling here, says where."""
        stopped = sys.exception()
        if isinstance(stopped, HttpParserUpgrade) and self._asks_for_upgrade():
            self._upgrade_at = stopped.args[0]
        else:
            self._refuse(HTTPStatus.BAD_REQUEST)

    def _head_without_upgrade(self) -> bytes:
        version = self.parser.get_http_version().encode()
        lines = [b"%s %s HTTP/%s" % (self.parser.get_method(), self.url, version)]
        lines += [b"%s: %s" % header for header in self.headers if header[0] != b"upgrade"]
        return b"\r\n".join([*lines, b"", b""])

    def send_400_response(self, msg: str) -> None:
        """The parser has given up; uvicorn knows one answer to that."""
        del msg
        too_large = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
        self._refuse(too_large if self._too_large else HTTPStatus.BAD_REQUEST)

    def _refuse(self, status: HTTPStatus) -> None:
        """Answer, and end the connection once the client has had time to read that."""
        if self._refused or self.transport.is_closing():
            return
        self._refused = True
        self._stop_timer()
        texts = {
            HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE: f"the request's head is longer than {MAX_HEAD_BYTES} bytes",
            HTTPStatus.REQUEST_TIMEOUT: f"the request's head did not arrive within {HEAD_TIMEOUT_S:.0f} s",
        }
        body = HttpError(status, texts.get(status, "this is no HTTP/1.1 request")).answer().body
        head = b"content-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % len(body)
        self.transport.write(STATUS_LINE[status] + head + body)
        self.transport.write_eof()
        self._timer = self.loop.call_later(LINGER_S, self.transport.close)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
