"""Which GPU a request goes to, and what becomes of one that a GPU does not answer."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import grpc
import numpy as np
import pytest

from serving.gateway.deadlines import Deadlines
from serving.gateway.http import HttpError
from serving.gateway.router import Router
from serving.health import Status
from serving.tensors import Array
from serving.triton import WAITED, InferError
from tests.serving.conftest import SERVING

INPUTS = {"image": np.zeros((1, 2, 2, 3), np.uint8)}


@dataclass
class FakeTriton:
    """Notes the models asked; each call waits for `release`."""

    asked: list[str] = field(default_factory=list)
    release: asyncio.Event = field(default_factory=asyncio.Event)
    errors: dict[str, grpc.StatusCode] = field(default_factory=dict)
    detail: str = ""

    async def infer(
        self, model: str, inputs: Mapping[str, Array], timeout_s: float, *, queue_timeout_s: float
    ) -> dict[str, Array]:
        assert timeout_s > queue_timeout_s > 0
        self.asked.append(model)
        if model in self.errors:
            raise InferError(self.errors[model], self.detail or f"{model} failed")
        await self.release.wait()
        return dict(inputs)


def router(triton: FakeTriton, gpus: tuple[int, ...], status: Status | None = None) -> Router:
    current = status or replace(SERVING, gpus=gpus)
    return Router(triton, gpus, lambda: current)  # type: ignore[arg-type]


def soon() -> Deadlines:
    return Deadlines.of(4, 5)


async def test_requests_spread_over_gpus_by_outstanding_images() -> None:
    triton = FakeTriton()
    chooser = router(triton, (0, 1))
    tasks = []
    for count in (8, 1, 1, 1):
        tasks.append(asyncio.create_task(chooser.infer("image", INPUTS, count, soon())))
        await asyncio.sleep(0)
    assert triton.asked == ["default_image_gpu0"] + ["default_image_gpu1"] * 3
    triton.release.set()
    await asyncio.gather(*tasks)
    assert set(chooser._outstanding.values()) == {0}


async def test_idle_gpus_take_turns() -> None:
    triton = FakeTriton()
    triton.release.set()
    chooser = router(triton, (0, 1, 2))
    for _ in range(6):
        await chooser.infer("tensor", INPUTS, 1, soon())
    assert sorted(triton.asked) == sorted([f"default_tensor_gpu{gpu}" for gpu in (0, 1, 2)] * 2)


async def test_gpus_whose_canaries_fail_get_nothing() -> None:
    triton = FakeTriton()
    triton.release.set()
    chooser = router(triton, (0, 1), replace(SERVING, gpus=(1,)))
    for _ in range(3):
        await chooser.infer("image", INPUTS, 1, soon())
    assert set(triton.asked) == {"default_image_gpu1"}


@pytest.mark.parametrize("code", [grpc.StatusCode.INTERNAL, grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.NOT_FOUND])
async def test_a_gpu_that_fails_hands_its_request_to_another(code: grpc.StatusCode) -> None:
    triton = FakeTriton(errors={"default_image_gpu0": code})
    triton.release.set()
    await router(triton, (0, 1)).infer("image", INPUTS, 1, soon())
    assert triton.asked == ["default_image_gpu0", "default_image_gpu1"]


@pytest.mark.parametrize(
    ("code", "status", "tries"),
    [
        (grpc.StatusCode.INTERNAL, 503, 2),
        (grpc.StatusCode.UNAVAILABLE, 503, 2),
        (grpc.StatusCode.DEADLINE_EXCEEDED, 504, 1),
        (grpc.StatusCode.INVALID_ARGUMENT, 400, 1),
    ],
)
async def test_what_no_gpu_answers_is_refused(code: grpc.StatusCode, status: int, tries: int) -> None:
    triton = FakeTriton(errors={"default_image_gpu0": code, "default_image_gpu1": code})
    with pytest.raises(HttpError) as caught:
        await router(triton, (0, 1)).infer("image", INPUTS, 1, soon())
    assert caught.value.status == status
    assert len(triton.asked) == tries


async def test_a_request_that_waited_too_long_for_a_gpu_is_refused_and_tried_nowhere_else() -> None:
    triton = FakeTriton(errors=dict.fromkeys(("default_image_gpu0", "default_image_gpu1"), grpc.StatusCode.UNAVAILABLE))
    triton.detail = WAITED
    with pytest.raises(HttpError, match="waited too long") as caught:
        await router(triton, (0, 1)).infer("image", INPUTS, 1, soon())
    assert caught.value.status == 429
    assert len(triton.asked) == 1


async def test_without_gpus_the_supervisors_reason_is_the_answer() -> None:
    status = replace(SERVING, gpus=(), serving=False, reason="Triton: starting")
    with pytest.raises(HttpError, match="Triton: starting") as caught:
        await router(FakeTriton(), (0,), status).infer("image", INPUTS, 1, soon())
    assert caught.value.status == 503
