"""`apt-get`: notes packages as installed and puts their commands on the PATH; no file of theirs is fetched."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

from sandbox.machine import image
from sandbox.machine.internet import demand_internet
from sandbox.machine.refusal import Refusal, not_modelled
from sandbox.machine.scratch import Scratch

_ERROR: Final = 100
_UBUNTU: Final = frozenset({"ca-certificates", "curl", "docker.io", "docker-buildx", "gnupg", "tar", "xz-utils"})
_BY_SOURCE: Final = {
    "download.docker.com": frozenset({"docker-ce", "docker-ce-cli", "containerd.io", "docker-buildx-plugin"}),
    "nvidia.github.io/libnvidia-container": frozenset({image.TOOLKIT}),
}
"""Host of a package source -> packages that only it has."""
_FLAGS: Final = frozenset({"-y", "--yes", "-q", "-qq", "--quiet", "--no-install-recommends", "--assume-yes"})
_SOURCES: Final = Path("/etc/apt/sources.list.d")


def main(arguments: list[str]) -> int:
    """`apt-get update` and `apt-get install -y PACKAGE...`."""
    words = []
    rest = list(arguments)
    while rest:
        word = rest.pop(0)
        if word == "-o" and rest:
            rest.pop(0)  # Configuration, such as a lock timeout: nobody else holds the lock here.
        elif word.startswith("-"):
            if word not in _FLAGS and not word.startswith("-o"):
                raise not_modelled("apt-get", f"the option {word}", _ERROR)
        else:
            words.append(word)
    match words:
        case ["update"]:
            _update()
            print("Reading package lists... Done (simulated)")
        case ["clean"]:
            pass
        case ["install", *packages]:
            if not set(arguments) & {"-y", "--yes", "--assume-yes"}:
                raise Refusal("Do you want to continue? [Y/n] Abort. (standard input is not a terminal: use -y)", 1)
            demand_internet(
                Scratch.here(), "E: Failed to fetch http://archive.ubuntu.com/ubuntu: connection timed out", _ERROR
            )
            _install(packages)
        case _:
            raise not_modelled("apt-get", " ".join(words) or "a call without a command", _ERROR)
    return 0


def _update() -> None:
    """What the real one does without a network: it warns, and succeeds with the lists that it has."""
    try:
        demand_internet(Scratch.here(), "W: Failed to fetch http://archive.ubuntu.com/ubuntu: connection timed out")
    except Refusal as warning:
        print(f"{warning}\nW: Some index files failed to download. They have been ignored.", file=sys.stderr)


def _install(packages: list[str]) -> None:
    scratch = Scratch.here()
    folder = scratch.on_disk(_SOURCES)
    sources = "".join(path.read_text() for path in sorted(folder.glob("*.list"))) if folder.is_dir() else ""
    available = _UBUNTU.union(*(names for host, names in _BY_SOURCE.items() if host in sources))
    for package in packages:
        name = package.partition("=")[0]
        if name not in available:
            known = ", ".join(sorted(_UBUNTU.union(*_BY_SOURCE.values())))
            raise Refusal(
                f"E: Unable to locate package {name} (the sandbox knows {known}, and some of them only once their "
                "package source is listed)",
                _ERROR,
            )
        print(f"Setting up {name} (simulated) ...")
    image.install(scratch, tuple(package.partition("=")[0] for package in packages))
