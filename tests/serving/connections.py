"""One connection to uvicorn as the gateway runs it, for tests that write and read bytes."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import uvicorn

from serving.gateway.protocol import LimitedProtocol


@asynccontextmanager
async def connection(app: Any) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """One connection to a server of its own that answers as `app` does."""
    listener = socket.create_server((f"127.208.{os.getpid() // 250 % 250}.{1 + os.getpid() % 250}", 0))
    config = uvicorn.Config(app, http=LimitedProtocol, ws="none", lifespan="off", log_config=None)
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    reader, writer = await asyncio.open_connection(*listener.getsockname())
    try:
        yield reader, writer
    finally:
        writer.close()
        server.should_exit = True
        await serving


async def answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """Status and body of the next one."""
    async with asyncio.timeout(10):
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        return int(head[9:12]), await reader.readexactly(length)
