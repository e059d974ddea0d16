"""Something to serve, and a gateway that answers without Triton."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from artifact.folder import ArtifactFolder
from artifact.signature import Form, SignatureFile
from serving.gateway.access_log import AccessLog
from serving.gateway.admission import Admission
from serving.gateway.app import Gateway
from serving.gateway.deadlines import Deadlines
from serving.gateway.http import HttpError
from serving.health import Status
from serving.tensors import Array
from tests.model.tiny import COLOURS, tiny_signatures, write_tiny_artifact
from tests.serving.stand_ins import google

__all__ = ["google"]

SERVING = Status(at=0.0, serving=True, live=True, state="AVAILABLE", reason="", draining=False, gpus=(0,))


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> ArtifactFolder:
    """A complete artifact that names colours."""
    return write_tiny_artifact(tmp_path_factory.mktemp("artifact") / "tiny")


@pytest.fixture(scope="session")
def signatures() -> SignatureFile:
    """Its signatures."""
    return tiny_signatures()


@dataclass
class FakeRouter:
    """Stands for the GPUs: answers each image with a probability of one for class `index % 8`."""

    batches: list[tuple[Form, dict[str, Array]]] = field(default_factory=list)
    refusal: HttpError | None = None

    async def infer(
        self, form: Form, inputs: Mapping[str, Array], count: int, deadlines: Deadlines
    ) -> dict[str, Array]:
        del deadlines
        self.batches.append((form, dict(inputs)))
        if self.refusal:
            raise self.refusal
        return {"probabilities": np.eye(len(COLOURS), dtype=np.float32)[np.arange(count) % len(COLOURS)]}


@dataclass
class Reply:
    """What a client sees."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Client:
    """Calls an ASGI application as a server would."""

    app: Gateway
    status: Status = SERVING
    router: FakeRouter = field(default_factory=FakeRouter)
    admission: Admission = field(default_factory=lambda: Admission(64, 2**20))

    async def request(
        self,
        method: str,
        path: str,
        body: bytes | Any = b"",
        headers: Mapping[str, str] | None = None,
        *,
        leaves: bool = False,
    ) -> Reply:
        """Send a request; `leaves`: the client is gone as soon as its body is sent."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        given = {"content-length": str(len(content))} | dict(headers or {})
        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "headers": [(name.encode(), value.encode()) for name, value in given.items() if value],
        }
        messages = [{"type": "http.request", "body": content, "more_body": False}]
        sent: list[Any] = []

        async def receive() -> Any:
            if messages:
                return messages.pop(0)
            if not leaves:
                await asyncio.Event().wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            sent.append(message)

        await self.app(scope, receive, send)
        if not sent:
            return Reply(0, {}, b"")
        start, *parts = sent
        names = {name.decode(): value.decode() for name, value in start["headers"]}
        return Reply(start["status"], names, b"".join(part.get("body", b"") for part in parts))

    async def predict(self, body: bytes | Any, **options: Any) -> Reply:
        """POST to `:predict`."""
        return await self.request("POST", "/v1/models/default:predict", body, **options)


@pytest.fixture
def client(signatures: SignatureFile) -> Iterator[Client]:
    """A gateway in front of FakeRouter; its status may be set."""
    router, admission = FakeRouter(), Admission(64, 2**20)
    with ThreadPoolExecutor(2) as decoders:
        app = Gateway(
            vm="vm-1",
            key="0123456789abcdef0123",
            version=3,
            platform="onnxruntime_onnx",
            signatures=signatures,
            labels=tuple(COLOURS),
            status=lambda: made.status,
            router=router,  # type: ignore[arg-type]
            admission=admission,
            decoders=decoders,
            access_log=AccessLog(sample=1.0, errors_per_s=1000),
            max_body_bytes=2**20,
            body_timeout_s=2.0,
            request_timeout_s=5.0,
        )
        made = Client(app, SERVING, router, admission)
        yield made


def b64(data: bytes) -> dict[str, str]:
    """As the REST API takes binary values."""
    return {"b64": base64.b64encode(data).decode()}
