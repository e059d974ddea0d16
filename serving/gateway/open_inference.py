"""Open Inference Protocol v2 over HTTP: health, metadata and inference of the one model that the VM serves.

Follows KServe's "Open Inference Protocol" (REST) with Triton's error JSON and codes. The rest of Triton's surface, that
loads models, maps memory or writes files, is not here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any, Final

import contract
from artifact.signature import SignatureFile, TensorSpec
from serving.gateway import infer
from serving.gateway.body import Body
from serving.gateway.http import Answer, Headers, method_not_allowed, not_found, options
from serving.gateway.inference import Inference
from serving.gateway.size import most_commas
from serving.gateway.trace import Trace
from serving.health import Status
from serving.tensors import TYPES, Array

SERVER_NAME: Final = "tensorrt-fleet"
_EXTENSIONS: Final = ("binary_tensor_data", "classification", "parameters")
_MODEL_ROUTE: Final = re.compile(
    r"/v2/models/(?P<model>[^/]+)(?:/versions/(?P<version>[^/]+))?(?P<rest>|/ready|/infer)"
)
_ROUTE_NAMES: Final = {"": "metadata", "/ready": "ready", "/infer": "infer"}


class OpenInference:
    """Answers requests below `/v2`."""

    def __init__(
        self,
        *,
        version: str,
        key: str,
        platform: str,
        signatures: SignatureFile,
        labels: tuple[str, ...],
        status: Callable[[], Status],
        inference: Inference,
    ) -> None:
        self._version = version
        self._signatures = signatures
        self._commas = most_commas(signatures)
        self._labels = labels
        self._status = status
        self._inference = inference
        server = {"name": SERVER_NAME, "version": key, "extensions": _EXTENSIONS}
        self._server_metadata = Answer.of(HTTPStatus.OK, server)
        self._model_metadata = Answer.of(HTTPStatus.OK, self._describe(platform))

    async def answer(self, headers: Headers, incoming: Body, trace: Trace) -> Answer:
        """Answer one request; `trace` has its method and path.

        Raises:
            HttpError: it is refused, or cannot be answered.
            DisconnectedError: its sender went away.
        """
        path = trace.path
        if path in ("/v2", "/v2/"):
            trace.route = "metadata"
            return _only_get(trace) or self._server_metadata
        if path == "/v2/health/live":
            trace.route = "live"
            return _only_get(trace) or _verdict({"live": self._status().live}, yes=self._status().live)
        if path == "/v2/health/ready":
            trace.route = "ready"
            return _only_get(trace) or self._ready()
        route = _MODEL_ROUTE.fullmatch(path)
        if route is None:
            raise not_found(f"{path} is not offered; of Open Inference Protocol v2 there are health, metadata, infer")
        trace.route = _ROUTE_NAMES[route["rest"]]
        if route["model"] != contract.MODEL_NAME or route["version"] not in (None, "", self._version):
            version = f" version {route['version']}" if route["version"] else ""
            raise not_found(f"Request for unknown model: '{route['model']}'{version} is not found")
        if route["rest"] == "/infer":
            if trace.method == "OPTIONS":
                return options("POST, OPTIONS")
            if trace.method != "POST":
                raise method_not_allowed(trace.method, path, "POST, OPTIONS")
            return await self._inference.answer(headers, incoming, trace, self)
        return _only_get(trace) or (self._ready() if route["rest"] == "/ready" else self._model_metadata)

    def parse(self, headers: Headers, body: bytes) -> infer.Infer:
        """The request in a body (`serving.gateway.inference.Dialect`)."""
        return infer.parse(body, infer.json_length(headers), self._signatures, self._commas)

    def encode(self, request: infer.Infer, outputs: Mapping[str, Array]) -> Answer:
        """The answer from the graph's outputs (`serving.gateway.inference.Dialect`)."""
        head = {"model_name": contract.MODEL_NAME, "model_version": self._version}
        return infer.answer(request, outputs, head, self._labels)

    def _ready(self) -> Answer:
        ready = self._status().serving
        return _verdict({"name": contract.MODEL_NAME, "ready": ready}, yes=ready)

    def _describe(self, platform: str) -> dict[str, Any]:
        _, signature = infer.default_signature(self._signatures)
        return {
            "name": contract.MODEL_NAME,
            "versions": [self._version],
            "platform": platform,
            "inputs": [_tensor(spec) for spec in signature.inputs],
            "outputs": [_tensor(spec) for spec in signature.outputs],
        }


def _only_get(trace: Trace) -> Answer | None:
    """The answer to OPTIONS; None for the methods that read.

    Raises:
        HttpError: 405, any other.
    """
    allowed = "GET, HEAD, OPTIONS"
    if trace.method == "OPTIONS":
        return options(allowed)
    if trace.method not in ("GET", "HEAD"):
        raise method_not_allowed(trace.method, trace.path, allowed)
    return None


def _verdict(document: dict[str, Any], *, yes: bool) -> Answer:
    """A boolean of the protocol is its status: 200 or, "a 4xx", 400 as Triton has it."""
    return Answer.of(HTTPStatus.OK if yes else HTTPStatus.BAD_REQUEST, document)


def _tensor(spec: TensorSpec) -> dict[str, Any]:
    return {"name": spec.name, "datatype": TYPES[spec.dtype].wire, "shape": spec.shape}
