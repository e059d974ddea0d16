"""The untouched signature of a model that takes JPEG strings, to compare what is served with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from model.export.frozen import FrozenSignature
from model.graph import FloatArray
from model.source.jpeg.view import attribute

_GRAPH: Final = "original.pb"
_NAMES: Final = "original.txt"
_AT_ONCE: Final = 8
"""Photos that are decoded and classified in one call."""


@dataclass(frozen=True, slots=True)
class FrozenOriginal:
    """A signature with one string input, whose `output` has scores of classes, float [N, classes]."""

    signature: FrozenSignature
    output: str

    def __call__(self, images: Sequence[bytes]) -> FloatArray:
        """Scores float32 [N, classes] of N encoded images, before the softmax where there is one."""
        run = self.signature.runner(self.output, before_softmax=True)
        (strings,) = self.signature.inputs.values()
        rank, at_once = _shape(self.signature, strings)
        answers = []
        for start in range(0, len(images), at_once):
            part = np.array(images[start : start + at_once], object)
            answers.append(np.asarray(run(part[0] if rank == 0 else part), np.float32))
        return np.concatenate(answers)

    def write(self, folder: Path) -> None:
        """Keep it in a folder, for `read`."""
        (folder / _GRAPH).write_bytes(self.signature.graph_def.SerializeToString(deterministic=True))
        ((name, tensor),) = self.signature.inputs.items()
        names = (name, tensor, self.output, self.signature.outputs[self.output])
        (folder / _NAMES).write_text("\n".join(names), encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> FrozenOriginal:
        """What `write` has kept."""
        from tensorflow.core.framework import graph_pb2  # noqa: PLC0415 - takes seconds to import

        graph = graph_pb2.GraphDef()
        graph.ParseFromString((folder / _GRAPH).read_bytes())
        name, tensor, output, fetched = (folder / _NAMES).read_text(encoding="utf-8").split("\n")
        return cls(FrozenSignature(graph, {name: tensor}, {output: fetched}), output)


def _shape(signature: FrozenSignature, strings: str) -> tuple[int | None, int]:
    """Rank of the string input, and how many images one call takes."""
    node = next(node for node in signature.graph_def.node if node.name == strings.partition(":")[0])
    shape = attribute(node, "shape").shape
    if shape.unknown_rank:
        return None, _AT_ONCE
    rank = len(shape.dim)
    fixed = [dim.size for dim in shape.dim if dim.size > 0]
    return rank, fixed[0] if fixed else (1 if rank == 0 else _AT_ONCE)
