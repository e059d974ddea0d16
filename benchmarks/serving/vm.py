"""One serving VM on this machine: its real processes, on a loopback address of their own."""

from __future__ import annotations

import json
import os
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import psutil

import contract

ROOT: Final = Path(__file__).resolve().parents[2]
SERVING_BIN: Final = ROOT / ".venv-serving" / "bin"
Number = TypeVar("Number", int, float)
_START_S: Final = 120.0
_STOP_S: Final = 60.0
RESTARTED: Final = "a process ended and is started again"
"""What the supervisor logs then."""


class VmError(Exception):
    """The VM does not come up; the text holds the end of its log."""


@dataclass(frozen=True, slots=True)
class Vm:
    """A running VM."""

    host: str
    supervisor: psutil.Process
    log: Path

    @property
    def url(self) -> str:
        """Of its HTTP API."""
        return f"http://{self.host}:{contract.API_PORT}"

    def processes(self) -> list[psutil.Process]:
        """Supervisor, gateway workers, Triton and its stubs."""
        return [self.supervisor, *self.supervisor.children(recursive=True)]

    def resident_bytes(self) -> int:
        """Memory of all of them. What they share counts once a process."""
        return self._total(lambda process: process.memory_info().rss)

    def descriptors(self) -> int:
        """Open files and sockets of all of them."""
        return self._total(lambda process: process.num_fds())

    def cpu_seconds(self) -> float:
        """Processor time that those which run now have used."""
        return self._total(lambda process: sum(process.cpu_times()[:2]))

    def _total(self, measure: Callable[[psutil.Process], Number]) -> Number:
        total: Any = 0
        for process in self.processes():
            # One may end while it is looked at.
            with suppress(psutil.NoSuchProcess):
                total += measure(process)
        return total  # type: ignore[no-any-return]

    def events(self) -> list[dict[str, Any]]:
        """What was logged."""
        return [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]

    def restarts(self) -> list[str]:
        """Names of the processes that ended and were started again."""
        return [event["child"] for event in self.events() if event["message"] == RESTARTED]

    def health(self, path: str = contract.MODEL_PATH) -> int:
        """Status of a health check, 0 where none comes within the balancer's probe time."""
        try:
            with urllib.request.urlopen(self.url + path, timeout=contract.PROBE_INTERVAL_S) as answer:  # noqa: S310
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return 0

    def triton_counters(self) -> dict[str, float]:
        """Triton's own counters, summed over models, by metric name."""
        url = f"http://{self.host}:{contract.TRITON_METRICS_PORT}/metrics"
        totals: dict[str, float] = {}
        with urllib.request.urlopen(url, timeout=5) as answer:
            for line in answer.read().decode().splitlines():
                if line and not line.startswith("#"):
                    series, _, value = line.rpartition(" ")
                    name = series.partition("{")[0]
                    totals[name] = totals.get(name, 0.0) + float(value)
        return totals


@contextmanager
def running(artifact: Path, host: str, log: Path, limits: Mapping[str, float] | None = None) -> Iterator[Vm]:
    """Serve an artifact until the block ends, then stop with SIGTERM.

    Raises:
        VmError: it does not turn healthy.
    """
    arguments = [f"--set={name}={value}" for name, value in (limits or {}).items()]
    with log.open("w") as out:
        process = subprocess.Popen(
            [SERVING_BIN / "python3", "-m", "serving", "--artifact", artifact, "--host", host, *arguments],
            cwd=ROOT,
            env={"PATH": f"{SERVING_BIN}:{os.defpath}"},
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        vm = Vm(host, psutil.Process(process.pid), log)
        try:
            deadline = time.monotonic() + _START_S
            while vm.health() != 200:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise VmError(f"the VM on {host} does not serve:\n{log.read_text()[-2000:]}")
                time.sleep(0.1)
            yield vm
        finally:
            process.terminate()
            try:
                process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def machine() -> str:
    """What the figures were measured on, for their labels."""
    with Path("/proc/cpuinfo").open() as lines:
        models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    memory_gib = psutil.virtual_memory().total / 2**30
    return f"{len(models)} x {models[0] if models else 'unknown processor'}, {memory_gib:.0f} GiB"
