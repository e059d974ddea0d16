"""TensorRT's messages: kept in a file, its errors remembered for whoever must be told."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from model.plan.tensorrt_api import Logger, Severity, TensorRt

_ERRORS: Final = frozenset({"INTERNAL_ERROR", "ERROR"})
_KEPT: Final = _ERRORS | {"WARNING", "INFO"}
"""VERBOSE is a hundred megabytes a plan: every tactic that was tried."""


class PlanLog:
    """Collects what one builder says."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._errors: list[str] = []

    def take(self, severity: Severity, message: str) -> None:
        """Keep one message."""
        if severity.name in _ERRORS:
            self._errors.append(message)
        if severity.name in _KEPT:
            self.note(f"[{severity.name}] {message}")

    def note(self, text: str) -> None:
        """Keep a line of our own."""
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write(text + "\n")

    def reason(self) -> str:
        """The latest error in one line, and forget it with those before."""
        latest = " ".join(self._errors[-1].split()) if self._errors else "it gives no reason"
        self._errors.clear()
        return latest


def logger_for(tensorrt: TensorRt, log: PlanLog) -> Logger:
    """An instance of TensorRT's `ILogger` that passes all on to `log`."""

    def take(_: object, severity: Severity, message: str) -> None:
        log.take(severity, message)

    return type("PlanLogger", (tensorrt.ILogger,), {"log": take})()
