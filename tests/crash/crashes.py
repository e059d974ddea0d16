"""A sandbox that is crashed in the middle of an `up`, and what must be true of it afterwards."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import psutil

from sandbox.compute.records import GroupRecord, group_records, instances
from sandbox.folder import REPOSITORY, StateFolder
from sandbox.machine.instance import Instance
from sandbox.machine.markers import MACHINE_MARKER, STATE_MARKER
from sandbox.store import Store

PROGRAM = Path(__file__).parent / "program"
STACK = "toy"
SIZE = 2
"""VMs of the program's group."""
COMMAND_LIMIT_S = 180
SETTLED_S = 60
WRITES = 14
"""Writes to the store that an `up` of the program makes, or a few more."""

Victim = Literal["daemon", "engine", "both"]
VICTIMS: tuple[Victim, ...] = ("daemon", "engine", "both")


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """Where one `up` is crashed."""

    victim: Victim
    fresh: bool
    """The stack is made, rather than changed."""
    writes: int
    """Changes of the sandbox's store before the crash."""
    later_s: float
    """Time from the last of them to the crash."""

    @classmethod
    def of(cls, seed: int) -> Point:
        """The point of a seed; three in a row have the three victims."""
        drawn = random.Random(seed)  # noqa: S311 - it guards nothing
        return cls(
            victim=VICTIMS[seed % len(VICTIMS)],
            fresh=drawn.random() < 0.5,
            writes=drawn.randint(1, WRITES),
            later_s=drawn.uniform(0.0, 0.05),
        )


@dataclass(slots=True)
class Crashed:
    """One sandbox for many crashes."""

    state: Path
    version: int = 0
    interrupted: int = 0
    """Runs that were crashed before they were through."""

    @property
    def folder(self) -> StateFolder:
        return StateFolder(self.state)

    @property
    def environment(self) -> dict[str, str]:
        return os.environ | {"SANDBOX_STATE_DIR": str(self.state), "SANDBOX_PROGRAM": str(PROGRAM)}

    def run(self, *arguments: str) -> str:
        """`python -m sandbox ARGUMENTS`; what it says on both streams."""
        done = subprocess.run(
            [sys.executable, "-m", "sandbox", *arguments],
            cwd=REPOSITORY,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=COMMAND_LIMIT_S,
        )
        assert done.returncode == 0, f"{arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}\n{self.log()}"
        return done.stdout + done.stderr

    def crash_an_up(self, point: Point) -> None:
        """Begin an `up`, crash the victim at the point, and wait until the run is over."""
        self.version += 1
        with (
            self.writes() as write,
            subprocess.Popen(
                [sys.executable, "-m", "sandbox", "up", STACK, "--config", f"version={self.version}"],
                cwd=REPOSITORY,
                env=self.environment,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            ) as run,
        ):
            deadline = time.monotonic() + COMMAND_LIMIT_S
            for _ in range(point.writes):
                while run.poll() is None and not write():
                    assert time.monotonic() < deadline, "the up makes no progress"
                    time.sleep(0.001)
            time.sleep(point.later_s)
            if point.victim != "daemon":
                _kill_tree(run.pid)
            if point.victim != "engine":
                self.kill_daemon()
            if run.wait(COMMAND_LIMIT_S):
                self.interrupted += 1

    def kill_daemon(self) -> None:
        """SIGKILL, as the kernel ends a process that takes too much memory."""
        running = self.folder.running()
        assert running is not None
        running.process.signal(signal.SIGKILL)

    @contextlib.contextmanager
    def writes(self) -> Iterator[WriteSeen]:
        """Tells whether another process has written to the store since the last question."""
        connection = sqlite3.connect(self.folder.store)
        try:
            yield WriteSeen(connection)
        finally:
            connection.close()

    def settled_group(self) -> tuple[GroupRecord, list[Instance]]:
        """The group, once it has its size and its template, and all VMs that there are."""
        deadline = time.monotonic() + SETTLED_S
        while True:
            store = Store(self.folder.store)
            try:
                groups, vms = [group for _, group in group_records(store)], list(instances(store))
            finally:
                store.close()
            if len(groups) == 1 and groups[0].stable and groups[0].reached and len(vms) == len(groups[0].members):
                return groups[0], vms
            assert time.monotonic() < deadline, f"the group does not settle: {self.run('status')}\n{self.log()}"
            time.sleep(0.1)

    def processes(self) -> list[psutil.Process]:
        """Everything that belongs to this sandbox, engines included."""
        marks = {STATE_MARKER: str(self.state), "PULUMI_HOME": str(self.folder.pulumi_home)}
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                environment = process.environ()
                if any(environment.get(name) == value for name, value in marks.items()):
                    found.append(process)
        return found

    def log(self) -> str:
        """The end of the daemon's log."""
        return "\n".join(self.folder.log.read_text().splitlines()[-40:]) if self.folder.log.exists() else ""


@dataclass(slots=True)
class WriteSeen:
    """Whether there is a write that has not been told yet (SQLite, PRAGMA data_version)."""

    connection: sqlite3.Connection
    last: int = 0

    def __post_init__(self) -> None:
        self.last = self._version()

    def __call__(self) -> bool:
        before, self.last = self.last, self._version()
        return before != self.last

    def _version(self) -> int:
        version: int = self.connection.execute("PRAGMA data_version").fetchone()[0]
        return version


def running_parts(crashed: Crashed) -> tuple[Counter[str], Counter[str]]:
    """What runs of a sandbox: how often each VM, by key, and how often each program outside of VMs, by name."""
    machines: Counter[str] = Counter()
    programs: Counter[str] = Counter()
    for process in crashed.processes():
        with contextlib.suppress(psutil.NoSuchProcess):
            machine, line = process.environ().get(MACHINE_MARKER), process.cmdline()
            if machine:
                machines[machine] += line[-1] == "init"
            else:
                programs["sandbox.daemon" if "sandbox.daemon" in line else Path(line[0]).name] += 1
    return machines, programs


def _kill_tree(pid: int) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        root = psutil.Process(pid)
        # Stopped first: what is about to be killed must not start anything more.
        root.suspend()
        for process in [*root.children(recursive=True), root]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
