"""Keep a VM's GPUs busy: to see autoscaling and cooling at work, and how fast the models run without a gateway."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Mapping
from typing import Final

import numpy as np

import contract
from serving.tensors import TYPES, Array
from serving.triton import InferError, Message, Triton

_log = logging.getLogger(__name__)

BATCH: Final = 32
STREAMS: Final = 3
"""Batches in flight a model: two run, one waits."""
_TIMEOUT_S: Final = 30.0
_BY_CONFIG: Final = {names.config: names.numpy for names in TYPES.values()}


async def burn(host: str, seconds: float) -> None:
    """Send batches of zeros to every loaded model for that time, and log the rate of each.

    Raises:
        InferError: Triton does not answer.
    """
    triton = Triton(f"{host}:{contract.TRITON_GRPC_PORT}")
    models = [name for name, ready in (await triton.models(_TIMEOUT_S)).items() if ready]
    inputs = {name: _zeros(await triton.config(name, _TIMEOUT_S)) for name in models}
    done: Counter[str] = Counter()
    began = time.monotonic()
    await asyncio.gather(
        *(_stream(triton, name, inputs[name], began + seconds, done) for name in models for _ in range(STREAMS))
    )
    elapsed = time.monotonic() - began
    for name in models:
        _log.info("burnt", extra={"model": name, "images": done[name], "images_per_s": round(done[name] / elapsed, 1)})
    await triton.close()


async def _stream(triton: Triton, model: str, inputs: Mapping[str, Array], end: float, done: Counter[str]) -> None:
    while time.monotonic() < end:
        try:
            await triton.infer(model, inputs, _TIMEOUT_S)
        except InferError as error:
            # Triton refuses what waits too long; burning on is the point.
            _log.warning("a batch failed", extra={"model": model, "error": str(error)})
            await asyncio.sleep(1.0)
        else:
            done[model] += len(next(iter(inputs.values())))


def _zeros(config: Message) -> dict[str, Array]:
    # Tensors of a model without batching begin with the one batch that it takes.
    batch = (min(BATCH, config.max_batch_size),) if config.max_batch_size else ()
    arrays: dict[str, Array] = {}
    for entry in config.input:
        shape = (*batch, *(max(1, size) for size in entry.dims))
        name = type(entry).DESCRIPTOR.fields_by_name["data_type"].enum_type.values_by_number[entry.data_type].name
        dtype = _BY_CONFIG[name]
        arrays[entry.name] = np.full(shape, b"" if dtype == np.object_ else 0, dtype)
    return arrays
