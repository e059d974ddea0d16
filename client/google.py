"""Google's REST APIs with the operator's own credentials, at the addresses that Google's own variables name."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any, Final

import google.auth
import google.auth.exceptions
import google.auth.transport.requests
import requests

from client.errors import ClientError, NotFoundError, UnavailableError

SCOPES: Final = ("https://www.googleapis.com/auth/cloud-platform",)
REQUEST_TIMEOUT_S: Final = 30.0

LOGIN: Final = (
    "Log in with `gcloud auth application-default login`, or point GOOGLE_APPLICATION_CREDENTIALS at a key file."
)

Json = dict[str, Any]


def compute_root() -> str:
    """Root of Compute Engine v1, with a slash at its end; GOOGLE_COMPUTE_CUSTOM_ENDPOINT replaces Google's."""
    return _root("GOOGLE_COMPUTE_CUSTOM_ENDPOINT", "https://compute.googleapis.com/compute/v1/")


def monitoring_root() -> str:
    """Root of Cloud Monitoring, before `v3/`; GOOGLE_MONITORING_CUSTOM_ENDPOINT replaces Google's."""
    return _root("GOOGLE_MONITORING_CUSTOM_ENDPOINT", "https://monitoring.googleapis.com/").removesuffix("v3/")


def storage_root() -> str:
    """Root of Cloud Storage, before `storage/v1/`; STORAGE_EMULATOR_HOST replaces Google's."""
    return _root("STORAGE_EMULATOR_HOST", "https://storage.googleapis.com/")


def _root(variable: str, default: str) -> str:
    return os.environ.get(variable, default).rstrip("/") + "/"


class Credentials:
    """Application Default Credentials, found on first use and refreshed by themselves."""

    def __init__(self) -> None:
        self._session: requests.Session | None = None
        self.project: str | None = None

    def session(self) -> requests.Session:
        """A session that signs every request.

        Raises:
            ClientError: there are no credentials, or they cannot be read.
        """
        if self._session is None:
            try:
                credentials, self.project = google.auth.default(scopes=SCOPES)
            except google.auth.exceptions.GoogleAuthError as error:
                raise ClientError(f"no Google credentials: {_first_line(error)}", LOGIN) from error
            self._session = google.auth.transport.requests.AuthorizedSession(
                credentials, refresh_timeout=REQUEST_TIMEOUT_S
            )
        return self._session


class GoogleApi:
    """JSON calls to one API root; `roles` are what a person who is refused lacks."""

    def __init__(
        self, credentials: Credentials, root: str, roles: str = "roles/compute.viewer and roles/monitoring.viewer"
    ) -> None:
        self._credentials = credentials
        self._root = root
        self._roles = roles

    def get(self, path: str, parameters: Mapping[str, str | int] | None = None) -> Json:
        """GET `path` below the root.

        Raises:
            UnavailableError: no answer, 429 or 5xx. NotFoundError: 404. ClientError: any other refusal.
        """
        return self._call("GET", path, parameters, None)

    def post(self, path: str, body: Json | None = None, parameters: Mapping[str, str | int] | None = None) -> Json:
        """POST to `path` below the root, once. Raises as `get` does."""
        return self._call("POST", path, parameters, body)

    def delete(self, path: str, parameters: Mapping[str, str | int] | None = None) -> Json:
        """DELETE `path` below the root, once. Raises as `get` does."""
        return self._call("DELETE", path, parameters, None)

    def get_pages(self, path: str, items: str, parameters: Mapping[str, str | int]) -> Iterator[Json]:
        """Elements of field `items` over all pages of a GET. Raises as `get` does."""
        token = ""
        while True:
            page = self.get(path, {**parameters, **({"pageToken": token} if token else {})})
            yield from page.get(items, [])
            token = page.get("nextPageToken", "")
            if not token:
                return

    def post_pages(self, path: str, items: str) -> Iterator[Json]:
        """Elements of field `items` over all pages of a POST. Raises as `get` does."""
        token = ""
        while True:
            page = self.post(path, parameters={"pageToken": token} if token else None)
            yield from page.get(items, [])
            token = page.get("nextPageToken", "")
            if not token:
                return

    def _call(self, method: str, path: str, parameters: Mapping[str, str | int] | None, body: Json | None) -> Json:
        url = self._root + path
        try:
            response = self._credentials.session().request(
                method, url, params=parameters, json=body, timeout=REQUEST_TIMEOUT_S
            )
        except google.auth.exceptions.RefreshError as error:
            raise ClientError(f"Google refused the credentials: {_first_line(error)}", LOGIN) from error
        except (requests.RequestException, google.auth.exceptions.TransportError) as error:
            raise UnavailableError(
                f"{url} did not answer: {_first_line(error)}", "Check the network, then try again."
            ) from error
        if response.ok:
            return _object(response, url)
        raise _refusal(response, url, self._roles)


def _object(response: requests.Response, url: str) -> Json:
    try:
        value = response.json()
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise UnavailableError(
            f"{url} answered something other than a JSON object", "Check for a proxy between here and Google."
        )
    return value


def _refusal(response: requests.Response, url: str, roles: str) -> ClientError:
    try:
        error: Json = response.json()["error"]
        message = str(error["message"])
    except (ValueError, KeyError, TypeError):
        error, message = {}, response.text.strip()[:200] or "no message"
    problem = f"{url} answered {response.status_code}: {message}"
    if response.status_code == 429 or response.status_code >= 500:
        return UnavailableError(problem, "Try again in a moment.")
    if response.status_code == 404:
        remedy = "Compare with `pulumi stack output`; `pulumi refresh` finds what was deleted behind the stack's back."
        return NotFoundError(problem, remedy)
    remedies = {
        401: LOGIN,
        403: f"Ask for {roles} on the project.",
    }
    remedy = remedies.get(response.status_code, "Update the client to the program's version, or report it.")
    if disabled := disabled_api(error):
        remedy = f"Enable it: `gcloud services enable {disabled}`."
    return ClientError(problem, remedy)


def disabled_api(error: Json) -> str | None:
    """Name of the API (`compute.googleapis.com`) that an error's details report as disabled in the project, or None.

    Source: google.rpc.ErrorInfo with reason SERVICE_DISABLED, which Google's front end attaches.
    """
    for detail in error.get("details", []):
        if isinstance(detail, dict) and detail.get("reason") == "SERVICE_DISABLED":
            service = detail.get("metadata", {}).get("service")
            return str(service) if service else None
    return None


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
