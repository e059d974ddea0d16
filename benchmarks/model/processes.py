"""Fresh processes whose time and memory are measured."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[2]
_POLL_S: Final = 0.02


class ProcessFailedError(Exception):
    """A process ended badly; it has said why itself."""


@dataclass(frozen=True, slots=True)
class Finished:
    """A process that ended well. `result` is the JSON object in the last line that it printed."""

    result: dict[str, Any]
    seconds: float
    peak_gib: float
    """Most memory that the process held at once, as it was when last looked at, _POLL_S before its end."""


def run_fresh(*arguments: str) -> Finished:
    """Run `python -m ARGUMENTS` from the repository's root; what it writes to standard error is shown.

    Raises:
        ProcessFailedError: it failed.
    """
    began = time.monotonic()
    peak = 0.0
    with subprocess.Popen([sys.executable, "-m", *arguments], cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        while True:
            try:
                printed, _ = process.communicate(timeout=_POLL_S)
                break
            except subprocess.TimeoutExpired:
                # getrusage would do, but what it calls a process's greatest size begins with its parent's.
                peak = max(peak, _high_water_mark_gib(process.pid))
    if process.returncode:
        raise ProcessFailedError(f"python -m {' '.join(arguments)} ended with status {process.returncode}")
    return Finished(json.loads(printed.splitlines()[-1]), time.monotonic() - began, peak)


def _high_water_mark_gib(pid: int) -> float:
    """Most memory that a running process has held so far; 0 of one that has just ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return 0.0
    kib = [line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(kib[0]) / 2**20 if kib else 0.0
