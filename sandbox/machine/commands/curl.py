"""`curl`: the real one for addresses of this machine, canned answers for the few hosts that scripts fetch keys from.

Anything else is refused by name, so a script cannot reach out of the sandbox unnoticed.
"""

from __future__ import annotations

import ipaddress
import os
import sys
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from sandbox.machine import image
from sandbox.machine.internet import demand_internet
from sandbox.machine.refusal import Refusal, not_modelled
from sandbox.machine.scratch import Scratch

_UNKNOWN_OPTION: Final = 2
_MALFORMED: Final = 3
_COULD_NOT_RESOLVE: Final = 6
_WRITE_ERROR: Final = 23
_TIMED_OUT: Final = 28
_REROUTING: Final = frozenset({"-x", "--proxy", "-K", "--config", "--connect-to", "--resolve"})
"""Options with which the real curl could be led out of the sandbox."""
_TOOLKIT: Final = "https://nvidia.github.io/libnvidia-container"
_KEY: Final = "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nsimulated\n-----END PGP PUBLIC KEY BLOCK-----\n"
_ANSWERS: Final = {
    f"{_TOOLKIT}/gpgkey": _KEY,
    f"{_TOOLKIT}/stable/deb/nvidia-container-toolkit.list": f"deb {_TOOLKIT}/stable/deb/$(ARCH) /\n",
    "https://download.docker.com/linux/ubuntu/gpg": _KEY,
}
"""What package sources answer, as far as installing needs it."""


def main(arguments: list[str]) -> int:
    """`curl [options] URL`."""
    urls = [word for word in arguments if word.startswith(("http://", "https://"))]
    for word in arguments:
        if word.partition("=")[0] in _REROUTING:
            raise not_modelled("curl", f"the option {word}", _UNKNOWN_OPTION)
    if not urls and not set(arguments) & {"--version", "-V", "--help", "-h"}:
        raise not_modelled("curl", "a call without a URL that begins with http:// or https://", _MALFORMED)
    outside = [url for url in urls if not _is_here(url)]
    if not outside:
        real = image.host_command("curl")
        if real is None:
            raise Refusal("curl: not found on the machine that runs the sandbox: install the package curl", 127)
        os.execv(real, ["curl", *arguments])  # noqa: S606 - becoming curl is the point
    (url,) = outside if len(outside) == 1 else [""]
    if url not in _ANSWERS or len(urls) != 1:
        raise Refusal(
            f"curl: (6) Could not resolve host: {urlsplit(outside[0]).hostname} (the sandbox does not model "
            f"{outside[0]})",
            _COULD_NOT_RESOLVE,
        )
    host = urlsplit(url).hostname
    demand_internet(
        Scratch.here(),
        f"curl: (28) Failed to connect to {host} port 443 after 130000 ms: Connection timed out",
        _TIMED_OUT,
    )
    return _answer(_ANSWERS[url], [word for word in arguments if word != url])


def _is_here(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _answer(body: str, options: list[str]) -> int:
    target = ""
    rest = list(options)
    while rest:
        word = rest.pop(0)
        if word in {"-o", "--output"} and rest:
            target = rest.pop(0)
        elif word in {"--retry", "--retry-delay", "--max-time", "--connect-timeout"} and rest:
            rest.pop(0)
        elif not (word.startswith("-") and set(word.lstrip("-")) <= set("fsSL")) and word not in {
            "--fail",
            "--silent",
            "--show-error",
            "--location",
            "--retry-all-errors",
            "--retry-connrefused",
        }:
            raise not_modelled("curl", f"{word} for a host outside the sandbox", _WRITE_ERROR)
    if not target or target == "-":
        sys.stdout.write(body)
    else:
        path = Scratch.here().on_disk(Path(target))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(body)
    return 0
