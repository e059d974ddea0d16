"""The simulated GPU: how busy Triton's own counters say that a real one might have been.

    utilisation of a GPU = images inferred on it x settings.ms_per_image / time

Images come from Triton's `nv_inference_count`; which GPU a model runs on is what its configuration says in the
parameter `gpu`. Nothing here measures a GPU.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import grpc.aio
from tritonclient.grpc import service_pb2, service_pb2_grpc

from sandbox.machine.instance import Instance
from sandbox.machine.scratch import Scratch
from sandbox.settings import SandboxSettings
from sandbox.store import INSTANCE, Store

_METRICS_PORT = 8002
_GRPC_PORT = 8001
_TIMEOUT_S = 2.0
_COUNT = re.compile(r'^nv_inference_count\{model="([^"]+)",version="[^"]+"\} (\S+)$', re.MULTILINE)


@dataclass(slots=True)
class _Reading:
    at: float = 0.0
    images: dict[str, float] = field(default_factory=dict)
    """Cumulative images by model."""
    gpu_of: dict[str, int] = field(default_factory=dict)
    lost: set[int] = field(default_factory=set)


def utilisation(
    before: Mapping[str, float],
    after: Mapping[str, float],
    gpu_of: Mapping[str, int],
    gpus: int,
    *,
    ms_per_image: float,
    window_s: float,
) -> list[float]:
    """Percent for each GPU from cumulative images by model. A counter that fell was restarted at zero."""
    busy_ms = [0.0] * gpus
    for model, total in after.items():
        gpu = gpu_of.get(model)
        if gpu is not None and gpu < gpus:
            earlier = before.get(model, 0.0)
            busy_ms[gpu] += (total - earlier if total >= earlier else total) * ms_per_image
    return [min(100.0, 100.0 * busy / (window_s * 1000.0)) for busy in busy_ms]


class SimulatedGpus:
    """Writes what each VM's nvidia-smi tells, every `period_s` seconds."""

    def __init__(self, settings: SandboxSettings, store: Store, period_s: float = 2.0) -> None:
        self._period_s = period_s
        self._settings = settings
        self._store = store
        self._readings: dict[str, _Reading] = {}
        self._polling: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to poll."""
        self._polling = asyncio.create_task(self._poll())

    async def stop(self) -> None:
        """Poll no longer."""
        if self._polling is not None:
            self._polling.cancel()
            await asyncio.gather(self._polling, return_exceptions=True)

    def prepare(self, instance: Instance) -> None:
        """Give a VM that boots all its GPUs, idle."""
        self._readings[instance.key] = _Reading()
        self._write(instance, [0.0] * instance.gpus, set())

    def lose(self, key: str, index: int) -> None:
        """Hide one GPU of a VM until it boots again."""
        reading = self._readings.setdefault(key, _Reading())
        reading.lost.add(index)
        record = self._store.get(INSTANCE, key)
        if record is not None:
            instance = Instance.of(record)
            self._write(instance, [0.0] * instance.gpus, reading.lost)

    async def _poll(self) -> None:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_TIMEOUT_S)) as session:
            while True:
                await asyncio.sleep(self._period_s)
                running = [Instance.of(record) for _, record in self._store.items(INSTANCE)]
                running = [one for one in running if one.status == "RUNNING" and one.gpus]
                for key in set(self._readings) - {one.key for one in running}:
                    del self._readings[key]
                await asyncio.gather(*(self._read(session, instance) for instance in running))

    async def _read(self, session: aiohttp.ClientSession, instance: Instance) -> None:
        reading = self._readings.setdefault(instance.key, _Reading())
        try:
            async with session.get(f"http://{instance.address}:{_METRICS_PORT}/metrics") as answer:
                answer.raise_for_status()
                images = {model: float(count) for model, count in _COUNT.findall(await answer.text())}
            reading.gpu_of |= await _gpus_of(instance.address, set(images) - set(reading.gpu_of))
        except (aiohttp.ClientError, TimeoutError, grpc.aio.AioRpcError):
            # The last counts stay: a Triton that only was slow goes on counting from them.
            reading.gpu_of.clear()
            self._write(instance, [0.0] * instance.gpus, reading.lost)
            return
        now = time.monotonic()
        window_s = now - reading.at
        scale = self._settings.ms_per_image
        percent = (
            utilisation(reading.images, images, reading.gpu_of, instance.gpus, ms_per_image=scale, window_s=window_s)
            if reading.at
            else [0.0] * instance.gpus
        )
        reading.at, reading.images = now, images
        self._write(instance, percent, reading.lost)

    def _write(self, instance: Instance, percent: list[float], lost: set[int]) -> None:
        path = Scratch.of(self._settings.state, instance.key).gpus
        document: dict[str, Any] = {
            "simulated": True,
            "type": instance.gpu_type,
            "seed": instance.numeric_id,
            "gpus": [
                {"index": index, "utilization": round(value)}
                for index, value in enumerate(percent)
                if index not in lost
            ],
        }
        fresh = path.with_suffix(".new")
        try:
            fresh.write_text(json.dumps(document))
            fresh.replace(path)
        except FileNotFoundError:
            return  # The VM's folder went away with it.


async def _gpus_of(address: str, models: set[str]) -> dict[str, int]:
    """GPU index of those models whose configuration names one in the parameter `gpu`."""
    if not models:
        return {}
    found: dict[str, int] = {}
    async with grpc.aio.insecure_channel(f"{address}:{_GRPC_PORT}") as channel:
        triton = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        for model in models:
            answer = await triton.ModelConfig(service_pb2.ModelConfigRequest(name=model), timeout=_TIMEOUT_S)
            parameter = answer.config.parameters.get("gpu")
            if parameter is not None and parameter.string_value.isdigit():
                found[model] = int(parameter.string_value)
    return found
