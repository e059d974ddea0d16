"""TensorFlow Serving's REST API v1: status, metadata and `:predict` of the one model that the VM serves.

Follows https://www.tensorflow.org/tfx/serving/api_rest, and where that says nothing
tensorflow_serving/model_servers/http_rest_api_handler.cc and http_rest_api_util.cc.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any, Final

import contract
from artifact.signature import SignatureFile, TensorSpec
from serving.gateway import predict
from serving.gateway.body import Body
from serving.gateway.http import Answer, Headers, HttpError, bad_request, not_found, options
from serving.gateway.inference import Inference
from serving.gateway.size import most_commas
from serving.gateway.trace import Trace
from serving.health import Status
from serving.tensors import TYPES, Array

_ROUTE: Final = re.compile(
    r"(?i:/v1/models)(?:/(?P<model>[^/:]+))?(?:/versions/(?P<version>[0-9]+)|/labels/(?P<label>[^/:]+))?"
    r"(?P<rest>|/metadata|/labels|:predict|:classify|:regress)"
)
_ROUTE_NAMES: Final = {"": "status", "/metadata": "metadata", "/labels": "labels"}
_METHOD_NAME: Final = "tensorflow/serving/predict"
_OTHER_METHODS: Final = {":classify": "classification", ":regress": "regression"}
_MAX_VERSION: Final = 2**63 - 1
_MAX_DIGITS: Final = len(str(_MAX_VERSION))
"""Python refuses to convert thousands of them."""
_PLAIN_TEXT: Final[Headers] = ((b"content-type", b"text/plain; charset=utf-8"),)


class RestV1:
    """Answers requests below `/v1/`."""

    def __init__(
        self,
        *,
        version: str,
        signatures: SignatureFile,
        labels: tuple[str, ...],
        status: Callable[[], Status],
        inference: Inference,
    ) -> None:
        self._version = version
        self._signatures = signatures
        self._commas = most_commas(signatures)
        self._labels = "".join(f"{label}\n" for label in labels).encode()
        self._status = status
        self._inference = inference
        self._metadata = Answer.of(HTTPStatus.OK, self._describe())

    async def answer(self, headers: Headers, incoming: Body, trace: Trace) -> Answer:
        """Answer one request; `trace` has its method and path.

        Raises:
            HttpError: it is refused, or cannot be answered.
            DisconnectedError: its sender went away.
        """
        route = _ROUTE.fullmatch(trace.path)
        verb = route["rest"].startswith(":") if route else False
        if route is None or (trace.method not in (("POST", "OPTIONS") if verb else ("GET", "HEAD", "OPTIONS"))):
            raise bad_request(f"Malformed request: {trace.method} {trace.path}")
        trace.route = route["rest"].lstrip(":") if verb else _ROUTE_NAMES[route["rest"]]
        if route["version"] and (len(route["version"]) > _MAX_DIGITS or int(route["version"]) > _MAX_VERSION):
            raise bad_request(f"Failed to convert version: {route['version']} to numeric.")
        if trace.method == "OPTIONS":
            return options("POST, OPTIONS" if verb else "GET, HEAD, OPTIONS")
        if verb:
            self._check_servable(route)
            if route["rest"] == ":predict":
                return await self.answer_predict(headers, incoming, trace)
            raise self._no_method(route["rest"])
        return self._read(route)

    async def answer_predict(self, headers: Headers, incoming: Body, trace: Trace) -> Answer:
        """Answer `POST :predict`.

        Raises:
            HttpError: it is refused, or cannot be answered.
            DisconnectedError: its sender went away.
        """
        return await self._inference.answer(headers, incoming, trace, self)

    def parse(self, headers: Headers, body: bytes) -> predict.Predict:
        """The request in a body (`serving.gateway.inference.Dialect`)."""
        del headers
        return predict.parse(body, self._signatures, self._commas)

    def encode(self, request: predict.Predict, outputs: Mapping[str, Array]) -> Answer:
        """The answer from the graph's outputs (`serving.gateway.inference.Dialect`)."""
        return Answer(HTTPStatus.OK, predict.answer(request, outputs))

    def _read(self, route: re.Match[str]) -> Answer:
        if route["rest"] == "/metadata":
            if route["model"] is None:
                raise bad_request("Missing model name in request.")
            self._check_servable(route)
            return self._metadata
        self._check_known(route["model"], route["version"])
        # A label on a status request changes nothing, as in GetModelStatusWithModelSpec: all versions are told of.
        if route["rest"] == "/labels":
            if not self._labels:
                raise not_found(f"model {route['model']} has no labels")
            return Answer(HTTPStatus.OK, self._labels, _PLAIN_TEXT)
        return self._health()

    def _check_known(self, model: str | None, version: str | None) -> None:
        """As GetModelStatusWithModelSpec looks a model up."""
        if model is None:
            raise bad_request("Missing model name in request.")
        if model != contract.MODEL_NAME:
            raise not_found(f"Could not find any versions of model {model}")
        if version is not None and int(version) != int(self._version):
            raise not_found(f"Could not find version {version} of model {model}")

    def _check_servable(self, route: re.Match[str]) -> None:
        """As ServerCore::GetServableHandle looks a model up."""
        model, version, label = route["model"], route["version"], route["label"]
        if model == contract.MODEL_NAME and label is not None:
            raise bad_request(f"Unrecognized servable version label: {label}")
        if model != contract.MODEL_NAME or (version is not None and int(version) != int(self._version)):
            wanted = f"Latest({model})" if version is None else f"Specific({model}, {version})"
            raise not_found(f"Servable not found for request: {wanted}")

    @staticmethod
    def _no_method(verb: str) -> HttpError:
        """What TensorFlow Serving says of a signature that was exported for predictions alone, as all here are."""
        kind, wanted = _OTHER_METHODS[verb], f"tensorflow/serving/{verb[1:]}"
        return bad_request(f"Expected {kind} signature method_name to be {wanted}. Was: {_METHOD_NAME}; use :predict")

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
                "method_name": _METHOD_NAME,
            }
            for name, signature in self._signatures.signatures.items()
        }
        return {
            "model_spec": {"name": contract.MODEL_NAME, "signature_name": "", "version": self._version},
            "metadata": {"signature_def": {"signature_def": signatures}},
        }


def _tensor_info(spec: TensorSpec) -> dict[str, Any]:
    dims = [{"size": str(size), "name": ""} for size in spec.shape]
    return {
        "dtype": TYPES[spec.dtype].tensorflow,
        "tensor_shape": {"dim": dims, "unknown_rank": False},
        "name": spec.tensor,
    }
