"""Processes that outlive the daemon: found again by a marker in their environment, named by pid and start time.

A pid alone may have been reused; a pid with its start time (in clock ticks since boot) may not, short of a reboot,
which leaves no process to mistake.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")
_START_TIME_FIELD = 19
"""Of /proc/<pid>/stat, counted behind the command's closing bracket (proc(5): field 22)."""
_FLAGS_FIELD = 6
_KERNEL_THREAD = 0x00200000
"""PF_KTHREAD (linux/sched.h)."""
_EXEC_TURNS = 200
_EXEC_TURN_S = 0.001


@dataclass(frozen=True, slots=True)
class ProcessId:
    """One process, never to be mistaken for a later one with its pid."""

    pid: int
    start_ticks: int

    @classmethod
    def of(cls, pid: int) -> ProcessId | None:
        """The process that has this pid now; None if there is none or it is only waiting to be reaped."""
        try:
            stat = (_PROC / str(pid) / "stat").read_text()
        except (FileNotFoundError, ProcessLookupError):
            return None
        fields = stat.rpartition(")")[2].split()
        return None if fields[0] in "ZX" else cls(pid, int(fields[_START_TIME_FIELD]))

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return ProcessId.of(self.pid) == self

    def signal(self, number: int) -> None:
        """Send a signal; one that has ended is left alone."""
        if self.alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    async def ended(self) -> None:
        """Return once it has ended, whoever its parent is."""
        try:
            descriptor = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return
        try:
            if not self.alive:
                return
            loop = asyncio.get_running_loop()
            over = asyncio.Event()
            loop.add_reader(descriptor, over.set)
            try:
                await over.wait()
            finally:
                loop.remove_reader(descriptor)
        finally:
            os.close(descriptor)


def environment_of(pid: int) -> dict[str, str]:
    """Environment that a process was started with; empty where it has ended or belongs to somebody else.

    A process in the middle of exec(2) has neither environment nor arguments for a moment, and gets its arguments
    first: it is waited for, or whoever looks for its markers would miss it.
    """
    has_arguments = False
    for _ in range(_EXEC_TURNS):
        try:
            raw = (_PROC / str(pid) / "environ").read_bytes()
            if raw or has_arguments or not _is_program(pid):
                break
            has_arguments = bool((_PROC / str(pid) / "cmdline").read_bytes())
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            return {}
        time.sleep(_EXEC_TURN_S)
    pairs = (entry.partition(b"=") for entry in raw.split(b"\0") if b"=" in entry)
    return {os.fsdecode(name): os.fsdecode(value) for name, _, value in pairs}


def _is_program(pid: int) -> bool:
    """Whether a process runs a program: it is no kernel thread and has not ended."""
    fields = (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    return fields[0] not in "ZX" and not int(fields[_FLAGS_FIELD]) & _KERNEL_THREAD


def marked(markers: Mapping[str, str]) -> list[ProcessId]:
    """Living processes whose environment holds all of `markers`, this process excepted."""
    found = []
    for entry in _PROC.iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        environment = environment_of(int(entry.name))
        if environment and all(environment.get(name) == value for name, value in markers.items()):
            process = ProcessId.of(int(entry.name))
            if process is not None:
                found.append(process)
    return found


async def end(process: ProcessId, notice_s: float) -> None:
    """SIGTERM, and SIGKILL once `notice_s` is over; returns when it has ended."""
    process.signal(signal.SIGTERM)
    try:
        await asyncio.wait_for(process.ended(), notice_s)
    except TimeoutError:
        process.signal(signal.SIGKILL)
        await process.ended()


async def kill_marked(markers: Mapping[str, str]) -> int:
    """SIGKILL everything that carries `markers`, and what it starts meanwhile; how many there were."""
    killed = 0
    while processes := marked(markers):
        for process in processes:
            process.signal(signal.SIGKILL)
        await asyncio.gather(*(process.ended() for process in processes))
        killed += len(processes)
    return killed
