"""Triton as the supervisor keeps it: the process, its models loaded, and what is dead loaded again."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import shutil
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Final

import contract
from serving.health import ModelHealth, Repair, VmHealth, repair
from serving.processes import Child
from serving.repository import TritonModel
from serving.triton import InferError, Triton

_log = logging.getLogger(__name__)

READY_S: Final = 60.0
"""For the server without models."""
LOAD_S: Final = 600.0
"""For one model: a plan of a large network, or one built anew."""
_POLL_S: Final = 0.1
_SHARED_MEMORY: Final = Path("/dev/shm")  # noqa: S108 - where POSIX shared memory lies, not a place for our files
_MEMORY_PREFIX: Final = "tensorrt-fleet-"
_SEVERITY: Final = {"I": logging.INFO, "W": logging.WARNING, "E": logging.ERROR, "F": logging.CRITICAL}
_OUTSIDE_PROFILE: Final = "Failed to set cuda graph shape"
"""TensorRT backend's error for a CUDA graph's batch outside a profile (its src/instance_state.cc, BuildCudaGraph)."""
_NO_DRIVER: Final = "CudaDriverHelper has not been initialized"
"""Triton's error at the start of a server that finds no CUDA driver."""
_LOG_LINE: Final = re.compile(r"(?P<severity>[IWEF])\d{4} [\d:.]+ \d+ (?P<text>.*)")


def arguments(host: str, repository: Path, memory_prefix: str, *, on_gpus: bool) -> list[str]:
    """Command line of the server: gRPC and metrics on `host`, no HTTP, no model until it is told to load one."""
    without_gpus = [] if on_gpus else ["--allow-gpu-metrics=false", "--pinned-memory-pool-byte-size=0"]
    return [
        "tritonserver",
        f"--model-repository={repository}",
        "--model-control-mode=explicit",
        "--disable-auto-complete-config",
        "--allow-http=false",
        "--log-info=false",
        f"--grpc-address={host}",
        f"--grpc-port={contract.TRITON_GRPC_PORT}",
        f"--metrics-address={host}",
        f"--metrics-port={contract.TRITON_METRICS_PORT}",
        "--exit-timeout-secs=5",
        f"--backend-config=python,shm-region-prefix-name={memory_prefix}",
        *without_gpus,
    ]


class TritonServer:
    """The server process and its models. `health` is told what it is up to."""

    def __init__(
        self,
        host: str,
        repository: Path,
        models: Sequence[TritonModel],
        health: VmHealth,
        changed: Callable[[], None],
        *,
        on_gpus: bool,
    ) -> None:
        """Prepare; `changed` is called after every change of `health` that others should learn at once."""
        self._models = models
        self._health = health
        self._changed = changed
        self._memory_prefix = f"{_MEMORY_PREFIX}{os.getpid()}-"
        self._client = Triton(f"{host}:{contract.TRITON_GRPC_PORT}")
        self._child = Child(
            "triton",
            arguments(host, repository, self._memory_prefix, on_gpus=on_gpus),
            on_line=partial(log_line, on_gpus=on_gpus),
            on_start=self._started,
            on_end=self._ended,
        )
        self._loading: asyncio.Task[None] | None = None
        self._repairing: set[str] = set()
        self._repairs: set[asyncio.Task[None]] = set()

    @property
    def client(self) -> Triton:
        """For canaries."""
        return self._client

    @property
    def child(self) -> Child:
        """The process."""
        return self._child

    def start(self) -> None:
        """Start the server and load its models, now and whenever it was restarted."""
        _remove_memory_of_the_dead()
        self._child.start()

    async def stop(self, grace_s: float) -> None:
        """End the server."""
        for task in (self._loading, *self._repairs):
            if task is not None:
                task.cancel()
        await self._child.stop(grace_s)
        await self._client.close()

    def mend(self, model: ModelHealth) -> None:
        """Do what a model's latest canary calls for. Returns at once."""
        if self._health.triton or model.name in self._repairing:
            return
        action: Repair = repair(model, time.monotonic())
        if action == "restart":
            _log.error("restarting Triton", extra={"model": model.name, "error": model.error or "no answers"})
            self._child.kill()
        elif action == "reload":
            _log.error("loading a model again", extra={"model": model.name, "error": model.error})
            self._repairing.add(model.name)
            task = asyncio.create_task(self._reload(model), name=f"reload {model.name}")
            self._repairs.add(task)
            task.add_done_callback(self._repairs.discard)

    async def _reload(self, model: ModelHealth) -> None:
        try:
            await self._client.unload(model.name, LOAD_S)
            await self._client.load(model.name, LOAD_S)
            _log.info("loaded a model again", extra={"model": model.name})
        except InferError as error:
            _log.error("cannot load a model again", extra={"model": model.name, "error": str(error)})
        finally:
            self._repairing.discard(model.name)
        model.repaired()

    def _started(self, _pid: int) -> None:
        self._health.triton = "starting"
        self._loading = asyncio.create_task(self._load(), name="load models")

    async def _load(self) -> None:
        deadline = time.monotonic() + READY_S
        while not await self._client.ready(timeout_s=1.0):
            if time.monotonic() > deadline:
                _log.error("Triton is not ready; restarting it", extra={"after_s": READY_S})
                self._child.kill()
                return
            await asyncio.sleep(_POLL_S)
        for model in self._models:
            self._health.triton = f"loading {model.name}"
            began = time.monotonic()
            try:
                await self._client.load(model.name, LOAD_S)
            except InferError as error:
                # The others may still do; this one's canary will say what became of it.
                _log.error("cannot load a model", extra={"model": model.name, "error": str(error)})
            else:
                seconds = round(time.monotonic() - began, 2)
                _log.info("loaded a model", extra={"model": model.name, "seconds": seconds})
        for health in self._health.models.values():
            health.restarted()
        self._health.triton = ""
        self._changed()

    def _ended(self, _pid: int) -> None:
        self._health.triton = "ended; it is started again"
        if self._loading is not None:
            self._loading.cancel()
        for path in _SHARED_MEMORY.glob(f"{self._memory_prefix}*"):
            # A killed server leaves its shared memory behind.
            path.unlink(missing_ok=True)
        self._changed()


def _remove_memory_of_the_dead() -> None:
    """Remove the shared memory that supervisors who were killed could not: some hundred megabytes each."""
    for path in _SHARED_MEMORY.glob(f"{_MEMORY_PREFIX}*"):
        pid = path.name.removeprefix(_MEMORY_PREFIX).partition("-")[0]
        if pid.isdecimal() and (pid == str(os.getpid()) or not Path("/proc", pid).exists()):
            path.unlink(missing_ok=True)


def log_line(line: str, *, on_gpus: bool) -> None:
    """Pass a line of Triton's log on as an event of ours."""
    parts = _LOG_LINE.fullmatch(line)
    if parts:
        # Triton tries every CUDA graph in every optimisation profile, and most fit only one.
        expected = _OUTSIDE_PROFILE in parts["text"] or (_NO_DRIVER in parts["text"] and not on_gpus)
        level = logging.INFO if expected else _SEVERITY[parts["severity"]]
        _log.log(level, "%s", parts["text"], extra={"child": "triton"})
    elif line.strip():
        _log.info("%s", line, extra={"child": "triton"})


def installed() -> bool:
    """Whether there is a `tritonserver` to run."""
    return shutil.which("tritonserver") is not None
