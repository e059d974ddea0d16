"""Compute Engine as the tests of baking need it: scripted answers, and what was asked."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from client.errors import ClientError, NotFoundError
from client.google import Json
from components.settings.fleet import FleetSettings
from images.compute import Compute
from images.names import ImageName

CONTAINER = "nvcr.io/nvidia/tritonserver:25.08-py3"
FAMILY = "ubuntu-accelerator-2404-amd64-with-nvidia-580"
STOCK = f"projects/ubuntu-os-accelerator-images/global/images/{FAMILY}"


def settings(**values: Any) -> FleetSettings:
    """Valid settings with some values replaced."""
    pools = [{"region": "us-central1", "zones": ["us-central1-a", "us-central1-b"], "min": 1, "max": 1}]
    fleet = {"pools": pools, "image": f"{STOCK}-v20260820", "container": CONTAINER, **values}
    return FleetSettings.model_validate_json(json.dumps(fleet), context={})


def image(path: str, **fields: Any) -> Json:
    return {"selfLink": f"https://www.googleapis.com/compute/v1/{path}", "diskSizeGb": "20", **fields}


@dataclass
class FakeCompute(Compute):
    """`images` by path, families among them; `console` is what the VM prints, a piece a question."""

    project: str = "my-project"
    images: dict[str, Json] = field(default_factory=dict)
    console: list[str] = field(default_factory=list)
    status: str = "RUNNING"
    failing: dict[str, BaseException] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    bodies: dict[str, Json] = field(default_factory=dict)

    def image(self, name: ImageName) -> Json | None:
        return self.images.get(name.path)

    def instance(self, zone: str, name: str) -> Json:
        del zone, name
        if self.status == "gone":
            raise NotFoundError("gone", "")
        return {"status": self.status}

    def serial_port(self, zone: str, name: str, start: int) -> tuple[str, int]:
        del zone, name
        if self.status == "gone" and not self.console:
            raise NotFoundError("gone", "")
        text = self.console.pop(0) if self.console else ""
        return text, start + len(text)

    def insert_instance(self, zone: str, body: Json, deadline_s: float) -> None:
        self._note("insert instance", zone, deadline_s, body=body)

    def stop_instance(self, zone: str, name: str, deadline_s: float) -> None:
        self._note("stop instance", zone, name, deadline_s)

    def delete_instance(self, zone: str, name: str, deadline_s: float) -> None:
        self._note("delete instance", zone, name, deadline_s)

    def insert_image(self, body: Json, deadline_s: float) -> None:
        self._note("insert image", deadline_s, body=body)

    def delete_image(self, name: str, deadline_s: float) -> None:
        self._note("delete image", name, deadline_s)

    def _note(self, what: str, *details: object, body: Json | None = None) -> None:
        assert all(details), "no argument is empty"
        self.asked.append(what)
        if body is not None:
            self.bodies[what] = body
        if what in self.failing:
            raise self.failing[what]


def refused() -> ClientError:
    return ClientError("Compute Engine refused: QUOTA", "Ask for quota.")
