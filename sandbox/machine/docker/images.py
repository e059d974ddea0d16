"""Container images of a VM, and what backs them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

from sandbox.machine.internet import demand_internet
from sandbox.machine.refusal import Refusal
from sandbox.machine.scratch import Scratch

_REPOSITORY: Final = Path(__file__).resolve().parents[3]


@dataclass(frozen=True, slots=True)
class Backing:
    """An environment of this repository that stands for a registry's image."""

    repository: str
    """Name without tag or digest."""
    environment: Path
    """Virtual environment whose programs are on the container's PATH."""
    lock: Path
    """The lock whose wheels, and only those, an image derived from it may add: they are installed already."""


BACKINGS: Final = (
    # Without TensorRT itself, so what needs it fails here as it would on a machine without it.
    Backing("nvcr.io/nvidia/tensorrt", _REPOSITORY / ".venv", _REPOSITORY / "locks/model.txt"),
    Backing("nvcr.io/nvidia/tritonserver", _REPOSITORY / ".venv-serving", _REPOSITORY / "locks/serving.txt"),
)


@dataclass(frozen=True, slots=True)
class Image:
    """One image on a VM's disk."""

    id: str
    base: str
    """Reference in the registry that it is, or derives from."""
    environment: dict[str, str] = field(default_factory=dict)
    working_directory: str = "/"

    @property
    def backing(self) -> Backing:
        """What runs its programs."""
        return backing(self.base)


def backing(reference: str) -> Backing:
    """What stands for a registry's image. Raises Refusal for one that nothing stands for."""
    repository, tag = _split(reference)
    for candidate in BACKINGS:
        if candidate.repository == repository:
            if not tag:
                raise Refusal(
                    f"Error response from daemon: manifest for {reference}:latest not found: manifest unknown"
                )
            if not (candidate.environment / "bin/python3").exists():
                raise Refusal(
                    f"{candidate.environment}, which stands for {repository} in the sandbox, is missing: set up this "
                    "repository's environments"
                )
            return candidate
    known = ", ".join(candidate.repository for candidate in BACKINGS)
    raise Refusal(
        f"Error response from daemon: pull access denied for {repository}: the sandbox has nothing that stands for "
        f"it; it has {known}"
    )


def pull(scratch: Scratch, reference: str) -> Image:
    """Note a registry's image as present. Raises Refusal."""
    registry = reference.partition("/")[0]
    demand_internet(
        scratch,
        f'Error response from daemon: Get "https://{registry}/v2/": net/http: request canceled while waiting for '
        "connection (Client.Timeout exceeded while awaiting headers)",
    )
    backing(reference)
    image = Image(identity(reference), reference)
    save(scratch, reference, image)
    return image


def find(scratch: Scratch, reference: str) -> Image | None:
    """An image by reference or beginning of its id."""
    images = load(scratch)
    if reference in images:
        return images[reference]
    if f"{reference}:latest" in images:
        return images[f"{reference}:latest"]
    digest = reference.removeprefix("sha256:")
    by_id = [image for image in images.values() if image.id.startswith(digest)] if len(digest) >= 12 else []
    return by_id[0] if by_id else None


def load(scratch: Scratch) -> Mapping[str, Image]:
    """All images by reference."""
    if not scratch.images.exists():
        return {}
    return {name: Image(**record) for name, record in json.loads(scratch.images.read_text()).items()}


def save(scratch: Scratch, reference: str, image: Image) -> None:
    """Note an image under a reference."""
    images = {**load(scratch), reference: image}
    fresh = scratch.images.with_suffix(".new")
    fresh.write_text(json.dumps({name: asdict(one) for name, one in images.items()}))
    fresh.replace(scratch.images)


def identity(*parts: str) -> str:
    """Hexadecimal id of an image made from `parts`."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _split(reference: str) -> tuple[str, str]:
    """Repository, and tag or digest (or empty)."""
    repository, at, digest = reference.partition("@")
    path, _, last = repository.rpartition("/")
    name, _, tag = last.partition(":")
    return f"{path}/{name}" if path else name, digest if at else tag
