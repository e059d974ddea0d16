"""HTTP/1.1 by hand: sends what no client library would, and reads what comes back."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Self

_ANSWER_S = 60.0


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer. `headers` have names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def closes(self) -> bool:
        """Whether the server says that it closes the connection."""
        return self.headers.get("connection", "").lower() == "close"


class Wire:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, host: str, port: int) -> Self:
        """Connect."""
        return cls(*await asyncio.open_connection(host, port, limit=2**20))

    async def send(self, data: bytes) -> None:
        """Send bytes. One that the server hangs up on is no error here: what it answered can still be read."""
        with suppress(ConnectionError):
            self._writer.write(data)
            await self._writer.drain()

    async def read(self) -> Reply | None:
        """The next answer that is final, or None if the connection ends before one."""
        try:
            async with asyncio.timeout(_ANSWER_S):
                while (reply := await self._read()).status == 100:
                    pass
        except (asyncio.IncompleteReadError, ConnectionError):
            return None
        return reply

    async def converse(self, parts: Sequence[bytes], answers: int, pause_s: float = 0.0) -> list[Reply | None]:
        """Send `parts`, `pause_s` apart, and read so many answers meanwhile."""

        async def send_all() -> None:
            for index, part in enumerate(parts):
                if index and pause_s:
                    await asyncio.sleep(pause_s)
                await self.send(part)

        sending = asyncio.create_task(send_all())
        try:
            return [await self.read() for _ in range(answers)]
        finally:
            if not sending.done() and answers:
                sending.cancel()
            await asyncio.wait({sending})

    async def close(self) -> None:
        """Hang up."""
        self._writer.close()
        with suppress(ConnectionError):
            await self._writer.wait_closed()

    async def _read(self) -> Reply:
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        pairs = (line.partition(":") for line in head[1:] if line)
        headers = {name.lower(): value.strip() for name, _, value in pairs}
        body = await self._reader.readexactly(int(headers.get("content-length", "0")))
        return Reply(int(head[0].split()[1]), headers, body)
