"""`shutdown`: powering off now; nothing else."""

from __future__ import annotations

from sandbox.machine.commands import poweroff
from sandbox.machine.refusal import not_modelled

_POWER_OFF = ({"now"}, {"-h", "now"}, {"-P", "now"}, {"-h", "+0"}, {"-P", "+0"})


def main(arguments: list[str]) -> int:
    """`shutdown [-h|-P] now`."""
    if set(arguments) not in _POWER_OFF:
        raise not_modelled("shutdown", f"{' '.join(arguments) or 'a delay'}: only `shutdown -h now`")
    return poweroff.main([])
