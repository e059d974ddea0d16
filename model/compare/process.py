"""A row in a process of its own, seen from the process that compares."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from model.compare.timing import Setting
from model.compare.worker import Start
from model.errors import BuildError

_REPOSITORY: Final = Path(__file__).resolve().parents[2]
_QUIET: Final = {"TF_CPP_MIN_LOG_LEVEL": "3"}
_NO_GPU: Final = {"CUDA_VISIBLE_DEVICES": "-1"}
_GRACE_S: Final = 10.0
"""For a process to end by itself once its standard input has ended."""


class RowProcess(AbstractContextManager["RowProcess"]):
    """Starts the process and loads the row. `runtime` is the library that runs it.

    Raises:
        BuildError: the row cannot be loaded or run; the message is the process's own, with where its log is.
    """

    def __init__(self, start: Start, log: Path) -> None:
        self._name, self._log = start.spec.row, log
        with log.open("ab") as stream:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "model.compare.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stream,
                cwd=_REPOSITORY,
                env={**os.environ, **_QUIET, **({} if start.spec.on_gpu else _NO_GPU)},
                text=True,
                encoding="utf-8",
            )
        try:
            self.runtime: str = self._ask(start.model_dump_json())["runtime"]
        except BuildError:
            self.close()
            raise

    def time(self, setting: Setting, seconds: float) -> tuple[float, ...]:
        """See `model.compare.timing.Row`."""
        asked = {"do": "time", "batch": setting.batch, "preprocessing": setting.preprocessing, "seconds": seconds}
        return tuple(self._ask(json.dumps(asked))["ms"])

    def answers(self, photos: tuple[Path, ...]) -> tuple[tuple[tuple[int, float], ...], ...]:
        """(class, score) of the best answers to each photo, best first."""
        asked = {"do": "answer", "photos": [str(photo.resolve()) for photo in photos]}
        return tuple(
            tuple((number, score) for number, score in best) for best in self._ask(json.dumps(asked))["answers"]
        )

    def memory_mib(self) -> float:
        """Most memory that the process has held so far."""
        return float(self._ask(json.dumps({"do": "memory"}))["mib"])

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None  # noqa: S101 - a pipe was asked for
        assert self._process.stdout is not None  # noqa: S101 - likewise
        self._process.stdin.close()
        try:
            self._process.wait(_GRACE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the process, also one that is at work."""
        if kind is not None:
            self._process.kill()
        self.close()

    def _ask(self, line: str) -> dict[str, Any]:
        assert self._process.stdin is not None  # noqa: S101 - a pipe was asked for
        assert self._process.stdout is not None  # noqa: S101 - likewise
        try:
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()
            reply = self._process.stdout.readline()
        except BrokenPipeError:
            reply = self._process.stdout.readline()
        if not reply:
            status = self._process.wait()
            raise BuildError(f"the process of row {self._name} ended with status {status} (log: {self._log})")
        answer: dict[str, Any] = json.loads(reply)
        if "error" in answer:
            raise BuildError(f"row {self._name}: {answer['error']} (log: {self._log})")
        return answer
