"""The fleet's HTTP API as a client meets it: TensorFlow Serving's REST API v1 with `{"b64": ...}` for images."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import requests

from client.errors import ClientError, NotFoundError, UnavailableError
from contract import LABELS_PATH, METADATA_PATH, MODEL_KEY_HEADER, PREDICT_PATH, SERVED_BY_HEADER

REQUEST_TIMEOUT_S: Final = 60.0
_DEFAULT_SIGNATURE: Final = "serving_default"
UNREACHABLE_REMEDY: Final = "Check `python -m client status`; a new load balancer takes minutes to reach every edge."


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the API answered to one predict request."""

    predictions: list[Any]
    served_by: str
    """Name of the VM."""
    model_key: str
    """Key of the artifact."""
    latency_s: float
    """From the request's first byte to the answer's last, seen from here."""


def request_body(images: Sequence[bytes], signature: str = "") -> bytes:
    """The body of a predict request for encoded images, one instance an image; empty: the default signature."""
    instances = [{"b64": base64.b64encode(image).decode()} for image in images]
    named = {"signature_name": signature} if signature else {}
    return json.dumps(named | {"instances": instances}).encode()


def read_image(path: Path) -> bytes:
    """Content of an image file.

    Raises:
        ClientError: there is no such file, it cannot be read, or it is empty.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ClientError(f"{path}: {error.strerror}", "Name an existing JPEG or PNG file.") from error
    if not data:
        raise ClientError(f"{path} is empty", "Name a file with an image in it.")
    return data


def checked_url(url: str) -> str:
    """`http(s)://host[:port]` of an endpoint, without a path.

    Raises:
        ClientError: not such a URL.
    """
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.path.strip("/"):
        raise ClientError(
            f"{url!r} is not the address of a fleet", "Write http://HOST[:PORT], as the output `endpoint` does."
        )
    return f"{parts.scheme}://{parts.netloc}"


class ModelApi:
    """The default model behind one endpoint."""

    def __init__(self, endpoint: str) -> None:
        self.endpoint = checked_url(endpoint)
        self._session = requests.Session()

    def predict(self, body: bytes) -> Answer:
        """Send one predict request, once: a POST that failed may have been answered, so it is not repeated.

        Raises:
            UnavailableError: no answer, 429 or 5xx. ClientError: another refusal, with the server's reason.
        """
        began = time.monotonic()
        response = self._send("POST", PREDICT_PATH, body)
        latency_s = time.monotonic() - began
        try:
            predictions = response.json()["predictions"]
        except (ValueError, KeyError, TypeError):
            predictions = None
        if not isinstance(predictions, list):
            raise ClientError(
                f"{self.endpoint}{PREDICT_PATH} answered without `predictions`: is it a model server?",
                "Compare the address with the stack's output `endpoint`.",
            )
        return Answer(
            predictions=predictions,
            served_by=response.headers.get(SERVED_BY_HEADER, "unknown"),
            model_key=response.headers.get(MODEL_KEY_HEADER, "unknown"),
            latency_s=latency_s,
        )

    def labels(self) -> list[str]:
        """The model's labels, one a class; empty if the model has none. Raises as `predict` does."""
        try:
            response = self._send("GET", LABELS_PATH, None)
        except NotFoundError:
            return []
        return response.content.decode(errors="replace").splitlines()

    def photo_signature(self) -> str:
        """The signature that takes encoded images: empty for the default one, and where the server does not say.

        Raises:
            ClientError: the model takes no images.
        """
        try:
            response = self._send("GET", METADATA_PATH, None)
        except (NotFoundError, UnavailableError):
            return ""
        try:
            signatures = response.json()["metadata"]["signature_def"]["signature_def"]
            takes = {
                name: [one["dtype"] for one in signature["inputs"].values()] for name, signature in signatures.items()
            }
        except (ValueError, KeyError, TypeError, AttributeError):
            return ""
        photos = sorted(name for name, types in takes.items() if types == ["DT_STRING"])
        if not photos:
            raise ClientError(
                f"the model takes no images: its signatures are {', '.join(sorted(takes))}",
                "Set model.preprocessing and build it again, or send it numbers: see docs/http-api.md.",
            )
        return "" if _DEFAULT_SIGNATURE in photos else photos[0]

    def _send(self, method: str, path: str, body: bytes | None) -> requests.Response:
        url = self.endpoint + path
        headers = {"Content-Type": "application/json"} if body is not None else {}
        try:
            response = self._session.request(method, url, data=body, headers=headers, timeout=REQUEST_TIMEOUT_S)
        except requests.Timeout as error:
            raise UnavailableError(
                f"{url} did not answer within {REQUEST_TIMEOUT_S:.0f} s", UNREACHABLE_REMEDY
            ) from error
        except requests.RequestException as error:
            raise UnavailableError(f"{url} cannot be reached: {_cause(error)}", UNREACHABLE_REMEDY) from error
        if response.ok:
            return response
        raise _refusal(response, url)


def _refusal(response: requests.Response, url: str) -> ClientError:
    code = response.status_code
    problem = f"{url} answered {code}: {_reason(response)}"
    if code == 404:
        return NotFoundError(problem, UNREACHABLE_REMEDY)
    if code == 413:
        return ClientError(problem, "Send a smaller image, or fewer at a time.")
    if code == 429:
        after = response.headers.get("Retry-After", "a few")
        return UnavailableError(problem, f"The fleet is full: try again in {after} s, or raise `fleet.pools[].max`.")
    if code >= 500:
        return UnavailableError(problem, UNREACHABLE_REMEDY)
    return ClientError(
        problem, "Send a JPEG or PNG that opens in an image viewer; `docs/http-api.md` shows the request."
    )


def _reason(response: requests.Response) -> str:
    try:
        return str(response.json()["error"])
    except (ValueError, KeyError, TypeError):
        lines = response.text.strip().splitlines()
        return lines[0][:200] if lines else response.reason or "no reason given"


def _cause(error: BaseException) -> str:
    """The innermost reason of a chain of wrapped network errors: what the operating system said."""
    innermost = error
    while (deeper := innermost.__cause__ or innermost.__context__) is not None:
        innermost = deeper
    text = innermost.strerror if isinstance(innermost, OSError) and innermost.strerror else str(innermost)
    return text or type(innermost).__name__
