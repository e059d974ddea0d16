"""`gpg --dearmor`, enough to keep a package source's key; the key is not read."""

from __future__ import annotations

import sys
from pathlib import Path

from sandbox.machine.refusal import Refusal, not_modelled
from sandbox.machine.scratch import Scratch

_FLAGS = frozenset({"--dearmor", "--yes", "--batch", "--no-tty"})


def main(arguments: list[str]) -> int:
    """`gpg --dearmor [-o FILE]`, from standard input."""
    target = ""
    rest = list(arguments)
    flags = set()
    while rest:
        word = rest.pop(0)
        if word in {"-o", "--output"} and rest:
            target = rest.pop(0)
        elif word in _FLAGS:
            flags.add(word)
        else:
            raise not_modelled("gpg", word, 2)
    if "--dearmor" not in flags:
        raise not_modelled("gpg", "anything but --dearmor", 2)
    key = sys.stdin.buffer.read()
    if b"BEGIN PGP PUBLIC KEY BLOCK" not in key:
        raise Refusal("gpg: no valid OpenPGP data found.", 2)
    if not target or target == "-":
        sys.stdout.buffer.write(key)
        return 0
    path = Scratch.here().on_disk(Path(target))
    if path.exists() and "--yes" not in flags:
        raise Refusal(f"gpg: dearmoring failed: File exists ({target}): give --yes to overwrite it", 2)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(key)
    return 0
