"""CPU time of VMs, read from the processes that carry their mark."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from sandbox.machine.markers import MACHINE_MARKER, STATE_MARKER
from sandbox.machine.processes import environment_of

_TICKS: Final = os.sysconf("SC_CLK_TCK")
_FIRST_TIME_FIELD: Final = 11
"""utime, stime, cutime, cstime of /proc/<pid>/stat, counted behind the command's closing bracket (proc(5))."""


def cpu_seconds(state: Path) -> dict[str, float]:
    """CPU seconds by VM key: of its living processes, and of their children that have ended."""
    total: dict[str, float] = defaultdict(float)
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        environment = environment_of(int(entry.name))
        key = environment.get(MACHINE_MARKER)
        if key and environment.get(STATE_MARKER) == str(state):
            total[key] += _seconds(entry / "stat")
    return dict(total)


class CpuMeter:
    """Utilisation between two looks."""

    def __init__(self, state: Path) -> None:
        self._state = state
        self._last: tuple[float, dict[str, float]] | None = None

    def utilization(self, vcpus: Mapping[str, int], now: float) -> dict[str, float]:
        """Fraction of its machine type's vCPUs that each VM used since the last call; nothing at the first.

        A VM on this machine cannot use more than this machine has, so large machine types read low.
        """
        seconds = cpu_seconds(self._state)
        last, self._last = self._last, (now, seconds)
        if last is None or now <= last[0]:
            return {}
        elapsed_s = now - last[0]
        return {
            key: max(0.0, seconds[key] - last[1][key]) / elapsed_s / count
            for key, count in vcpus.items()
            if key in seconds and key in last[1]
        }


def _seconds(stat: Path) -> float:
    try:
        fields = stat.read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return sum(int(ticks) for ticks in fields[_FIRST_TIME_FIELD : _FIRST_TIME_FIELD + 4]) / _TICKS
