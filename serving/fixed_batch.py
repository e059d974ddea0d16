"""Requests to a graph that takes exactly one batch size: filled up to it, and what was added cut off the answer."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from serving.tensors import Array


def filled(inputs: Mapping[str, Array], batch: int | None) -> Mapping[str, Array]:
    """Arrays [n, ...] as [batch, ...], the last instance repeated; as they are where `batch` is None."""
    if batch is None:
        return inputs
    return {
        name: np.concatenate([array, np.repeat(array[-1:], batch - len(array), axis=0)])
        for name, array in inputs.items()
    }


def cut(outputs: dict[str, Array], count: int) -> dict[str, Array]:
    """The first `count` instances of an answer."""
    return {name: array[:count] for name, array in outputs.items()}
