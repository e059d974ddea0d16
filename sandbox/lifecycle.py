"""Starting and ending the daemon."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Final

from sandbox.folder import REPOSITORY, STATE_VARIABLE, Running, SandboxError, StateFolder, code_version, waiting_lock
from sandbox.machine.markers import STATE_MARKER
from sandbox.machine.processes import end, kill_marked
from sandbox.operator import clean_environment

_START_DEADLINE_S: Final = 90.0
_END_NOTICE_S: Final = 60.0
_LOG_TAIL_LINES: Final = 20

Say = Callable[[str], None]


async def ensure_running(folder: StateFolder, say: Say) -> Running:
    """The daemon, started if there is none; one that runs older code is restarted. Raises SandboxError."""
    folder.root.mkdir(parents=True, exist_ok=True)
    with waiting_lock(folder.root / "start.lock"):
        running = folder.running()
        if running is not None and running.version != code_version():
            say("sandbox: its code has changed; restarting it, VMs included ...")
            await end(running.process, _END_NOTICE_S)
            running = None
        return running or await _start(folder, say)


async def end_everything(folder: StateFolder, say: Say) -> None:
    """End the daemon and whatever a daemon of this state folder has ever left, and remove the folder."""
    running = folder.running()
    if running is not None:
        await end(running.process, _END_NOTICE_S)
    left = await kill_marked({STATE_MARKER: str(folder.root)})
    if left:
        say(f"sandbox: ended {left} processes that no daemon looked after")
    shutil.rmtree(folder.root, ignore_errors=True)
    if folder.root.exists():
        raise SandboxError(f"{folder.root} could not be removed: remove it by hand")


async def _start(folder: StateFolder, say: Say) -> Running:
    settings = folder.settings()
    say(f"sandbox: starting in {folder.root}, addresses 127.{settings.block}.x.x ...")
    environment = clean_environment() | {STATE_VARIABLE: str(folder.root), STATE_MARKER: str(folder.root)}
    with folder.log.open("ab") as log:
        daemon = subprocess.Popen(  # noqa: ASYNC220 - it outlives this loop, which a child of asyncio does not
            [sys.executable, "-m", "sandbox.daemon"],
            cwd=REPOSITORY,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    deadline = time.monotonic() + _START_DEADLINE_S
    while daemon.poll() is None and time.monotonic() < deadline:
        running = folder.running()
        if running is not None:
            return running
        await asyncio.sleep(0.1)
    if daemon.poll() is None:
        daemon.terminate()
        what = f"did not start within {_START_DEADLINE_S:.0f} s"
    else:
        what = f"ended with exit code {daemon.returncode}"
    tail = "\n".join(f"  {line}" for line in folder.log.read_text().splitlines()[-_LOG_TAIL_LINES:])
    raise SandboxError(f"the daemon {what}. The end of {folder.log}:\n{tail}")
