"""The gateway as a raw ASGI application: routes, and what each of them answers."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from concurrent.futures import Executor
from http import HTTPStatus
from typing import Any, Final

import contract
from artifact.signature import SignatureFile, TensorSpec
from serving.gateway.admission import Admission
from serving.gateway.body import DISCARD_S, LINGER_S, Body
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
)
from serving.gateway.inference import Inference
from serving.gateway.router import Router
from serving.health import Status
from serving.tensors import TYPES

_log = logging.getLogger(__name__)

_MODEL_ROUTE: Final = re.compile(
    r"/v1/models/(?P<model>[^/:]+)(?:/versions/(?P<version>[^/:]+))?(?P<rest>|/metadata|/labels|:predict)"
)
_PLAIN_TEXT: Final[Headers] = ((b"content-type", b"text/plain; charset=utf-8"),)


class Gateway:
    """Answers HTTP requests about one model; `status` is the supervisor's word on the VM."""

    def __init__(
        self,
        *,
        vm: str,
        key: str,
        version: int,
        signatures: SignatureFile,
        labels: tuple[str, ...],
        status: Callable[[], Status],
        router: Router,
        admission: Admission,
        decoders: Executor,
        max_body_bytes: int,
        body_timeout_s: float,
        request_timeout_s: float,
    ) -> None:
        self._version = str(version)
        self._signatures = signatures
        self._labels = "".join(f"{label}\n" for label in labels).encode()
        self._status = status
        self._max_body_bytes = max_body_bytes
        self._inference = Inference(
            signatures=signatures,
            router=router,
            admission=admission,
            decoders=decoders,
            max_body_bytes=max_body_bytes,
            body_timeout_s=body_timeout_s,
            request_timeout_s=request_timeout_s,
        )
        self._common: Headers = (
            (contract.SERVED_BY_HEADER.encode(), vm.encode()),
            (contract.MODEL_KEY_HEADER.encode(), key.encode()),
        )
        self._metadata = Answer.of(HTTPStatus.OK, self._describe()).body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            raise RuntimeError(f"only HTTP is served, not {scope['type']}")
        incoming = Body(receive, scope["headers"])
        try:
            answer = await self._answer(scope, incoming)
        except DisconnectedError:
            return
        except HttpError as error:
            answer = error.answer()
        except Exception:  # noqa: BLE001 - a fault of this program is this request's, not the worker's
            _log.exception("a request failed", extra={"path": scope["path"]})
            text = {"error": "internal error; the server's log has it"}
            answer = Answer.of(HTTPStatus.INTERNAL_SERVER_ERROR, text)
        headers = [*answer.headers, *self._common, (b"content-length", str(len(answer.body)).encode())]
        slow = answer.status == HTTPStatus.REQUEST_TIMEOUT
        arrived = incoming.complete or await incoming.discard(self._max_body_bytes, 0 if slow else DISCARD_S)
        if self._status().draining or not arrived:
            # The connection must not be used again: this VM will soon be gone, or what comes next is body.
            headers.append((b"connection", b"close"))
        body = b"" if scope["method"] == "HEAD" else answer.body
        await send({"type": "http.response.start", "status": int(answer.status), "headers": headers})
        await send({"type": "http.response.body", "body": body, "more_body": not arrived})
        if not arrived:
            await incoming.discard(self._max_body_bytes, LINGER_S)
            await send({"type": "http.response.body"})

    async def _answer(self, scope: Scope, incoming: Body) -> Answer:
        path, method = scope["path"], scope["method"]
        if path == contract.LIVENESS_PATH:
            _only(method, path, "GET", "HEAD")
            return self._liveness()
        route = _MODEL_ROUTE.fullmatch(path)
        if route is None:
            raise not_found(f"Malformed request: {method} {path}")
        model, version, rest = route["model"], route["version"], route["rest"]
        if model != contract.MODEL_NAME:
            raise not_found(f"Could not find any versions of model {model}")
        if version not in (None, self._version):
            raise not_found(f"Could not find version {version} of model {model}")
        if rest == ":predict":
            _only(method, path, "POST")
            return await self._inference.answer(scope, incoming)
        _only(method, path, "GET", "HEAD")
        if rest == "/metadata":
            return Answer(HTTPStatus.OK, self._metadata)
        if rest == "/labels":
            if not self._labels:
                raise not_found(f"model {model} has no labels")
            return Answer(HTTPStatus.OK, self._labels, _PLAIN_TEXT)
        return self._health()

    def _liveness(self) -> Answer:
        status = self._status()
        code = HTTPStatus.OK if status.live else HTTPStatus.SERVICE_UNAVAILABLE
        return Answer.of(code, {"live": status.live, "reason": status.reason})

    def _health(self) -> Answer:
        """Model status; its code is serving health, unlike TensorFlow Serving's, which is 200 while loading."""
        status = self._status()
        error_code = "OK" if status.serving else "UNAVAILABLE"
        document: dict[str, Any] = {
            "model_version_status": [
                {
                    "version": self._version,
                    "state": status.state,
                    "status": {"error_code": error_code, "error_message": status.reason},
                }
            ]
        }
        if status.serving:
            return Answer.of(HTTPStatus.OK, document)
        return Answer.of(HTTPStatus.SERVICE_UNAVAILABLE, {"error": status.reason} | document)

    def _describe(self) -> dict[str, Any]:
        """As TensorFlow Serving's GetModelMetadata says it in JSON."""
        signatures = {
            name: {
                "inputs": {spec.name: _tensor_info(spec) for spec in signature.inputs},
                "outputs": {spec.name: _tensor_info(spec) for spec in signature.outputs},
                "method_name": "tensorflow/serving/predict",
            }
            for name, signature in self._signatures.signatures.items()
        }
        return {
            "model_spec": {"name": contract.MODEL_NAME, "signature_name": "", "version": self._version},
            "metadata": {"signature_def": {"signature_def": signatures}},
        }


def _only(method: str, path: str, *allowed: str) -> None:
    if method not in allowed:
        raise method_not_allowed(method, path, ", ".join(allowed))


def _tensor_info(spec: TensorSpec) -> dict[str, Any]:
    dims = [{"size": str(size), "name": ""} for size in spec.shape]
    return {
        "dtype": TYPES[spec.dtype].tensorflow,
        "tensor_shape": {"dim": dims, "unknown_rank": False},
        "name": spec.tensor,
    }
