"""Drives a sandbox of its own through the commands that a person would type."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import psutil

REPOSITORY = Path(__file__).resolve().parent.parent.parent
COMMAND_LIMIT_S = 420

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Sandbox:
    """One sandbox, in a state folder of its own."""

    state: Path
    program: Path
    """The program that it deploys: the repository, or a copy of it."""

    def python(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run `python ARGUMENTS` in the repository against this sandbox."""
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=REPOSITORY,
            env={**os.environ, "SANDBOX_STATE_DIR": str(self.state), "SANDBOX_PROGRAM": str(self.program)},
            check=False,
            capture_output=True,
            text=True,
            timeout=COMMAND_LIMIT_S,
        )
        if check and done.returncode:
            raise AssertionError(f"{' '.join(arguments)}: exit code {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done

    def run(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """`python -m sandbox COMMAND`."""
        return self.python("-m", "sandbox", *command, check=check)

    def operator(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """`python ARGUMENTS` with the operator's credentials and endpoints."""
        return self.run("run", "--", sys.executable, *arguments, check=check)

    def client(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """`python -m client COMMAND --stack local`."""
        command, *rest = arguments
        return self.operator("-m", "client", command, "--stack", "local", *rest, check=check)

    def outputs(self) -> dict[str, Any]:
        """Outputs of the stack."""
        found: dict[str, Any] = json.loads(self.client("outputs").stdout)
        return found

    def status(self) -> dict[str, Any]:
        """`client status --json`."""
        found: dict[str, Any] = json.loads(self.client("status", "--json").stdout)
        return found

    def processes(self) -> list[psutil.Process]:
        """Every process that belongs to this sandbox, by the marker in its environment."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get("SANDBOX_STATE") == str(self.state):
                    found.append(process)
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
        return found


def until(what: str, probe: Callable[[], Answer | None], deadline_s: float) -> Answer:
    """Ask until there is an answer; fails with `what` once the deadline is over."""
    end = time.monotonic() + deadline_s
    while True:
        answer = probe()
        if answer:
            return answer
        if time.monotonic() > end:
            raise AssertionError(f"not within {deadline_s:.0f} s: {what}")
        time.sleep(0.25)
