"""The table of `docs/under-stress.md`: every limit of a serving VM, with the default that a VM of a fleet has."""

from __future__ import annotations

from dataclasses import MISSING, fields
from typing import Final

from serving.limits import LIMITS
from serving.settings import FLEET_DRAIN_S, Settings

_OTHER_DEFAULTS: Final = {
    "drain_s": f"{FLEET_DRAIN_S:g}; 0 without a fleet",
    "workers": "a quarter of the vCPUs, 2 at least",
}
"""Of settings whose default is not in the class."""


def table() -> str:
    """Markdown, a row a limit."""
    defaults = {field.name: field.default for field in fields(Settings) if field.default is not MISSING}
    rows = ["| limit | default | range | at the limit |", "| --- | --- | --- | --- |"]
    for limit in LIMITS:
        default = _OTHER_DEFAULTS.get(limit.name) or f"{defaults[limit.name]}"
        rows.append(f"| `{limit.name}` | {default} | {limit.least} to {limit.most} | {limit.text} |")
    return "\n".join(rows) + "\n"
