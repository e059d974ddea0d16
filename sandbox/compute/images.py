"""Boot images: the stock ones that there are here, and those that were made of a VM's disk."""

from __future__ import annotations

import functools
import json
import secrets
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sandbox.compute.declared import INSTANCE_TEMPLATE, declared
from sandbox.compute.names import relative, self_link, short, timestamp
from sandbox.compute.records import instances
from sandbox.machine.disks import DiskImage
from sandbox.machine.instance import Instance
from sandbox.machine.scratch import Scratch
from sandbox.settings import SandboxSettings
from sandbox.store import Json, Store

IMAGE: Final = "image"
"""Kind of the records: `projects/<project>/global/images/<name>` -> the image as the API gives it."""
_STOCK_FILE: Final = Path(__file__).with_name("stock_images.json")


@dataclass(frozen=True, slots=True)
class Images:
    """Every image that a VM can boot from."""

    settings: SandboxSettings
    store: Store

    def find(self, reference: str) -> Json | None:
        """An image by its name or link, in the API's form."""
        name = relative(reference)
        return next((one for one in self._all() if relative(one["selfLink"]) == name), None)

    def of_project(self, project: str) -> list[Json]:
        """Images of a project, by name."""
        prefix = f"projects/{project}/global/images/"
        found = {one["name"]: one for one in self._all() if relative(one["selfLink"]).startswith(prefix)}
        return [found[name] for name in sorted(found)]

    def newest(self, project: str, family: str) -> Json | None:
        """The newest image of a family that is not deprecated."""
        members = [one for one in self.of_project(project) if one.get("family") == family and "deprecated" not in one]
        return max(members, key=lambda one: str(one["creationTimestamp"]), default=None)

    def copy(self, name: str, vm: Instance) -> None:
        """Copy a stopped VM's disk for an image that `record` then makes known; a copy that is not known is nothing."""
        disk = DiskImage.of(self.settings.state, name)
        disk.remove()
        disk.save(Scratch.of(self.settings.state, vm.key), self._origin(vm.image))

    def record(self, name: str, vm: Instance, described: Mapping[str, Any]) -> None:
        """Make an image known; `described` has what the caller said of it."""
        image = {
            **_image(name),
            "id": str(secrets.randbelow(10**18) + 10**18),
            "creationTimestamp": timestamp(time.time()),
            "diskSizeGb": str(vm.disk_gib or 10),
            **described,
        }
        self.store.put(IMAGE, name, image)

    def remove(self, name: str) -> bool:
        """Delete an image that was made here; whether there was one."""
        DiskImage.of(self.settings.state, name).remove()
        return self.store.delete(IMAGE, name)

    def _origin(self, reference: str) -> str:
        """The stock image that an image goes back to; itself if it was not made here."""
        disk = DiskImage.of(self.settings.state, relative(reference))
        return disk.origin if disk.exists else reference

    def _all(self) -> Iterator[Json]:
        """What was made here, the stock images, and whatever something declared boots from."""
        yield from (image for _, image in self.store.items(IMAGE))
        yield from stock()
        used = {vm.image for vm in instances(self.store)}
        for _, found in declared(self.store, INSTANCE_TEMPLATE):
            used |= {str(disk.get("sourceImage") or "") for disk in found.get("disks") or ()}
        known = {relative(image["selfLink"]) for image in stock()} | {name for name, _ in self.store.items(IMAGE)}
        for name in sorted({relative(one) for one in used} - known):
            if "/global/images/" in name:
                yield _image(name)


@functools.cache
def stock() -> tuple[Json, ...]:
    """Stock images, in the API's form."""
    found = []
    for entry in json.loads(_STOCK_FILE.read_text())["images"]:
        image = _image(f"projects/{entry['project']}/global/images/{entry['name']}")
        image |= {
            "family": entry["family"],
            "creationTimestamp": entry["created"],
            "diskSizeGb": entry["diskSizeGb"],
        }
        if "deprecated" in entry:
            image["deprecated"] = {"state": entry["deprecated"]}
        found.append(image)
    return tuple(found)


def _image(name: str) -> Json:
    return {"kind": "compute#image", "name": short(name), "status": "READY", "selfLink": self_link(name)}
