"""Serving health and liveness: decided from canaries by pure functions, shared with other processes by one file."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final, Literal

CANARY_INTERVAL_S: Final = 2.0
LATELY_S: Final = 10.0
"""A canary older than this says nothing about now. Wide enough for one that waits behind a full batch."""
HUNG_S: Final = 60.0
"""Canaries without any answer for this long mean that Triton hangs."""
DEAD_S: Final = 300.0
"""Canaries failing for this long make the VM not live: it is replaced."""
LOADING_S: Final = 1500.0
"""A supervisor that was started again and has not served after this long makes the VM not live."""
STALE_S: Final = 10.0
"""A status older than this was written by a supervisor that is dead or hangs."""

State = Literal["START", "LOADING", "AVAILABLE", "UNLOADING"]
"""As TensorFlow Serving names them. UNLOADING: draining."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """What the supervisor last said of the VM. `at` is CLOCK_MONOTONIC, which all processes of a machine share."""

    at: float
    serving: bool
    """In rotation: answer the balancer's check with 200."""
    live: bool
    """Answer the autohealing check with 200."""
    state: State
    reason: str
    """Why not serving or not live; empty otherwise."""
    draining: bool
    gpus: tuple[int, ...] = ()
    """GPUs whose canaries pass, so that requests may go there."""


@dataclass(slots=True)
class ModelHealth:
    """Canaries of one Triton model. Times are CLOCK_MONOTONIC."""

    name: str
    gpu: int
    last_pass: float | None = None
    error: str = ""
    """Of the latest canary; empty while it passes or waits."""
    failing_since: float | None = None
    errors: int = 0
    """Answered with an error since the latest pass or repair."""
    repairs: int = 0
    """Times it was loaded again since the latest pass."""

    def passed(self, now: float) -> None:
        """A canary was answered rightly."""
        self.last_pass, self.error, self.failing_since, self.errors, self.repairs = now, "", None, 0, 0

    def failed(self, now: float, error: str) -> None:
        """A canary was answered with an error, or wrongly."""
        self.error = error
        self.errors += 1
        self._failing(now)

    def unanswered(self, now: float) -> None:
        """A canary got no answer in its time: perhaps only load."""
        self._failing(now)

    def repaired(self) -> None:
        """It was unloaded and loaded again; the next canaries tell whether that helped."""
        self.repairs += 1
        self.errors = 0

    def restarted(self) -> None:
        """Triton itself is new: all is open, but how long canaries have been failing."""
        self.errors, self.repairs = 0, 0

    def healthy(self, now: float) -> bool:
        """Whether the latest canary passed, lately."""
        return not self.error and self.last_pass is not None and now - self.last_pass <= LATELY_S

    def _failing(self, now: float) -> None:
        if self.failing_since is None:
            self.failing_since = now


Repair = Literal["none", "reload", "restart"]


def repair(model: ModelHealth, now: float) -> Repair:
    """What to do about a model: a dead stub or plan is loaded again first; where that does not help, or nothing is
    answered at all, Triton is restarted.
    """
    if model.errors >= 2 and model.repairs:
        return "restart"
    if model.errors and not model.repairs:
        return "reload"
    if not model.errors and model.failing_since is not None and now - model.failing_since > HUNG_S:
        return "restart"
    return "none"


@dataclass(slots=True, kw_only=True)
class VmHealth:
    """All that decides a VM's serving health and liveness."""

    started: float
    models: dict[str, ModelHealth] = field(default_factory=dict)
    gpus_expected: int = 0
    gpus_seen: int | None = None
    """Counted by nvidia-smi; None: not asked, as on a machine without GPUs."""
    draining: str = ""
    """Why, or empty."""
    triton: str = "starting"
    """Why Triton takes no requests, or empty."""
    given_up: str = ""
    """What the supervisor has given up on, or empty."""
    plans_built_here: int = 0
    """TensorRT plans that this VM built, as none of the artifact's fits it."""
    served_before: bool = False
    """Whether this VM has been in rotation since it booted. Until then it is not live: a managed instance group takes
    the first live answer for readiness, and deletes an old VM on it; its initial delay (1800 s) ignores the others.
    """

    def status(self, now: float) -> Status:
        """The verdict at `now`."""
        problem = self._problem(now)
        served = all(model.last_pass is not None for model in self.models.values()) and bool(self.models)
        dead = self._dead(now, served=served)
        state: State = "LOADING" if problem else "AVAILABLE"
        return Status(
            at=now,
            serving=not problem and not self.draining,
            live=not dead,
            state="UNLOADING" if self.draining else state,
            reason=dead or (f"draining: {self.draining}" if self.draining else problem),
            draining=bool(self.draining),
            gpus=() if self.triton else self._healthy_gpus(now),
        )

    def _problem(self, now: float) -> str:
        if self.gpus_seen is not None and self.gpus_seen < self.gpus_expected:
            return f"{self.gpus_seen} of {self.gpus_expected} GPUs are visible"
        if self.triton:
            return f"Triton: {self.triton}"
        failing = [model for model in self.models.values() if not model.healthy(now)]
        if failing:
            model = failing[0]
            return f"{model.name}: {model.error or self._silence(model, now)}"
        return "" if self.models else "no models"

    @staticmethod
    def _silence(model: ModelHealth, now: float) -> str:
        if model.last_pass is None:
            return "no canary has passed yet"
        return f"no canary has passed for {now - model.last_pass:.0f} s"

    def _dead(self, now: float, *, served: bool) -> str:
        if self.given_up:
            return self.given_up
        if self.gpus_seen is not None and self.gpus_seen < self.gpus_expected:
            return self._problem(now)
        if not served:
            if not self.served_before:
                return f"has not served since the VM booted: {self._problem(now)}"
            return f"not serving {LOADING_S:.0f} s after the start" if now - self.started > LOADING_S else ""
        for model in self.models.values():
            if model.failing_since is not None and now - model.failing_since > DEAD_S:
                return f"{model.name}: canaries have been failing for {now - model.failing_since:.0f} s"
        return ""

    def _healthy_gpus(self, now: float) -> tuple[int, ...]:
        by_gpu: dict[int, bool] = {}
        for model in self.models.values():
            by_gpu[model.gpu] = by_gpu.get(model.gpu, True) and model.healthy(now)
        return tuple(sorted(gpu for gpu, healthy in by_gpu.items() if healthy))


class StatusFile:
    """The status on disk, replaced atomically. A reader trusts it for STALE_S, then takes the supervisor for dead."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._clock = clock
        self._known: Status | None = None
        self._version: tuple[int, int] | None = None

    def write(self, status: Status) -> None:
        """Replace the status."""
        fresh = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        fresh.write_text(json.dumps(asdict(status)))
        fresh.replace(self._path)

    def read(self) -> Status:
        """The status as it was last written; a stale one is not serving nor, later, live."""
        now = self._clock()
        try:
            found = self._path.stat()
            version = (found.st_ino, found.st_mtime_ns)
            # Asking for the file's date costs microseconds, so every request can, and no two processes disagree.
            if self._known is None or version != self._version:
                fields = json.loads(self._path.read_text())
                self._known, self._version = Status(**fields | {"gpus": tuple(fields["gpus"])}), version
        except FileNotFoundError:
            return Status(at=now, serving=False, live=True, state="START", reason="starting", draining=False)
        return _aged(self._known, now)


def _aged(status: Status, now: float) -> Status:
    age = now - status.at
    if age <= STALE_S:
        return status
    return Status(
        at=status.at,
        serving=False,
        live=status.live and age <= DEAD_S,
        state=status.state,
        reason=f"the supervisor has said nothing for {age:.0f} s",
        draining=status.draining,
        gpus=status.gpus,
    )


def canary_ages(models: Iterable[ModelHealth], now: float) -> dict[str, float]:
    """Seconds since each model's latest passed canary; infinite before the first."""
    return {m.name: now - m.last_pass if m.last_pass is not None else float("inf") for m in models}
