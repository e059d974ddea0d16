"""`tee`, whose system files (`/etc/...`) land on the VM's disk."""

from __future__ import annotations

import sys
from pathlib import Path

from sandbox.machine.refusal import not_modelled
from sandbox.machine.scratch import Scratch


def main(arguments: list[str]) -> int:
    """`tee [-a] FILE...`."""
    append = False
    paths: list[Path] = []
    for word in arguments:
        if word in {"-a", "--append"}:
            append = True
        elif word.startswith("-") and word != "-":
            raise not_modelled("tee", f"the option {word}")
        else:
            paths.append(Scratch.here().on_disk(Path(word)))
    content = sys.stdin.buffer.read()
    sys.stdout.buffer.write(content)
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab" if append else "wb") as file:
            file.write(content)
    return 0
