"""Starting and reaping, for a process that adopts every orphan of its VM."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

_PR_SET_CHILD_SUBREAPER = 36


def adopt_orphans() -> None:
    """Make this process the parent of descendants whose own parent ends (prctl(2))."""
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


class Child:
    """A started process."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self.exited: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        """Exit code; the negative signal number of one that was killed."""

    @property
    def pid(self) -> int:
        """Its process id; meaningless once it has exited."""
        return self._process.pid

    def signal(self, number: int) -> None:
        """Send a signal unless it has been reaped."""
        if not self.exited.done():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def reaped(self, code: int) -> None:
        """Note how it ended. For Children alone."""
        self._process.returncode = code
        if not self.exited.done():
            self.exited.set_result(code)


class Children:
    """All children of this process, own and adopted."""

    def __init__(self) -> None:
        self._known: dict[int, Child] = {}
        asyncio.get_running_loop().add_signal_handler(signal.SIGCHLD, self._reap)

    def spawn(
        self, command: Sequence[str], *, environment: Mapping[str, str], folder: Path, stdout: int, stderr: int
    ) -> Child:
        """Start `command` in a session of its own. Raises OSError where it cannot be executed."""
        child = Child(
            subprocess.Popen(
                command,
                env=dict(environment),
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                start_new_session=True,
            )
        )
        self._known[child.pid] = child
        return child

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            child = self._known.pop(pid, None)
            if child is not None:
                child.reaped(os.waitstatus_to_exitcode(status))
