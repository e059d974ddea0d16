"""Canaries: real inferences on every Triton model, on a timer, ahead of all other requests."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

import grpc
import numpy as np

from serving.health import CANARY_INTERVAL_S, LATELY_S, ModelHealth
from serving.repository import TritonModel
from serving.tensors import Array
from serving.triton import InferError, Triton, sample
from serving.triton_config import CANARY_PRIORITY

TIMEOUT_S: Final = LATELY_S
"""A canary may wait behind a full batch, but then it tells nothing any more."""
_PAUSE_S: Final = 0.1


async def ask(triton: Triton, model: TritonModel, health: ModelHealth) -> None:
    """Send one canary and note how it went."""
    try:
        outputs = await triton.infer(
            model.name, sample(model.graph, model.graph.fixed_batch or 1), TIMEOUT_S, priority=CANARY_PRIORITY
        )
    except InferError as error:
        if error.code == grpc.StatusCode.DEADLINE_EXCEEDED:
            health.unanswered(time.monotonic())
        else:
            health.failed(time.monotonic(), str(error))
        return
    wrong = fault(model, outputs)
    if wrong:
        health.failed(time.monotonic(), wrong)
    else:
        health.passed(time.monotonic())


def fault(model: TritonModel, outputs: dict[str, Array]) -> str:
    """What is wrong with a canary's answer, or nothing: every output must be there, in its shape, and finite."""
    for tensor in model.graph.outputs:
        array = outputs.get(tensor.name)
        if array is None:
            return f"no output {tensor.name}"
        shape = (model.graph.fixed_batch or 1, *tensor.wire_shape)
        if array.ndim != len(shape) or any(want not in (-1, got) for want, got in zip(shape, array.shape, strict=True)):
            return f"output {tensor.name} has shape {list(array.shape)}, not {list(shape)}"
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            return f"output {tensor.name} is not finite"
    return ""


async def keep_asking(
    triton: Triton,
    model: TritonModel,
    health: ModelHealth,
    *,
    paused: Callable[[], bool],
    after: Callable[[ModelHealth], None],
) -> None:
    """Ask every CANARY_INTERVAL_S until cancelled, but not while `paused`; `after` is called after every answer."""
    while True:
        began = time.monotonic()
        if paused():
            await asyncio.sleep(_PAUSE_S)
            continue
        await ask(triton, model, health)
        after(health)
        await asyncio.sleep(max(0.0, began + CANARY_INTERVAL_S - time.monotonic()))
