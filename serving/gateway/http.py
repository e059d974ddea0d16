"""The little of HTTP that a raw ASGI application needs: answers, errors, bounded bodies."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final, TypeAlias

import orjson

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Json: TypeAlias = Any
"""What a JSON parser returns and an encoder takes."""
Headers = tuple[tuple[bytes, bytes], ...]

JSON: Headers = ((b"content-type", b"application/json"),)
_REASONS: Final = {
    HTTPStatus.REQUEST_TIMEOUT: "slow_body",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "too_large",
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: "bad_request",
    HTTPStatus.TOO_MANY_REQUESTS: "overloaded",
    HTTPStatus.INTERNAL_SERVER_ERROR: "fault",
    HTTPStatus.SERVICE_UNAVAILABLE: "unavailable",
    HTTPStatus.GATEWAY_TIMEOUT: "late",
}


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole HTTP response, but for the headers that every one carries."""

    status: int
    body: bytes
    headers: Headers = JSON

    @classmethod
    def of(cls, status: int, document: Json) -> Answer:
        """A JSON document, on a line of its own."""
        return cls(status, orjson.dumps(document, option=orjson.OPT_APPEND_NEWLINE))


class HttpError(Exception):
    """A refused request: the status, and a sentence for its sender."""

    def __init__(self, status: HTTPStatus, text: str, headers: Headers = ()) -> None:
        super().__init__(text)
        self.status = status
        self.headers = headers

    @property
    def reason(self) -> str:
        """A word for metrics and the access log."""
        return _REASONS.get(self.status, "bad_request")

    def answer(self) -> Answer:
        """As TensorFlow Serving says it: `{"error": "..."}`."""
        body = Answer.of(self.status, {"error": str(self)}).body
        return Answer(self.status, body, JSON + self.headers)


class DisconnectedError(Exception):
    """The client has gone; nobody waits for an answer."""


def without_frames(error: BaseException) -> None:
    """Let go of the frames that an error came through, once it is dealt with.

    They hold the request's body and all that was made of it, and a task among their variables holds the error: a cycle
    that only Python's garbage collector would end, many megabytes later.
    """
    error.__traceback__ = error.__context__ = error.__cause__ = None


def header(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> bytes | None:
    """Value of a request's header, or None; `name` is in lower case, as ASGI has them."""
    for known, value in headers:
        if known == name:
            return value
    return None


def bad_request(text: str) -> HttpError:
    """400."""
    return HttpError(HTTPStatus.BAD_REQUEST, text)


def not_found(text: str) -> HttpError:
    """404."""
    return HttpError(HTTPStatus.NOT_FOUND, text)


def method_not_allowed(method: str, path: str, allowed: str) -> HttpError:
    """405."""
    text = f"{method} is not allowed on {path}; use {allowed}"
    return HttpError(HTTPStatus.METHOD_NOT_ALLOWED, text, ((b"allow", allowed.encode()),))


def options(allowed: str) -> Answer:
    """Answer to OPTIONS: the methods that a path takes, and no body (RFC 9110, 9.3.7)."""
    return Answer(HTTPStatus.NO_CONTENT, b"", ((b"allow", allowed.encode()),))


def too_large(limit: int) -> HttpError:
    """413."""
    text = f"the request body is larger than {limit} bytes; send fewer or smaller instances in one request"
    return HttpError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, text)


def unavailable(reason: str) -> HttpError:
    """503."""
    return HttpError(HTTPStatus.SERVICE_UNAVAILABLE, reason)


def late() -> HttpError:
    """504, TensorFlow Serving's status for a deadline that passed (`ToHTTPStatusCode` of its HTTP server)."""
    return HttpError(HTTPStatus.GATEWAY_TIMEOUT, "the model did not answer in time")
