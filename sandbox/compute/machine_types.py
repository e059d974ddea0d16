"""vCPUs of machine types, read from their names."""

from __future__ import annotations

import re
from typing import Final

from sandbox.compute.names import short

_SHARED_CORE: Final = {"e2-micro": 2, "e2-small": 2, "e2-medium": 2, "f1-micro": 1, "g1-small": 1}
"""Google Cloud, "Machine families", 2026-11."""
_PREDEFINED = re.compile(r"^[a-z]\d+[a-z]?-[a-z]+-(\d+)(?:-lssd)?$")
_CUSTOM = re.compile(r"^(?:[a-z]\d+[a-z]?-)?custom-(\d+)-\d+(?:-ext)?$")


def vcpus(machine_type: str) -> int:
    """How many vCPUs `n1-standard-16`, `custom-4-8192`, `e2-micro`, ... has. Raises ValueError for other names."""
    name = short(machine_type)
    shared = _SHARED_CORE.get(name)
    if shared is not None:
        return shared
    found = _CUSTOM.match(name) or _PREDEFINED.match(name)
    if found is None:
        raise ValueError(f"machine type {name!r} names no number of vCPUs; n1-standard-16 and custom-4-8192 do")
    return int(found[1])
