"""What a VM finds on its PATH: the tools of its boot image, and a stand-in for everything that acts on a machine.

The host's own folders are not on the PATH, so a script can reach neither the host's package manager nor its Docker, and
a command that an image would not have is not found here either.
"""

from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path
from typing import Final

from sandbox.machine.disks import DiskImage
from sandbox.machine.entry import command_line
from sandbox.machine.scratch import Scratch

_HOST_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

TOOLS: Final = frozenset(
    """
    awk base64 basename bash cat chmod chown cksum cmp comm cp cut date dd df diff dirname du echo env expr false
    find flock free getconf getent grep gunzip gzip head id install join kill ln logger ls mkdir mkfifo
    mktemp mv nice nohup nproc od paste printf ps pwd readlink realpath rm rmdir sed seq setsid sh sha256sum sleep
    sort split stat stdbuf sync tail tar test timeout touch tr true truncate tty uname uniq wc which whoami
    xargs xz yes zcat zstd
    """.split()  # noqa: SIM905 - a list of names reads best as words
)
"""Of the host: what a stock Ubuntu image has and what touches nothing but files and processes."""

TOOLKIT: Final = "nvidia-container-toolkit"
_ALWAYS: Final = ("apt-get", "curl", "gpg", "hostname", "poweroff", "shutdown", "systemctl", "systemd-run", "tee")
_DRIVER: Final = ("nvidia-smi",)
_BY_PACKAGE: Final = {
    "docker.io": ("docker",),
    "docker-ce-cli": ("docker",),
    TOOLKIT: ("nvidia-ctk",),
}
_STOCK: Final = {
    "ubuntu-os-accelerator-images": (_DRIVER, ()),
    "deeplearning-platform-release": (_DRIVER, ("docker.io", TOOLKIT)),
    "ubuntu-os-cloud": ((), ()),
    "debian-cloud": ((), ()),
}
"""Public image project -> driver commands and packages that its images come with."""
_BAKED: Final = (_DRIVER, ("docker.io", TOOLKIT))
"""An image of one's own project: what baking puts there."""


def lay_out(scratch: Scratch, image: str, gpus: int, tools: Path, disk: DiskImage | None = None) -> None:
    """Fill the VM's command folder for its first boot from `image`; later boots keep what was installed since.

    `tools` is the folder that `link_tools` made. `disk` is what an image made here holds; `image` is then the stock
    image that it goes back to.
    """
    project = image.removeprefix("https://www.googleapis.com/compute/v1/").removeprefix("projects/").partition("/")[0]
    driver, packages = _STOCK.get(project, _BAKED)
    scratch.commands.mkdir(parents=True, exist_ok=True)
    for command in (*_ALWAYS, *(driver if gpus else ())):
        _stand_in(scratch.commands, command)
    if gpus and driver:
        scratch.container_gpu_commands.mkdir(exist_ok=True)
        _stand_in(scratch.container_gpu_commands, "nvidia-smi")
    if not scratch.packages.exists():
        _fill(scratch, packages, disk)
    if has_docker(scratch):
        start_docker(scratch)
    link = scratch.tools
    if not link.is_symlink():
        link.symlink_to(tools)


def _fill(scratch: Scratch, packages: tuple[str, ...], disk: DiskImage | None) -> None:
    """What a fresh disk holds: `packages`, or whatever was on the disk that was copied."""
    if disk is not None:
        disk.restore(scratch)
        packages = tuple(installed(scratch))
    scratch.installed.mkdir(parents=True, exist_ok=True)
    scratch.packages.write_text("[]")
    install(scratch, packages)


def installed(scratch: Scratch) -> list[str]:
    """Names of the packages that were installed."""
    names: list[str] = json.loads(scratch.packages.read_text())
    return names


def install(scratch: Scratch, packages: tuple[str, ...]) -> None:
    """Note packages as installed and put their commands on the PATH."""
    had_docker = has_docker(scratch)
    scratch.packages.write_text(json.dumps(sorted({*installed(scratch), *packages})))
    if has_docker(scratch) and not had_docker:
        start_docker(scratch)
    for package in packages:
        for command in _BY_PACKAGE.get(package, ()):
            _stand_in(scratch.commands, command)


def has_docker(scratch: Scratch) -> bool:
    """Whether a package with the container daemon is installed."""
    return any("docker" in _BY_PACKAGE.get(package, ()) for package in installed(scratch))


def start_docker(scratch: Scratch) -> None:
    """Note what a container daemon that starts now finds: it looks for the NVIDIA runtime only then."""
    scratch.docker_daemon.write_text(json.dumps({"gpus": TOOLKIT in installed(scratch)}))


def docker_has_gpus(scratch: Scratch) -> bool:
    """Whether the running container daemon knows how to give a container GPUs."""
    found: bool = json.loads(scratch.docker_daemon.read_text())["gpus"]
    return found


def link_tools(folder: Path) -> None:
    """Make `folder` a PATH entry with the host's TOOLS; those that the host lacks are left out."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in TOOLS:
        found = shutil.which(name, path=_HOST_PATH)
        link = folder / name
        if found and not link.is_symlink():
            link.symlink_to(found)


def host_command(name: str) -> str | None:
    """Path of one of the host's commands, for stand-ins that hand on what is harmless."""
    return shutil.which(name, path=_HOST_PATH)


def _stand_in(folder: Path, command: str) -> None:
    program = f"commands.{command.replace('-', '_')}"
    path = folder / command
    fresh = folder / f".{command}.new"
    fresh.write_text(f'#!/bin/sh\nexec {shlex.join(command_line(program))} "$@"\n')
    fresh.chmod(0o755)
    fresh.replace(path)
