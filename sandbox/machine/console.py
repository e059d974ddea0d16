"""A VM's serial console: one line an event, with time, source and text."""

from __future__ import annotations

import asyncio
import os
from datetime import UTC, datetime

_LINE_BYTES = 16 * 1024


class Console:
    """Appends to the serial log, which is this process's standard output."""

    def log(self, source: str, text: str) -> None:
        """Write one line; control characters other than tab are shown escaped."""
        at = datetime.now(UTC).isoformat(timespec="milliseconds").removesuffix("+00:00")
        shown = "".join(c if c.isprintable() or c == "\t" else c.encode("unicode_escape").decode() for c in text)
        os.write(1, f"{at}Z {source}: {shown}\n".encode(errors="replace"))

    async def follow(self, descriptor: int, source: str) -> None:
        """Log every line that arrives at a pipe, until all its writers have closed it; closes it."""
        loop = asyncio.get_running_loop()
        transport, protocol = await loop.connect_read_pipe(
            lambda: _Lines(self, source), os.fdopen(descriptor, "rb", buffering=0)
        )
        try:
            await protocol.closed
        finally:
            transport.close()


class _Lines(asyncio.Protocol):
    def __init__(self, console: Console, source: str) -> None:
        self._console = console
        self._source = source
        self._rest = b""
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def data_received(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._console.log(self._source, line.decode(errors="replace").rstrip("\r"))
        if len(self._rest) > _LINE_BYTES:
            self._flush()

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._flush()
        if not self.closed.done():
            self.closed.set_result(None)

    def _flush(self) -> None:
        if self._rest:
            self._console.log(self._source, self._rest.decode(errors="replace"))
            self._rest = b""
