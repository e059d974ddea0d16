"""Names of boot images: exact ones, the families of stock ones, and those that are baked here."""

from __future__ import annotations

import datetime as dt
import hashlib
import re
from dataclasses import dataclass
from typing import Final

from client.errors import ClientError
from components.catalog import catalog
from images.roles import RoleName

_IMAGE = re.compile(
    r"(?:https://(?:www|compute)\.googleapis\.com/compute/v1/)?"
    r"projects/(?P<project>[a-z][a-z0-9.:-]*[a-z0-9])/global/images/(?P<family>family/)?(?P<name>[a-z][a-z0-9-]*)"
)
_BAKED = re.compile(r"tensorrt-fleet-(?P<role>serving|builder)-\d{8}-\d{6}-[0-9a-f]{8}")
_DATED = re.compile(r"(?P<family>.+)-v\d{8}[a-z]?")

DEFAULT_FAMILY: Final = (
    "projects/ubuntu-os-accelerator-images/global/images/family/ubuntu-accelerator-2404-amd64-with-nvidia-580"
)
"""What an image is baked from where a stack names no stock image: NVIDIA's driver 580, which a T4 runs with, comes
with it. Canonical's images follow Google's rule for names (family, then `-v` and a date); seen up to v20260820."""


@dataclass(frozen=True, slots=True)
class ImageName:
    """`projects/<project>/global/images/<name>`, or `.../images/family/<name>`."""

    project: str
    name: str
    is_family: bool = False

    @classmethod
    def parse(cls, text: str) -> ImageName:
        """Read a name or link. Raises ClientError."""
        match = _IMAGE.fullmatch(text)
        if match is None:
            raise ClientError(
                f"{text!r} is not a boot image", "Write projects/<project>/global/images/<exact image name>."
            )
        return cls(match["project"], match["name"], bool(match["family"]))

    @property
    def path(self) -> str:
        """Below the root of Compute Engine v1."""
        return f"projects/{self.project}/global/images/{'family/' if self.is_family else ''}{self.name}"

    @property
    def is_stock(self) -> bool:
        """Whether it comes from a public project, without a container on it."""
        return self.project in catalog().images.stock_projects

    @property
    def is_baked(self) -> bool:
        """Whether `bake` named it."""
        return _BAKED.fullmatch(self.name) is not None

    @property
    def family_by_name(self) -> ImageName | None:
        """The family that the name of a dated stock image tells, for images that are not there any more."""
        match = _DATED.fullmatch(self.name)
        return ImageName(self.project, match["family"], is_family=True) if match else None


def recipe_digest(*, base: ImageName, container: str, install: bytes, lock: bytes) -> str:
    """Eight hexadecimal digits that change with anything that goes into a baked image."""
    parts = (base.path.encode(), container.encode(), install, lock)
    return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()[:8]


def baked_name(role: RoleName, at: dt.datetime, digest: str) -> str:
    """Name of an image baked at `at` (with a time zone) from the recipe `digest`; at most 63 characters."""
    return f"tensorrt-fleet-{role}-{at.astimezone(dt.UTC):%Y%m%d-%H%M%S}-{digest}"
