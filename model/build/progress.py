"""What a build tells while it works: bars on a terminal, lines elsewhere, and the same lines in log.txt."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO, Protocol, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn


def own_stderr() -> IO[str]:
    """Standard error as it is now, wherever `native_output_to` sends the libraries' later."""
    return os.fdopen(os.dup(2), "w", buffering=1, encoding="utf-8", errors="replace")


@contextmanager
def native_output_to(path: Path) -> Iterator[None]:
    """Send what C++ libraries write to standard error into a file: TensorFlow's start-up notes cannot be turned off."""
    sys.stderr.flush()
    before = os.dup(2)
    try:
        with path.open("ab") as stream:
            os.dup2(stream.fileno(), 2)
        yield
    finally:
        sys.stderr.flush()
        os.dup2(before, 2)
        os.close(before)


class Reporter(Protocol):
    """Where stages report to."""

    def stage(self, name: str, fraction: float) -> None:
        """A stage is `fraction` (0 to 1) done."""

    def line(self, text: str) -> None:
        """Something worth keeping has been found out."""


class Quiet:
    """Says nothing."""

    def stage(self, name: str, fraction: float) -> None:
        """Nothing."""

    def line(self, text: str) -> None:
        """Nothing."""


class Lines:
    """Prints lines to stderr, for logs and pipes."""

    def __init__(self) -> None:
        self._stream = own_stderr()

    def stage(self, name: str, fraction: float) -> None:
        """Nothing: the line at a stage's end says how long it took."""

    def line(self, text: str) -> None:
        """Print it."""
        print(text, file=self._stream, flush=True)


class Terminal:
    """Draws a bar for the stage at work, on stderr."""

    def __init__(self) -> None:
        columns = (TextColumn("{task.description:<12}"), BarColumn(), TimeElapsedColumn())
        self._progress = Progress(*columns, console=Console(file=own_stderr()), transient=True)
        self._name = ""
        self._task = self._progress.add_task("", total=1.0)

    def __enter__(self) -> Self:
        """Start drawing."""
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the lines, remove the bar."""
        self._progress.stop()

    def stage(self, name: str, fraction: float) -> None:
        """Move the bar."""
        if name != self._name:
            self._progress.reset(self._task, description=name)
            self._name = name
        self._progress.update(self._task, completed=fraction)

    def line(self, text: str) -> None:
        """Print above the bar."""
        self._progress.console.print(text, highlight=False, markup=False)


class Journal:
    """Times stages, keeps every line in log.txt and passes all on to a reporter."""

    def __init__(self, log: Path, reporter: Reporter) -> None:
        self._log = log
        self._reporter = reporter
        self._lines: list[str] = []
        self.stage_at_work = ""
        """The stage that runs, or ran last."""
        self.seconds: dict[str, float] = {}
        """Duration of each finished stage; of a reused one what it took when it ran."""

    @contextmanager
    def stage(self, name: str) -> Iterator[list[str]]:
        """Time what runs inside, and collect its lines; one more is written when it has ended well."""
        self.stage_at_work, self._lines = name, []
        self._reporter.stage(name, 0.0)
        start = time.monotonic()
        yield self._lines
        self.seconds[name] = round(time.monotonic() - start, 2)
        self._reporter.stage(name, 1.0)
        self._tell(f"{name:<10} {self.seconds[name]:6.1f} s")

    def reused(self, name: str, seconds: float, made: str, lines: Iterable[str]) -> None:
        """A stage need not run: what it told, and how long it took, when it did."""
        self.stage_at_work = name
        self.seconds[name] = seconds
        for line in lines:
            self._tell(line)
        self._reporter.stage(name, 1.0)
        self._tell(f"{name:<10} reused: nothing that it depends on has changed since {made} UTC, {seconds:.1f} s then")

    def fraction(self, value: float) -> None:
        """The stage at work is `value` (0 to 1) done."""
        self._reporter.stage(self.stage_at_work, value)

    def line(self, text: str) -> None:
        """Keep a line of the stage at work, and show it."""
        self._lines.append(text)
        self._tell(text)

    def note(self, text: str) -> None:
        """Keep a line that is shown in another way."""
        with self._log.open("a", encoding="utf-8") as stream:
            stream.write(text + "\n")

    def _tell(self, text: str) -> None:
        self.note(text)
        self._reporter.line(text)
