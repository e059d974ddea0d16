"""Fresh processes whose time and memory are measured."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[2]


class ProcessFailedError(Exception):
    """A process ended badly; it has said why itself."""


@dataclass(frozen=True, slots=True)
class Finished:
    """A process that ended well. `result` is the JSON object in the last line that it printed."""

    result: dict[str, Any]
    seconds: float
    peak_gib: float
    """Most memory that the process, or one that it started, held at once."""


def run_fresh(*arguments: str) -> Finished:
    """Run `python -m ARGUMENTS` from the repository's root; what it writes to standard error is shown.

    Raises:
        ProcessFailedError: it failed.
    """
    began = time.monotonic()
    with subprocess.Popen([sys.executable, "-m", *arguments], cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        printed = process.stdout.read()
        # wait4 tells what this very process used, which getrusage(RUSAGE_CHILDREN) adds up over all.
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise ProcessFailedError(f"python -m {' '.join(arguments)} ended with status {process.returncode}")
    seconds = time.monotonic() - began
    return Finished(json.loads(printed.splitlines()[-1]), seconds, usage.ru_maxrss / 2**20)
