"""Waiting for an artifact that a builder VM makes: when to go on, when to start the VM again, when to give up.

Knows storage and Compute Engine by what it asks of them; components/gates.py brings the real ones.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

from artifact.errors import ArtifactUnavailableError
from artifact.run import RunStatus
from artifact.uri import ArtifactUri

POLL_INTERVAL_S: Final = 3.0
REPEAT_INTERVAL_S: Final = 30.0
"""A progress line appears with every new stage or status of the VM, and after this long without one."""
CONSOLE_LINES: Final = 15
"""Of the serial console, in an error message."""
STOPPED: Final = ("TERMINATED", "STOPPED", "SUSPENDED")


class BuilderVm(NamedTuple):
    """The VM that builds an artifact."""

    project: str
    zone: str
    name: str


class BuildError(Exception):
    """There will be no artifact, as far as this run of the program can tell: why, and what to do."""


class PassingError(Exception):
    """Something did not answer; asking again may help."""


class Site(Protocol):
    """What is asked of storage and Compute Engine. Each method may raise PassingError."""

    def is_published(self) -> bool:
        """Whether there is a valid manifest. Raises ArtifactError for an invalid one."""

    def newest_status(self) -> RunStatus | None:
        """The last message of the newest build run."""

    def vm_status(self) -> str:
        """Compute Engine's status of the builder VM; empty where there is none."""

    def start_vm(self) -> None:
        """Start the builder VM and wait until Compute Engine has. Raises BuildError where it does not."""

    def console(self) -> str:
        """The builder VM's serial console."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """One wait for one artifact."""

    site: Site
    uri: ArtifactUri
    vm: BuilderVm | None
    """None where the artifact is somebody else's: then it is there or it is not."""
    made_now: bool
    """Whether this run of the program made the VM: then what it says of a failure is news."""
    deadline_s: float
    say: Callable[[str], None]
    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


def await_artifact(wait: Wait) -> None:
    """Return when the artifact is published.

    A stopped builder VM is started again, once: it takes up its work where it was. One that has told why it failed
    since this program began is not.

    Raises:
        BuildError: the build failed, or the time is over.
        ArtifactError: the manifest is there and not valid, or storage refuses.
    """
    if wait.vm is None:
        if not wait.site.is_published():
            raise BuildError(
                f"there is no artifact at {wait.uri}: correct model.artifact, or remove it to build the model here"
            )
        return
    _Waiting(wait, wait.vm).run()


class _Waiting:
    def __init__(self, wait: Wait, vm: BuilderVm) -> None:
        self._wait, self._vm = wait, vm
        self._began = wait.now()
        self._started = False
        self._seen_running = wait.made_now
        self._old_run = ""
        """The newest run before this wait started the VM: what it told is no news."""
        self._line, self._topic, self._said_at = "", "", float("-inf")
        self._last: RunStatus | None = None

    def run(self) -> None:
        while True:
            try:
                if self._turn():
                    return
                trouble = ""
            except (PassingError, ArtifactUnavailableError) as error:
                trouble = str(error)
                self._say("cannot tell", f"cannot tell how the model build is: {trouble}")
            if self._elapsed >= self._wait.deadline_s:
                raise BuildError(self._overdue(trouble))
            self._wait.sleep(min(POLL_INTERVAL_S, max(0.0, self._wait.deadline_s - self._elapsed)))

    def _turn(self) -> bool:
        """Look once, and act; whether the artifact is there."""
        site = self._wait.site
        # The VM's status first: one that publishes and powers off in between has published.
        vm_status = site.vm_status()
        if site.is_published():
            self._say("done", f"the model is built: {self._wait.uri}")
            return True
        status = site.newest_status()
        news = status if status is not None and status.run != self._old_run else None
        self._last = news
        if not vm_status:
            raise BuildError(
                f"there is no builder VM {self._vm.name} in {self._vm.zone} any more, and no artifact at "
                f"{self._wait.uri}: run `pulumi refresh`, then `pulumi up`, which makes it again"
            )
        if vm_status not in STOPPED:
            self._seen_running = True
            self._say(*_progress(self._vm, vm_status, news))
            return False
        if news is not None and news.state == "failed" and self._seen_running:
            raise BuildError(self._failure(f"the model build failed: {news.error or 'it did not say why'}", news))
        if self._started:
            raise BuildError(self._failure(f"the builder VM {self._vm.name} has stopped before it was done", news))
        self._started = self._seen_running = True
        self._old_run = status.run if status else ""
        self._say("start", f"the builder VM {self._vm.name} is {vm_status} and there is no artifact: starting it again")
        site.start_vm()
        return False

    @property
    def _elapsed(self) -> float:
        return self._wait.now() - self._began

    def _say(self, topic: str, line: str) -> None:
        """Tell a line if it is of another topic than the last, or if that was long ago."""
        if topic != self._topic or (line != self._line and self._wait.now() - self._said_at >= REPEAT_INTERVAL_S):
            self._wait.say(f"[{self._elapsed:4.0f} s] {line}")
            self._topic, self._line, self._said_at = topic, line, self._wait.now()

    def _failure(self, problem: str, status: RunStatus | None) -> str:
        lines = [problem]
        if status is not None and status.log:
            lines.append(f"its log: {status.log}")
        lines += self._console()
        lines.append("Correct what it names, then run `pulumi up` again: it starts the builder VM once more.")
        return "\n".join(lines)

    def _overdue(self, trouble: str) -> str:
        last = self._last
        where = f"at stage {last.stage}, {last.percent:.0f} % done" if last else "without a word from the builder VM"
        lines = [f"there is no artifact at {self._wait.uri} after {self._wait.deadline_s:.0f} s, {where}"]
        lines += [trouble] if trouble else self._console()
        lines.append(
            "The builder VM goes on. Run `pulumi up` again to wait for it again; model.builder.deadlineS is how long."
        )
        return "\n".join(lines)

    def _console(self) -> list[str]:
        try:
            said = [line.rstrip() for line in self._wait.site.console().splitlines() if line.strip()]
        except PassingError as error:
            return [f"(its serial console cannot be read: {error})"]
        heading = f"serial console of {self._vm.name} ({self._vm.zone}), its last lines:"
        return [heading, *(f"  {line}" for line in said[-CONSOLE_LINES:])] if said else []


def _progress(vm: BuilderVm, vm_status: str, status: RunStatus | None) -> tuple[str, str]:
    """Topic and line of a build under way."""
    if vm_status != "RUNNING" or status is None or status.state != "running":
        return vm_status, f"the builder VM {vm.name} is {vm_status}"
    left = "" if status.seconds_left is None else f", about {_duration(status.seconds_left)} left"
    return f"{status.run} {status.stage}", f"model build: {status.stage}, {status.percent:.0f} % done{left}"


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
