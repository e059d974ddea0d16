"""Child processes of the supervisor: started again when they end, ended with it, in the order that it says."""

from __future__ import annotations

import asyncio
import ctypes
import logging
import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Final

_log = logging.getLogger(__name__)

FIRST_DELAY_S: Final = 0.2
MAX_DELAY_S: Final = 30.0
STEADY_S: Final = 60.0
"""Having run this long, a process that ends counts as its first failure again."""

_PR_SET_PDEATHSIG: Final = 1
_libc = ctypes.CDLL(None, use_errno=True)


def restart_delay_s(failures: int) -> float:
    """Pause before the next start after `failures` in a row (at least one)."""
    return min(MAX_DELAY_S, FIRST_DELAY_S * 2.0 ** (failures - 1))


def die_with(parent: int) -> None:
    """Have the kernel kill this process when its parent is gone, however it went: ports must be free for the next."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        # It went before it could be watched.
        os._exit(1)


class Child:
    """One child process that must always run. `failures` counts its ends in a row."""

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        *,
        environment: Mapping[str, str] | None = None,
        pass_fds: Sequence[int] = (),
        on_line: Callable[[str], None] | None = None,
        on_start: Callable[[int], None] | None = None,
        on_end: Callable[[int], None] | None = None,
    ) -> None:
        """Prepare; `on_line` takes each line of stdout and stderr, `on_start` and `on_end` the process id."""
        self.name = name
        self.failures = 0
        self._argv = argv
        self._environment = dict(os.environ) | dict(environment or {})
        self._pass_fds = tuple(pass_fds)
        self._on_line = on_line
        self._on_start = on_start
        self._on_end = on_end
        self._process: asyncio.subprocess.Process | None = None
        self._stopping = False
        self._began = 0.0
        self._task: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        """Process id while it runs."""
        return self._process.pid if self._process and self._process.returncode is None else None

    def hopeless(self, give_up_after: int) -> bool:
        """Whether it has failed so often in a row, and does not run steadily since."""
        steady = self.pid is not None and time.monotonic() - self._began > STEADY_S
        return self.failures >= give_up_after and not steady

    def start(self) -> None:
        """Start it, and keep it running."""
        self._task = asyncio.create_task(self._keep_running(), name=f"keep {self.name} running")

    def kill(self) -> None:
        """End it at once; it is started again."""
        self._signal(signal.SIGKILL)

    async def stop(self, grace_s: float) -> None:
        """End it for good: SIGTERM, and SIGKILL after `grace_s` seconds."""
        self._stopping = True
        if self._task is None:
            return
        self._signal(signal.SIGTERM)
        done, _ = await asyncio.wait({self._task}, timeout=max(0.0, grace_s))
        if not done:
            if self.pid is not None:
                _log.warning("killing a process that did not end", extra={"child": self.name, "grace_s": grace_s})
                self._signal(signal.SIGKILL)
            self._task.cancel()
            await asyncio.wait({self._task})
            if self._process is not None:
                await self._process.wait()

    async def _keep_running(self) -> None:
        while not self._stopping:
            self._began = time.monotonic()
            try:
                code = await self._run()
            except OSError as error:
                _log.error("cannot start a process", extra={"child": self.name, "error": str(error)})
                code = -1
            if self._stopping:
                return
            self.failures = 1 if time.monotonic() - self._began > STEADY_S else self.failures + 1
            delay = restart_delay_s(self.failures)
            _log.error(
                "a process ended and is started again",
                extra={"child": self.name, "exit": code, "failures": self.failures, "delay_s": delay},
            )
            await asyncio.sleep(delay)

    async def _run(self) -> int:
        # A pipe of our own: with asyncio's, waiting for the process would last until its children close it too.
        reader, writer = os.pipe() if self._on_line else (None, None)
        try:
            self._process = process = await asyncio.create_subprocess_exec(
                *self._argv,
                env=self._environment,
                pass_fds=self._pass_fds,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=writer,
                stderr=writer,
                # Ctrl-C in a terminal is for the supervisor alone, which ends the others in their order.
                start_new_session=True,
                preexec_fn=partial(die_with, os.getpid()),
            )
        except OSError:
            if reader is not None:
                os.close(reader)
            raise
        finally:
            if writer is not None:
                os.close(writer)
        if self._stopping:
            self._signal(signal.SIGTERM)
        if self._on_start:
            self._on_start(process.pid)
        _log.info("started", extra={"child": self.name, "pid": process.pid})
        lines = asyncio.create_task(self._read_lines(reader)) if reader is not None else None
        code = await process.wait()
        # What it started and left behind would hold its ports and memory.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        if lines is not None:
            await asyncio.wait({lines}, timeout=1.0)
            lines.cancel()
        if self._on_end:
            self._on_end(process.pid)
        return code

    async def _read_lines(self, reader: int) -> None:
        stream = asyncio.StreamReader()
        loop = asyncio.get_running_loop()
        transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(stream), os.fdopen(reader))
        try:
            while line := await stream.readline():
                if self._on_line:
                    self._on_line(line.decode(errors="replace").rstrip())
        finally:
            transport.close()

    def _signal(self, number: int) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(number)
