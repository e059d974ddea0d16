"""Disks that VMs booted from and others boot from: boot images that were made here.

A VM's disk is what its scripts wrote and what its stand-ins noted as installed; an image is a copy of both.
"""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from sandbox.machine.scratch import Scratch

_NAME = re.compile(r"(?:^|/)projects/(?P<project>[^/]+)/global/images/(?P<name>[^/]+)$")


@dataclass(frozen=True, slots=True)
class DiskImage:
    """A copied disk."""

    folder: Path

    @classmethod
    def of(cls, state: Path, reference: str) -> DiskImage:
        """The image of a name or link, whether or not it exists, in the sandbox whose state folder is `state`."""
        match = _NAME.search(reference)
        return cls(state / "images" / match["project"] / match["name"] if match else state / "images" / "-" / "-")

    @property
    def exists(self) -> bool:
        """Whether there is such an image."""
        return self._origin.exists()

    @property
    def origin(self) -> str:
        """The stock image that the copied disk was made from."""
        origin: str = json.loads(self._origin.read_text())["origin"]
        return origin

    def save(self, scratch: Scratch, origin: str) -> None:
        """Copy a VM's disk, whole or not at all."""
        partial = self.folder.with_name(f".{self.folder.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        for source in _parts(scratch):
            if source.exists():
                shutil.copytree(source, partial / source.name, symlinks=True)
        (partial / self._origin.name).write_text(json.dumps({"origin": origin}))
        partial.replace(self.folder)

    def restore(self, scratch: Scratch) -> None:
        """Make it the disk of a VM that has not booted yet."""
        for target in _parts(scratch):
            source = self.folder / target.name
            if source.exists():
                shutil.copytree(source, target, symlinks=True, dirs_exist_ok=True)

    def remove(self) -> None:
        """Delete it."""
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def _origin(self) -> Path:
        return self.folder / "origin.json"


def _parts(scratch: Scratch) -> tuple[Path, ...]:
    return (scratch.disk, scratch.home, scratch.installed)
