"""The ceiling: processes that decode and run the graph in a loop, without any server."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.serving.vm import ROOT, SERVING_BIN


@dataclass(frozen=True, slots=True)
class Setting:
    """How the loop is spread."""

    processes: int
    threads: int
    """Of ONNX Runtime, in each process."""
    batch: int

    def __str__(self) -> str:
        """As in the report."""
        return f"{self.processes} processes x {self.threads} threads, batch {self.batch}"


@dataclass(frozen=True, slots=True)
class Done:
    """What a setting did. `cpu_s` is user and system time of all its processes."""

    images: int
    seconds: float
    cpu_s: float


class Ceiling:
    """The running processes of one setting."""

    def __init__(self, processes: Sequence[subprocess.Popen[str]]) -> None:
        self._processes = processes

    def work(self, seconds: float) -> Done:
        """All of them, side by side."""
        for process in self._processes:
            assert process.stdin is not None
            process.stdin.write(f"{seconds}\n")
            process.stdin.flush()
        parts = []
        for process in self._processes:
            assert process.stdout is not None
            parts.append(Done(**json.loads(process.stdout.readline())))
        return Done(
            sum(part.images for part in parts),
            max(part.seconds for part in parts),
            sum(part.cpu_s for part in parts),
        )


@contextmanager
def ceiling(artifact: Path, photos: Sequence[Path], setting: Setting) -> Iterator[Ceiling]:
    """Processes that wait for work until the block ends; they use the serving environment's libraries."""
    command = [
        str(SERVING_BIN / "python3"), "-m", "benchmarks.serving.comparison.loop", str(artifact),
        "--threads", str(setting.threads), "--batch", str(setting.batch), "--photos", *map(str, photos),
    ]  # fmt: skip
    processes = [
        subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(setting.processes)
    ]
    try:
        yield Ceiling(processes)
    finally:
        for process in processes:
            assert process.stdin is not None
            process.stdin.close()
            process.wait()
