from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc.aio
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.grpc import model_config_pb2, service_pb2, service_pb2_grpc

from sandbox.machine.gpu import SimulatedGpus, utilisation
from sandbox.machine.scratch import Scratch
from sandbox.store import INSTANCE
from tests.sandbox_machine.machines import World, until

COUNTS = st.dictionaries(st.sampled_from(["a", "b", "c"]), st.floats(0, 1e6), max_size=3)
GPU_OF = {"a": 0, "b": 1, "c": 1}


def test_images_times_time_per_image_over_wall_time() -> None:
    busy = utilisation({"a": 100.0}, {"a": 600.0, "b": 250.0}, GPU_OF, 2, ms_per_image=2.0, window_s=2.0)
    assert busy == [50.0, 25.0]


def test_models_on_one_gpu_add_up_and_saturate() -> None:
    busy = utilisation({}, {"b": 400.0, "c": 200.0}, GPU_OF, 2, ms_per_image=2.0, window_s=2.0)
    assert busy == [0.0, 60.0]
    assert utilisation({}, {"b": 5000.0}, GPU_OF, 2, ms_per_image=2.0, window_s=2.0) == [0.0, 100.0]


def test_counter_that_was_reset_counts_from_zero() -> None:
    assert utilisation({"a": 10_000.0}, {"a": 500.0}, GPU_OF, 1, ms_per_image=2.0, window_s=2.0) == [50.0]


def test_no_triton_is_idle_and_unknown_models_count_nowhere() -> None:
    assert utilisation({"a": 100.0}, {}, GPU_OF, 2, ms_per_image=2.0, window_s=2.0) == [0.0, 0.0]
    assert utilisation({}, {"x": 100.0}, GPU_OF, 2, ms_per_image=2.0, window_s=2.0) == [0.0, 0.0]


@given(before=COUNTS, after=COUNTS, gpus=st.integers(0, 4), window_s=st.floats(0.1, 100))
def test_always_a_percentage_for_every_gpu(
    before: dict[str, float], after: dict[str, float], gpus: int, window_s: float
) -> None:
    busy = utilisation(before, after, GPU_OF, gpus, ms_per_image=2.0, window_s=window_s)
    assert len(busy) == gpus
    assert all(0.0 <= percent <= 100.0 for percent in busy)


@pytest.mark.parametrize("scale", [0.5, 2.0])
def test_follows_the_setting(scale: float) -> None:
    assert utilisation({}, {"a": 100.0}, GPU_OF, 1, ms_per_image=scale, window_s=1.0) == [10.0 * scale]


class Triton(service_pb2_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc] # generated without types
    """Two models on two GPUs and one on none, with counters that a test sets."""

    def __init__(self) -> None:
        self.images = {"m_gpu0": 0, "m_gpu1": 0, "other": 0}
        self.up = True
        self.reads = 0

    async def ModelConfig(  # noqa: N802 - the protocol's name
        self, request: service_pb2.ModelConfigRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> service_pb2.ModelConfigResponse:
        del context
        config = model_config_pb2.ModelConfig(name=request.name)
        if request.name != "other":
            config.parameters["gpu"].string_value = request.name[-1]
        return service_pb2.ModelConfigResponse(config=config)

    async def metrics(self, request: web.Request) -> web.Response:
        del request
        self.reads += 1
        if not self.up:
            raise web.HTTPServiceUnavailable
        lines = (f'nv_inference_count{{model="{name}",version="1"}} {n}' for name, n in self.images.items())
        return web.Response(text="# HELP nv_inference_count Number of inferences\n" + "\n".join(lines) + "\n")


@asynccontextmanager
async def triton_at(address: str) -> AsyncIterator[Triton]:
    triton = Triton()
    server = grpc.aio.server()
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(triton, server)
    server.add_insecure_port(f"{address}:8001")
    application = web.Application()
    application.router.add_get("/metrics", triton.metrics)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, address, 8002).start()
    await server.start()
    try:
        yield triton
    finally:
        await server.stop(None)
        await runner.cleanup()


async def test_counters_of_triton_become_what_nvidia_smi_tells(world: World) -> None:
    key = world.insert(gpus=2)
    world.store.put(INSTANCE, key, {**(world.store.get(INSTANCE, key) or {}), "status": "RUNNING"})
    instance = world.instance(key)
    assert instance is not None
    path = Scratch.of(world.settings.state, key).gpus
    path.parent.mkdir(parents=True)

    seen: list[dict[int, int]] = []

    def shown() -> dict[int, int]:
        document = json.loads(path.read_text()) if path.exists() else {"gpus": []}
        seen.append({gpu["index"]: gpu["utilization"] for gpu in document["gpus"]})
        return seen[-1]

    async def read(times: int) -> None:
        wanted = triton.reads + times
        await until(lambda: shown() and triton.reads >= wanted, f"{times} more readings")

    gpus = SimulatedGpus(world.settings, world.store, period_s=0.05)
    gpus.prepare(instance)
    idle = {0: 0, 1: 0}
    async with triton_at(instance.address) as triton:
        triton.images = {"m_gpu0": 10_000, "m_gpu1": 0, "other": 0}
        await gpus.start()
        try:
            await read(3)
            triton.up = False
            await read(3)
            triton.up = True
            await read(3)
            assert all(one == idle for one in seen), "neither the first reading nor one after an outage is load"
            triton.images = {"m_gpu0": 10_000, "m_gpu1": 100_000, "other": 100_000}
            await until(lambda: shown() == {0: 0, 1: 100}, "one GPU is busy")
            await until(lambda: shown() == idle, "idle again")
            gpus.lose(key, 0)
            assert shown() == {1: 0}
        finally:
            await gpus.stop()
