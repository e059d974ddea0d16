"""What a request asks of the model, and what the model says, whichever protocol they came in."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from artifact.signature import Signature, TensorSpec
from serving.tensors import Array


@dataclass(frozen=True, slots=True)
class Batch(ABC):
    """A request that is understood: `count` instances for one signature.

    `images` holds encoded images by input name, `tensors` arrays [count, ...] in the signature's types.
    """

    signature: Signature
    count: int
    images: dict[str, list[bytes]]
    tensors: dict[str, Array]

    @abstractmethod
    def at(self, name: str, index: int) -> str:
        """Where in the request the instance `index` of the input `name` stands, for messages."""


def client_outputs(signature: Signature, outputs: Mapping[str, Array]) -> dict[str, Array]:
    """Arrays [count, ...] by the names that clients know, from the graph's outputs by its own."""
    return {spec.name: _output(spec, outputs[spec.tensor]) for spec in signature.outputs}


def _output(spec: TensorSpec, array: Array) -> Array:
    if spec.kind == "argmax":
        index: Array = np.argmax(array, axis=-1)
        return index
    # Triton has no scalars: one value an instance comes as [count, 1].
    return array.reshape(len(array)) if len(spec.shape) == 1 else array
