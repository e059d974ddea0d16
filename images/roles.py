"""The two kinds of VM, and where a stack's file names what they boot and run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from components.settings.builder import BuilderSettings

RoleName = Literal["serving", "builder"]
Path = tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """One kind of VM."""

    name: RoleName
    image: Path
    """Where the stack's file names the boot image: keys from `config` inwards."""
    container: Path
    """Where it names the container."""
    lock: str
    """Wheels that install.sh adds to the container, relative to the repository."""
    default_container: str = ""
    """The container where the stack's file names none; empty: it must."""


ROLES: Final[dict[RoleName, Role]] = {
    "serving": Role(
        name="serving",
        image=("tensorrt-fleet:fleet", "image"),
        container=("tensorrt-fleet:fleet", "container"),
        lock="locks/serving.txt",
    ),
    "builder": Role(
        name="builder",
        image=("tensorrt-fleet:model", "builder", "image"),
        container=("tensorrt-fleet:model", "builder", "container"),
        lock="locks/model.txt",
        default_container=BuilderSettings().container,
    ),
}


def shown(path: Path) -> str:
    """A place in the stack's file, as the program's own messages write it: `tensorrt-fleet:fleet.image`."""
    return ".".join(path)
