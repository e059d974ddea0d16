"""The gateway as a raw ASGI application: which protocol a request speaks, and what every answer carries."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from concurrent.futures import Executor
from http import HTTPStatus

import contract
from artifact.signature import SignatureFile
from serving.gateway import metrics
from serving.gateway.access_log import AccessLog
from serving.gateway.admission import Admission
from serving.gateway.body import DISCARD_S, LINGER_S, Body
from serving.gateway.compression import WORTHWHILE_BYTES, gzipped, takes_gzip
from serving.gateway.http import (
    Answer,
    DisconnectedError,
    Headers,
    HttpError,
    Receive,
    Scope,
    Send,
    method_not_allowed,
    not_found,
    options,
    without_frames,
)
from serving.gateway.inference import Inference
from serving.gateway.open_inference import OpenInference
from serving.gateway.rest_v1 import RestV1
from serving.gateway.router import Router
from serving.gateway.trace import Trace
from serving.health import Status

_log = logging.getLogger(__name__)


class Gateway:
    """Answers HTTP requests about one model; `status` is the supervisor's word on the VM."""

    def __init__(
        self,
        *,
        vm: str,
        key: str,
        version: int,
        platform: str,
        signatures: SignatureFile,
        labels: tuple[str, ...],
        status: Callable[[], Status],
        router: Router,
        admission: Admission,
        decoders: Executor,
        access_log: AccessLog,
        max_body_bytes: int,
        body_timeout_s: float,
        request_timeout_s: float,
    ) -> None:
        self._status = status
        self._access_log = access_log
        self._max_body_bytes = max_body_bytes
        inference = Inference(
            router=router,
            admission=admission,
            decoders=decoders,
            max_body_bytes=max_body_bytes,
            body_timeout_s=body_timeout_s,
            request_timeout_s=request_timeout_s,
        )
        self._v1 = RestV1(
            version=str(version), signatures=signatures, labels=labels, status=status, inference=inference
        )
        self._v2 = OpenInference(
            version=str(version),
            key=key,
            platform=platform,
            signatures=signatures,
            labels=labels,
            status=status,
            inference=inference,
        )
        self._common: Headers = (
            (contract.SERVED_BY_HEADER.encode(), vm.encode()),
            (contract.MODEL_KEY_HEADER.encode(), key.encode()),
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            raise RuntimeError(f"only HTTP is served, not {scope['type']}")
        began = time.perf_counter()
        trace = Trace(scope["method"], scope["path"])
        incoming = Body(receive, scope["headers"])
        try:
            answer = await self._answer(scope["headers"], incoming, trace)
        except DisconnectedError as gone:
            trace.reason = "disconnected"
            without_frames(gone)
            self._over(trace, 0, 0, began)
            return
        except HttpError as error:
            trace.reason = error.reason
            answer = error.answer()
            without_frames(error)
        except Exception as fault:  # noqa: BLE001 - a fault of this program is this request's, not the worker's
            _log.exception("a request failed", extra={"path": scope["path"]})
            without_frames(fault)
            trace.reason = "fault"
            text = {"error": "internal error; the server's log has it"}
            answer = Answer.of(HTTPStatus.INTERNAL_SERVER_ERROR, text)
        content = answer.body
        headers = [*answer.headers, *self._common]
        if trace.answered:
            headers.append((b"server-timing", trace.server_timing()))
        if len(content) >= WORTHWHILE_BYTES:
            headers.append((b"vary", b"accept-encoding"))
            if takes_gzip(scope["headers"]):
                content = await gzipped(content)
                headers.append((b"content-encoding", b"gzip"))
        if answer.status != HTTPStatus.NO_CONTENT:
            headers.append((b"content-length", str(len(content)).encode()))
        slow = answer.status == HTTPStatus.REQUEST_TIMEOUT
        arrived = incoming.complete or await incoming.discard(self._max_body_bytes, 0 if slow else DISCARD_S)
        if self._status().draining or not arrived:
            # The connection must not be used again: this VM will soon be gone, or what comes next is body.
            headers.append((b"connection", b"close"))
        if trace.method == "HEAD":
            content = b""
        await send({"type": "http.response.start", "status": int(answer.status), "headers": headers})
        await send({"type": "http.response.body", "body": content, "more_body": not arrived})
        self._over(trace, int(answer.status), len(content), began)
        if not arrived:
            await incoming.discard(self._max_body_bytes, LINGER_S)
            await send({"type": "http.response.body"})

    async def _answer(self, headers: Headers, incoming: Body, trace: Trace) -> Answer:
        path = trace.path
        if path == contract.PREDICT_PATH and trace.method == "POST":
            trace.route = "predict"
            return await self._v1.answer_predict(headers, incoming, trace)
        if path[:4].lower() == "/v1/":
            return await self._v1.answer(headers, incoming, trace)
        if path == "/v2" or path.startswith("/v2/"):
            return await self._v2.answer(headers, incoming, trace)
        if path == contract.LIVENESS_PATH:
            trace.route = "healthz"
            return self._liveness(trace)
        raise not_found(f"{trace.method} {path}: there is nothing here; the API is below /v1/ and /v2/")

    def _over(self, trace: Trace, status: int, bytes_out: int, began: float) -> None:
        """Tell the metrics and the access log; `status` 0: the client went away."""
        seconds = time.perf_counter() - began
        metrics.count(trace, str(status) if status else "disconnected", seconds)
        self._access_log.record(trace, status, bytes_out, seconds)

    def _liveness(self, trace: Trace) -> Answer:
        if trace.method == "OPTIONS":
            return options("GET, HEAD, OPTIONS")
        if trace.method not in ("GET", "HEAD"):
            raise method_not_allowed(trace.method, trace.path, "GET, HEAD, OPTIONS")
        status = self._status()
        code = HTTPStatus.OK if status.live else HTTPStatus.SERVICE_UNAVAILABLE
        return Answer.of(code, {"live": status.live, "reason": status.reason})
