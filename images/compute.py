"""Compute Engine as baking uses it: calls that may be repeated, and operations awaited."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from typing import Final

from client.errors import ClientError, NotFoundError, UnavailableError
from client.google import Credentials, GoogleApi, Json, compute_root
from images.names import ImageName

ROLES: Final = "roles/compute.instanceAdmin.v1"
"""Makes and deletes instances and images (Google Cloud, "Compute Engine roles and permissions", 2026-11)."""
_ATTEMPTS: Final = 4
_PAUSE_S: Final = 2.0
_NOT_READY: Final = "is not ready"
"""In the message of Compute Engine's error resourceNotReady."""


class Compute:
    """Calls in one project."""

    def __init__(self, project: str) -> None:
        self.project = project
        self._api = GoogleApi(Credentials(), compute_root(), ROLES)

    def image(self, name: ImageName) -> Json | None:
        """An image, or the newest of a family that is not deprecated; None where there is none. Raises ClientError."""
        try:
            return self._asked(lambda: self._api.get(name.path))
        except NotFoundError:
            return None

    def instance(self, zone: str, name: str) -> Json:
        """A VM. Raises ClientError, NotFoundError for one that is not there."""
        return self._asked(lambda: self._api.get(f"{self._zone(zone)}/instances/{name}"))

    def serial_port(self, zone: str, name: str, start: int) -> tuple[str, int]:
        """What the serial console says from byte `start` on, and where it goes on. Raises ClientError."""
        path = f"{self._zone(zone)}/instances/{name}/serialPort"
        answer = self._asked(lambda: self._api.get(path, {"port": 1, "start": start}))
        return str(answer.get("contents", "")), int(answer.get("next", start))

    def insert_instance(self, zone: str, body: Json, deadline_s: float) -> None:
        """Make a VM and wait until it is there. Raises ClientError."""
        self._change(lambda extra: self._api.post(f"{self._zone(zone)}/instances", body, extra), deadline_s)

    def stop_instance(self, zone: str, name: str, deadline_s: float) -> None:
        """Shut a VM down and wait for it. Raises ClientError."""
        path = f"{self._zone(zone)}/instances/{name}/stop"
        self._change(lambda extra: self._api.post(path, None, extra), deadline_s)

    def delete_instance(self, zone: str, name: str, deadline_s: float) -> None:
        """Delete a VM, with its disk, and wait for it; none there is fine. Raises ClientError."""
        path = f"{self._zone(zone)}/instances/{name}"
        self._delete(path, deadline_s)

    def insert_image(self, body: Json, deadline_s: float) -> None:
        """Make an image and wait until it is there. Raises ClientError."""
        path = f"projects/{self.project}/global/images"
        self._change(lambda extra: self._api.post(path, body, extra), deadline_s)

    def delete_image(self, name: str, deadline_s: float) -> None:
        """Delete an image of this project; none there is fine. Raises ClientError."""
        self._delete(f"projects/{self.project}/global/images/{name}", deadline_s)

    def _delete(self, path: str, deadline_s: float) -> None:
        """Delete; what is still being made (its insertion was interrupted) is asked again until it can be deleted."""
        deadline = time.monotonic() + deadline_s
        while True:
            try:
                self._change(lambda extra: self._api.delete(path, extra), deadline_s)
            except NotFoundError:
                return
            except ClientError as error:
                if _NOT_READY not in str(error) or time.monotonic() > deadline:
                    raise
                time.sleep(_PAUSE_S)
            else:
                return

    def _change(self, send: Callable[[dict[str, str | int]], Json], deadline_s: float) -> None:
        """Send a change and wait for its operation; Google takes repeats of one `requestId` for the same change."""
        extra: dict[str, str | int] = {"requestId": str(uuid.uuid4())}
        operation = self._asked(lambda: send(extra))
        deadline = time.monotonic() + deadline_s
        path = str(operation["selfLink"]).partition("/compute/v1/")[2]
        while operation.get("status") != "DONE":
            if time.monotonic() > deadline:
                what = f"{operation.get('operationType')} of {operation.get('targetLink')}"
                raise UnavailableError(f"the {what} has not ended after {deadline_s:.0f} s", "Try again later.")
            time.sleep(_PAUSE_S)
            operation = self._asked(lambda: self._api.get(path))
        errors = operation.get("error", {}).get("errors", [])
        if errors:
            told = "; ".join(f"{one.get('code')}: {one.get('message')}" for one in errors)
            raise ClientError(f"Compute Engine refused: {told}", "Remove the cause, then bake again.")

    @staticmethod
    def _asked(call: Callable[[], Json]) -> Json:
        """The answer to a question that may be asked again. Raises ClientError."""
        for attempt in range(1, _ATTEMPTS):
            try:
                return call()
            except UnavailableError:
                time.sleep(_PAUSE_S * attempt)
        return call()

    def _zone(self, zone: str) -> str:
        return f"projects/{self.project}/zones/{zone}"
