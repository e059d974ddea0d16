"""Services of a VM, kept as systemd keeps them: started, watched, restarted, stopped with all that they started."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from sandbox.machine.children import Child, Children
from sandbox.machine.console import Console
from sandbox.machine.processes import ProcessId, marked
from sandbox.machine.unit_settings import UnitSettings

UNIT_MARKER = "SANDBOX_UNIT"
"""Environment variable of everything in a unit's control group."""

State = Literal["inactive", "activating", "active", "deactivating", "failed"]

_CLEAN_SIGNALS = frozenset({signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGPIPE})
"""Signals whose default death is success (systemd.service(5), SuccessExitStatus=)."""


@dataclass(slots=True)
class Host:
    """What units run on."""

    children: Children
    console: Console
    environment: Mapping[str, str]
    """Of every process in the VM, markers included."""
    markers: Mapping[str, str]
    """Of every process in the VM."""


@dataclass(slots=True)
class Unit:
    """One service."""

    host: Host
    name: str
    """Without `.service`."""
    command: list[str]
    settings: UnitSettings
    state: State = "inactive"
    result: str = "success"
    main_pid: int = 0
    restarts: int = 0
    since: float = field(default_factory=time.time)
    _starts: list[float] = field(default_factory=list)
    _stopping: asyncio.Event = field(default_factory=asyncio.Event)
    _supervision: asyncio.Task[None] | None = None
    _followers: set[asyncio.Task[None]] = field(default_factory=set)

    def start(self) -> None:
        """Begin to run and watch it."""
        self._stopping.clear()
        self._supervision = asyncio.create_task(self._supervise())

    async def stop(self) -> None:
        """Stop it and all that it started; returns when nothing of it runs."""
        self._stopping.set()
        if self._supervision is not None:
            await self._supervision

    async def finished(self) -> None:
        """Wait until it runs no longer and will not be restarted."""
        if self._supervision is not None:
            await self._supervision

    @property
    def label(self) -> str:
        """As systemd names it in its log."""
        description = self.settings.description or " ".join(self.command)
        return f"{self.name}.service - {description}"

    async def _supervise(self) -> None:
        while True:
            if self._starts_too_often():
                self._enter("failed", "start-limit-hit")
                self._log(f"{self.name}.service: Start request repeated too quickly.")
                self._log(f"{self.name}.service: Failed with result 'start-limit-hit'.")
                return
            code = await self._run_once()
            if self._stopping.is_set():
                return
            if not self._restarts_after(code):
                return
            self._enter("activating", self.result)
            if await self._stopped_within(self.settings.restart_s):
                self._enter("inactive", "success")
                return
            self.restarts += 1
            self._log(f"{self.name}.service: Scheduled restart job, restart counter is at {self.restarts}.")

    async def _run_once(self) -> int:
        """Run the command to its end, or to the end of a stop; its exit code."""
        for words in self.settings.start_pre:
            tolerant, command = words[0].startswith("-"), [words[0].lstrip("-"), *words[1:]]
            code = await (await self._spawn(command)).exited
            if code != 0 and not tolerant:
                self._log(f"{self.name}.service: Control process exited, {describe_exit(code)}")
                self._end(code)
                return code
        child = await self._spawn(self.command)
        self.main_pid = child.pid
        self._enter("active", "success")
        self._log(f"Started {self.label}.")
        stop = asyncio.ensure_future(self._stopping.wait())
        await asyncio.wait((asyncio.ensure_future(asyncio.shield(child.exited)), stop), return_when="FIRST_COMPLETED")
        if self._stopping.is_set():
            self._enter("deactivating", "success")
            self._log(f"Stopping {self.label}...")
            killed = await self._terminate(child)
            self._enter("failed" if killed else "inactive", "timeout" if killed else "success")
            self._log(f"Stopped {self.label}.")
        else:
            stop.cancel()
            code = child.exited.result()
            if code != 0:
                self._log(f"{self.name}.service: Main process exited, {describe_exit(code)}")
            await self._clear_group()
            self._end(code)
        self.main_pid = 0
        return await child.exited

    def _end(self, code: int) -> None:
        if is_clean(code):
            remains = self.settings.remain_after_exit
            self._enter("active" if remains else "inactive", "success")
            if not remains:
                self._log(f"{self.name}.service: Deactivated successfully.")
            return
        self._enter("failed", "exit-code" if code > 0 else "signal")
        self._log(f"{self.name}.service: Failed with result '{self.result}'.")

    async def _spawn(self, command: list[str]) -> Child:
        read, write = os.pipe()
        environment = {**self.host.environment, **self.settings.environment, UNIT_MARKER: self.name}
        try:
            child = self.host.children.spawn(
                command,
                environment=environment,
                folder=Path(self.settings.working_directory),
                stdout=write,
                stderr=write,
            )
        except OSError as error:
            os.close(read)
            self._log(f"{self.name}.service: Failed to execute {command[0]}: {error.strerror}")
            failure: Child = await self._spawn(["false"])
            return failure
        finally:
            os.close(write)
        source = self.settings.syslog_identifier or Path(command[0]).name
        follower = asyncio.create_task(self.host.console.follow(read, f"{source}[{child.pid}]"))
        self._followers.add(follower)
        follower.add_done_callback(self._followers.discard)
        return child

    async def _terminate(self, main: Child) -> bool:
        """Stop the control group as KillMode says; whether SIGKILL was needed."""
        settings = self.settings
        deadline = time.monotonic() + settings.timeout_stop_s
        if settings.kill_mode == "control-group":
            for process in self._group():
                process.signal(settings.kill_signal)
        else:
            main.signal(settings.kill_signal)
        killed = not await _within(asyncio.shield(main.exited), deadline)
        if killed:
            self._log(f"{self.name}.service: State 'stop-sigterm' timed out. Killing.")
            main.signal(signal.SIGKILL)
        if settings.kill_mode == "control-group" and not killed:
            killed = not await _within(_all_ended(self._group), deadline)
        if settings.kill_mode != "process":
            await self._clear_group()
        await main.exited
        return killed

    async def _clear_group(self) -> None:
        if self.settings.kill_mode == "process":
            return
        while group := self._group():
            for process in group:
                process.signal(signal.SIGKILL)
            await asyncio.gather(*(process.ended() for process in group))

    def _group(self) -> list[ProcessId]:
        return marked({**self.host.markers, UNIT_MARKER: self.name})

    def _restarts_after(self, code: int) -> bool:
        match self.settings.restart:
            case "always":
                return True
            case "on-success":
                return is_clean(code)
            case "on-failure":
                return not is_clean(code)
            case "on-abnormal" | "on-abort":
                return code < 0 and not is_clean(code)
            case _:
                return False

    def _starts_too_often(self) -> bool:
        now = time.monotonic()
        self._starts = [at for at in self._starts if now - at < self.settings.start_limit_interval_s] + [now]
        return len(self._starts) > self.settings.start_limit_burst

    async def _stopped_within(self, seconds: float) -> bool:
        return await _within(self._stopping.wait(), time.monotonic() + seconds)

    def _enter(self, state: State, result: str) -> None:
        self.state, self.result, self.since = state, result, time.time()

    def _log(self, text: str) -> None:
        self.host.console.log("systemd[1]", text)


def is_clean(code: int) -> bool:
    """Whether an exit code (negative: a signal) counts as success."""
    return code == 0 or -code in _CLEAN_SIGNALS


def describe_exit(code: int) -> str:
    """As systemd words it: `code=exited, status=1/FAILURE`, `code=killed, status=9/KILL`."""
    if code >= 0:
        return f"code=exited, status={code}/{'FAILURE' if code == 1 else 'n/a'}"
    return f"code=killed, status={-code}/{signal.Signals(-code).name.removeprefix('SIG')}"


async def _all_ended(group: Callable[[], list[ProcessId]]) -> None:
    while processes := group():
        await asyncio.gather(*(process.ended() for process in processes))


async def _within(awaitable: Awaitable[object], deadline: float) -> bool:
    """Whether it was done by `deadline` (monotonic seconds)."""
    try:
        await asyncio.wait_for(awaitable, max(0.0, deadline - time.monotonic()) if deadline < float("inf") else None)
    except TimeoutError:
        return False
    return True
