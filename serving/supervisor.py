"""The process that runs a serving VM: it starts the others, watches them, and takes the VM out of service in order."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import shutil
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import contract
from artifact.folder import ArtifactFolder
from serving import canary, gpus, plans
from serving.drain import drain
from serving.exposition import Exposition
from serving.graphs import graphs
from serving.health import ModelHealth, StatusFile, VmHealth
from serving.log import VM_VARIABLE
from serving.metadata import MetadataServer
from serving.processes import Child
from serving.repository import TritonModel, write_repository
from serving.settings import Settings
from serving.tritonserver import TritonServer, installed

_log = logging.getLogger(__name__)

HEARTBEAT_S: Final = 0.5
GPU_CHECK_S: Final = 10.0
GPU_MISSES: Final = 3
"""Checks in a row that must miss a GPU before it counts as lost: nvidia-smi itself may fail once."""
BACKLOG: Final = 2048
PORT_FREE_S: Final = 3.0
"""By then the processes of a supervisor that was killed are gone: the kernel ends them with it."""
_PORT_POLL_S: Final = 0.1
_ALLOCATOR: Final = {
    "MALLOC_ARENA_MAX": "2",
    "MALLOC_MMAP_THRESHOLD_": str(2**20),
    "MALLOC_TRIM_THRESHOLD_": str(2**20),
}
"""glibc's settings for gateway workers (mallopt(3)). By default each of their threads has a heap of its own, and one
large request keeps them all from giving anything back."""
_GONE_SOON: Final = {"TRUE": "preempted", "TERMINATE_ON_HOST_MAINTENANCE": "host maintenance"}
"""Values of `instance/preempted` and `instance/maintenance-event` that announce the VM's end."""


class StartError(Exception):
    """The supervisor cannot start; the text says why and what to do."""


async def supervise(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT, then drain. A second signal cuts the drain short.

    Raises:
        StartError, ArtifactError, NvidiaSmiError: nothing can be served.
    """
    os.environ[VM_VARIABLE] = settings.vm
    artifact = ArtifactFolder(settings.artifact)
    on_gpus = artifact.manifest.runtime == "tensorrt"
    if not installed():
        raise StartError("there is no `tritonserver` on PATH: run this in NVIDIA's Triton container, or see the docs")
    gpu_count = settings.gpus if settings.gpus is not None else await gpus.count() if on_gpus else 0
    _reset(settings.run_folder)
    settings.metrics_folder.mkdir()
    repository = settings.run_folder / "models"
    choice = await _choose_plans(settings, artifact) if on_gpus else None
    models = write_repository(repository, artifact, range(max(1, gpu_count)), choice)
    listener = await _listen(settings.host, settings.port)
    for port in (contract.METRICS_PORT, contract.TRITON_GRPC_PORT, contract.TRITON_METRICS_PORT):
        (await _listen(settings.host, port)).close()
    rebuild = choice.rebuild if choice is not None else None
    vm = _Vm(settings, models, repository, listener, on_gpus=on_gpus, rebuild=rebuild)
    _log.info(
        "serving",
        extra={
            "url": f"http://{settings.host}:{settings.port}{contract.MODEL_PATH}",
            "model_key": artifact.manifest.key,
            "runtime": artifact.manifest.runtime,
            "gpus": gpu_count,
        },
    )
    await vm.run()


class _Vm:
    """The parts of one VM and their life together."""

    def __init__(
        self,
        settings: Settings,
        models: tuple[TritonModel, ...],
        repository: Path,
        listener: socket.socket,
        *,
        on_gpus: bool,
        rebuild: plans.Rebuild | None,
    ) -> None:
        self._settings = settings
        self._rebuild = rebuild
        self._no_plans = ""
        self._models = models
        self._listener = listener
        gpu_indices = sorted({model.gpu for model in models})
        self._health = VmHealth(
            started=time.monotonic(),
            models={model.name: ModelHealth(model.name, model.gpu) for model in models},
            gpus_expected=settings.gpus or 0,
        )
        self._status_file = StatusFile(settings.status_file)
        self._exposition = Exposition(settings.metrics_folder, self._health, settings.host)
        self._triton = TritonServer(settings.host, repository, models, self._health, self._publish, on_gpus=on_gpus)
        self._workers = [self._worker(index, gpu_indices) for index in range(settings.workers)]
        self._agent = (
            Child("agent", [sys.executable, "-m", "serving.agent", "--settings", settings.to_json()])
            if settings.gpu_metric is not None
            else None
        )
        self._stop = asyncio.Event()
        self._hurry = asyncio.Event()
        self._drain_began = 0.0
        self._leaving: dict[str, str] = {}
        self._was_serving = False

    async def run(self) -> None:
        """Everything from start to exit."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._signalled, number.name)
        self._publish()
        self._exposition.serve(contract.METRICS_PORT)
        children = [*self._workers, *([self._agent] if self._agent else [])]
        for child in children:
            child.start()
        if self._settings.fleet:
            server = MetadataServer.of_environment()
            for path in ("instance/preempted", "instance/maintenance-event"):
                server.watch(path, self._leave_on(path))
        loops = [asyncio.create_task(self._beat(), name="heartbeat")]
        loops.append(asyncio.create_task(self._start_triton(), name="start Triton"))
        loops += [asyncio.create_task(self._canary(model), name=f"canary {model.name}") for model in self._models]
        if self._settings.gpus is not None:
            loops.append(asyncio.create_task(self._count_gpus(), name="count GPUs"))
        stop = asyncio.create_task(self._stop.wait(), name="signal")
        done, _ = await asyncio.wait({stop, *loops}, return_when=asyncio.FIRST_COMPLETED)
        for task in done - {stop}:
            # A loop ends only by a fault of this program; the unit is started again.
            task.result()
        await drain(
            began=self._drain_began,
            drain_s=self._settings.drain_s,
            finish_s=self._settings.finish_s,
            hurry=self._hurry,
            stop_listening=self._listener.close,
            workers=self._workers,
            others=[self._agent] if self._agent else [],
            triton=self._triton,
        )
        for task in loops:
            task.cancel()
        _log.info("drained", extra={"seconds": round(time.monotonic() - self._drain_began, 1)})

    def _worker(self, index: int, gpu_indices: list[int]) -> Child:
        descriptor = self._listener.fileno()
        argv = [sys.executable, "-m", "serving.gateway", "--settings", self._settings.to_json()]
        argv += ["--socket", str(descriptor), "--gpus", ",".join(map(str, gpu_indices))]
        return Child(
            f"gateway-{index}",
            argv,
            environment=_ALLOCATOR | {"PROMETHEUS_MULTIPROC_DIR": str(self._settings.metrics_folder)},
            pass_fds=[descriptor],
            on_end=self._exposition.forget,
        )

    async def _start_triton(self) -> None:
        """Start Triton, once there are plans for it to load; run until the VM stops."""
        try:
            if self._rebuild is not None:
                self._health.plans_built_here = await plans.build(self._rebuild, self._tell)
        except plans.PlanError as error:
            self._no_plans = str(error)
            _log.error("no TensorRT plans", extra={"error": str(error)})
        else:
            self._triton.start()
        await self._stop.wait()

    def _tell(self, text: str) -> None:
        """Say in the health's reason what Triton waits for."""
        self._health.triton = text
        self._publish()

    async def _beat(self) -> None:
        while True:
            hopeless = [
                c.name for c in (*self._workers, self._triton.child) if c.hopeless(self._settings.give_up_after)
            ]
            self._health.given_up = f"{', '.join(hopeless)} ended too often" if hopeless else self._no_plans
            self._publish()
            await asyncio.sleep(HEARTBEAT_S)

    async def _canary(self, model: TritonModel) -> None:
        def after(health: ModelHealth) -> None:
            self._publish()
            if not self._stop.is_set():
                self._triton.mend(health)

        await canary.keep_asking(
            self._triton.client,
            model,
            self._health.models[model.name],
            paused=lambda: bool(self._health.triton),
            after=after,
        )

    async def _count_gpus(self) -> None:
        misses = 0
        while True:
            try:
                seen = await gpus.count()
            except gpus.NvidiaSmiError as error:
                _log.warning("cannot count GPUs", extra={"error": str(error)})
                seen = 0
            misses = misses + 1 if seen < self._health.gpus_expected else 0
            if misses == 0 or misses >= GPU_MISSES:
                self._health.gpus_seen = seen
            await asyncio.sleep(GPU_CHECK_S)

    def _publish(self) -> None:
        status = self._health.status(time.monotonic())
        self._status_file.write(status)
        if status.serving != self._was_serving:
            self._was_serving = status.serving
            if status.serving and not self._health.served_before:
                self._settings.boot_mark.serves()
                self._health.served_before = True
            _log.info("in rotation" if status.serving else "out of rotation", extra={"reason": status.reason})

    def _signalled(self, name: str) -> None:
        if self._stop.is_set():
            self._hurry.set()
            return
        self._leaving[name] = name
        self._update_drain()
        self._stop.set()

    def _leave_on(self, path: str) -> Callable[[str], None]:
        def changed(value: str) -> None:
            if value in _GONE_SOON:
                self._leaving[path] = _GONE_SOON[value]
            else:
                self._leaving.pop(path, None)
            self._update_drain()

        return changed

    def _update_drain(self) -> None:
        """Turn health to 503 as long as there is a reason to leave; the first one starts the clock."""
        reason = ", ".join(self._leaving.values())
        if reason and not self._health.draining:
            self._drain_began = time.monotonic()
            _log.info("draining", extra={"reason": reason, "drain_s": self._settings.drain_s})
        self._health.draining = reason
        self._publish()


async def _choose_plans(settings: Settings, artifact: ArtifactFolder) -> plans.PlanChoice:
    return plans.choose(
        artifact,
        graphs(artifact.signatures),
        compute_capability=await gpus.compute_capability(),
        tensorrt=plans.installed_tensorrt(),
        own_plans=settings.run_folder.with_name("plans"),
    )


def _reset(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)


async def _listen(host: str, port: int) -> socket.socket:
    """A listening socket that survives any one gateway worker: connections wait in it for the next.

    Raises:
        StartError: the port is taken and stays so, or the address is not this machine's.
    """
    deadline = time.monotonic() + PORT_FREE_S
    while True:
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
            listener.listen(BACKLOG)
        except OSError as error:
            listener.close()
            if error.errno != errno.EADDRINUSE:
                raise StartError(f"cannot listen on {host}:{port}: {error.strerror}") from error
            if time.monotonic() > deadline:
                raise StartError(f"{host}:{port} is in use: end what listens there, or use another --host") from error
            await asyncio.sleep(_PORT_POLL_S)
        else:
            listener.setblocking(False)
            return listener
