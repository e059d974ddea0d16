"""What the sandbox's REST APIs share: callers, Google's error bodies, and calls that are not modelled."""

from __future__ import annotations

import http
import json
from collections.abc import Mapping
from typing import Any, Final

from aiohttp import web
from aiohttp.typedefs import Handler

from sandbox.compute.declared import UnmodelledError
from sandbox.iam.policy import Policy, UnmodelledPolicyError
from sandbox.iam.tokens import Tokens
from sandbox.settings import SandboxSettings

_STATUS: Final = {
    400: ("INVALID_ARGUMENT", "badRequest"),
    401: ("UNAUTHENTICATED", "required"),
    403: ("PERMISSION_DENIED", "forbidden"),
    404: ("NOT_FOUND", "notFound"),
    409: ("ALREADY_EXISTS", "alreadyExists"),
    501: ("UNIMPLEMENTED", "notImplemented"),
    503: ("UNAVAILABLE", "backendError"),
}


class ApiError(Exception):
    """An answer other than success."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message

    def body(self) -> dict[str, Any]:
        """Google's JSON for it."""
        status, reason = _STATUS.get(self.code, ("UNKNOWN", http.HTTPStatus(self.code).phrase))
        detail = {"message": self.message, "domain": "global", "reason": reason}
        return {"error": {"code": self.code, "message": self.message, "errors": [detail], "status": status}}


class Access:
    """Tells callers apart by their bearer token, and asks the policy for them."""

    def __init__(self, settings: SandboxSettings, tokens: Tokens, policy: Policy) -> None:
        self._projects = {settings.project, str(settings.project_number)}
        self._project = settings.project
        self._tokens = tokens
        self._policy = policy

    def recognise(self, request: web.Request) -> str:
        """E-mail of the caller, whoever it is. Raises ApiError 401."""
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        email = self._tokens.email_of(token.strip()) if scheme.lower() == "bearer" else None
        if email is None:
            raise ApiError(
                401,
                "Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie or other "
                "valid authentication credential.",
            )
        return email

    def demand(self, request: web.Request, permission: str) -> str:
        """E-mail of a caller who has the permission on the request's project. Raises ApiError 401, 403 or 404."""
        email = self.recognise(request)
        project = request.match_info["project"]
        if project not in self._projects:
            raise ApiError(404, f"The resource 'projects/{project}' was not found")
        if not self._policy.allowed(email, permission, f"projects/{self._project}"):
            raise ApiError(
                403, f"Required '{permission}' permission for 'projects/{project}' (or the resource may not exist)."
            )
        return email


@web.middleware
async def google_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Errors as Google's JSON; a path or method that nothing serves is a call that the sandbox does not model."""
    try:
        return await handler(request)
    except ApiError as error:
        return web.json_response(error.body(), status=error.code)
    except (UnmodelledError, UnmodelledPolicyError) as refusal:
        return web.json_response(ApiError(501, str(refusal)).body(), status=501)
    except web.HTTPException as failure:
        if failure.status not in {404, 405}:
            raise
        unmodelled = ApiError(501, f"The sandbox does not model the call {request.method} {request.path}.")
        return web.json_response(unmodelled.body(), status=unmodelled.code)


async def json_body(request: web.Request) -> Mapping[str, Any]:
    """The request's JSON object. Raises ApiError 400."""
    try:
        body = json.loads(await request.read() or b"{}")
    except ValueError as failure:
        raise ApiError(400, f"Invalid JSON payload received. {failure}") from None
    if not isinstance(body, dict):
        raise ApiError(400, "Invalid JSON payload received. Root element must be a message.")
    return body


def only_parameters(request: web.Request, *known: str) -> None:
    """Refuse query parameters that the sandbox would ignore. Raises ApiError 501."""
    standard = {"alt", "prettyPrint", "fields", "key", "$alt"}
    unknown = sorted(set(request.query) - set(known) - standard)
    if unknown:
        raise ApiError(
            501, f"The sandbox does not model the parameter {unknown[0]} of {request.method} {request.path}."
        )
