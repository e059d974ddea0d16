"""The gateway behind a real HTTP server, in a thread of the test's process, with a stand-in for the GPUs."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import uvicorn

from artifact.signature import SignatureFile
from serving.gateway.access_log import AccessLog
from serving.gateway.admission import Admission
from serving.gateway.app import Gateway
from tests.serving.conftest import SERVING


@contextmanager
def live_gateway(
    host: str, port: int, router: Any, signatures: SignatureFile, labels: tuple[str, ...]
) -> Iterator[str]:
    """Serve on `host`:`port` (0: any); the address, as `host:port`."""
    listener = socket.create_server((host, port))
    with ThreadPoolExecutor(2) as decoders:
        app = Gateway(
            vm="vm-1",
            key="0123456789abcdef0123",
            version=1,
            platform="onnxruntime_onnx",
            signatures=signatures,
            labels=labels,
            status=lambda: SERVING,
            router=router,
            admission=Admission(64, 2**26),
            decoders=decoders,
            access_log=AccessLog(0.0, 0),
            max_body_bytes=2**24,
            body_timeout_s=5.0,
            request_timeout_s=5.0,
        )
        config = uvicorn.Config(
            app, http="httptools", ws="none", lifespan="off", log_config=None, access_log=False, server_header=False
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        deadline = time.monotonic() + 10
        while not server.started:
            assert time.monotonic() < deadline, "the gateway did not start"
            time.sleep(0.01)
        try:
            yield "{}:{}".format(*listener.getsockname())
        finally:
            server.should_exit = True
            thread.join(10)
            listener.close()
