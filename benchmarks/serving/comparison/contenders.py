"""Servers that are compared: started, measured by the processor time of all their processes, and ended."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

import contract
from benchmarks.serving import vm
from benchmarks.serving.peers.answering import Options

PEERS_BIN: Final = vm.ROOT / ".venv-peers" / "bin"
OURS: Final = "ours"
_START_S: Final = 120.0
_STOP_S: Final = 1.5


@dataclass(frozen=True, slots=True)
class Contender:
    """A server that runs."""

    name: str
    setting: str
    host: str
    port: int
    root: psutil.Process
    stops: bool
    """Whether it may be held while others are measured."""

    def processes(self) -> list[psutil.Process]:
        """All of its processes."""
        return [self.root, *self.root.children(recursive=True)]

    def cpu_seconds(self) -> float:
        """User and system time of all its processes."""
        total = 0.0
        for process in self.processes():
            with suppress(psutil.NoSuchProcess):
                total += sum(process.cpu_times()[:2])
        return total

    def hold(self) -> None:
        """Take the processors away from it: an idle server may still poll."""
        if self.stops:
            for process in self.processes():
                process.suspend()

    def release(self) -> None:
        """Let it run again, children first: a parent may ask after them."""
        if self.stops:
            for process in reversed(self.processes()):
                process.resume()


@dataclass(frozen=True, slots=True)
class PeerSetting:
    """One way to set up a peer."""

    peer: str
    module: str
    workers: int
    threads: int
    batch: int

    def __str__(self) -> str:
        """As in the report."""
        batching = f"batches of up to {self.batch}" if self.batch > 1 else "no batching"
        return f"{self.workers} workers x {self.threads} threads, {batching}"


FASTAPI: Final = "FastAPI + ONNX Runtime"
LITSERVE: Final = "LitServe"
TENSORFLOW: Final = "FastAPI + TensorFlow"
GRID: Final = (
    *(
        PeerSetting(peer, module, workers, threads, batch)
        for peer, module in ((FASTAPI, "fastapi_server"), (LITSERVE, "litserve_server"))
        for workers in (1, 2)
        for threads in (1, 2)
        for batch in (1, 8)
    ),
    *(
        PeerSetting(TENSORFLOW, "fastapi_server", workers, threads, batch)
        for workers, threads in ((1, 2), (2, 1))
        for batch in (1, 8)
    ),
)
PEERS: Final = (FASTAPI, LITSERVE, TENSORFLOW)


@contextmanager
def ours(artifact: Path, host: str, log: Path) -> Iterator[Contender]:
    """The VM's processes, as they are shipped."""
    with vm.running(artifact, host, log) as running:
        yield Contender(OURS, "as shipped", host, contract.API_PORT, running.supervisor, stops=False)


@contextmanager
def peer(setting: PeerSetting, artifact: Path, native: Path, port: int, log: Path) -> Iterator[Contender]:
    """A peer. LitServe binds to no other loopback address than this, so each has a port."""
    host = "127.0.0.1"
    options = Options(
        host=host,
        port=port,
        artifact=str(artifact),
        workers=setting.workers,
        threads=setting.threads,
        batch=setting.batch,
        runtime="tensorflow" if setting.peer == TENSORFLOW else "onnxruntime",
        native=str(native),
    )
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "2", "TF_ENABLE_ONEDNN_OPTS": "1", "CUDA_VISIBLE_DEVICES": ""}
    with log.open("w") as out:
        process = subprocess.Popen(
            [PEERS_BIN / "python", "-m", f"benchmarks.serving.peers.{setting.module}"],
            cwd=vm.ROOT,
            env={"PATH": f"{PEERS_BIN}:{os.defpath}", **options.environment(), **quiet},
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    contender = Contender(setting.peer, str(setting), host, port, psutil.Process(process.pid), stops=True)
    try:
        _wait(contender, setting.workers, process, log)
        yield contender
    finally:
        _end(contender, process)


def _wait(contender: Contender, workers: int, process: subprocess.Popen[bytes], log: Path) -> None:
    """Until every worker has opened the socket and loaded its model, which takes its memory and then no time."""
    deadline = time.monotonic() + _START_S
    while process.poll() is None and time.monotonic() < deadline:
        with suppress(OSError), socket.create_connection((contender.host, contender.port), 1.0):
            if _is_calm(contender, workers):
                return
        time.sleep(0.2)
    raise vm.VmError(f"{contender.name} ({contender.setting}) does not serve:\n{log.read_text()[-2000:]}")


def _is_calm(contender: Contender, workers: int) -> bool:
    """Whether its workers are there, and it used next to no processor time for half a second: all have started."""
    before = contender.cpu_seconds()
    time.sleep(0.5)
    return len(contender.processes()) >= workers and contender.cpu_seconds() - before <= 0.15


def _end(contender: Contender, process: subprocess.Popen[bytes]) -> None:
    """End it and everything that it started."""
    with suppress(psutil.NoSuchProcess):
        contender.release()
    started = []
    with suppress(psutil.NoSuchProcess):
        started = contender.processes()
    process.terminate()
    _, alive = psutil.wait_procs(started, _STOP_S)
    for left in alive:
        with suppress(psutil.NoSuchProcess):
            left.kill()
    process.wait()
