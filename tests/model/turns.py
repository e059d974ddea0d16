"""Test processes that share an artifact's folder build in turn: `python -m model build` refuses a folder in use."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def turn(folder: Path) -> Iterator[None]:
    """Wait until no other test process has its turn at `folder`; whoever comes later finds what was built."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / f".{folder.name}.turn").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
