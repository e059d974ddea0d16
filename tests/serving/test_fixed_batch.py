"""A graph that takes one batch size only gets that, and a client only what it asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest

from serving.canary import fault
from serving.fixed_batch import cut, filled
from serving.gateway.deadlines import Deadlines
from serving.gateway.router import Router
from serving.graphs import Graph, GraphTensor
from serving.repository import TritonModel
from serving.tensors import Array
from tests.serving.conftest import SERVING


class Echo:
    """A Triton whose models answer what they get; `shapes` are those."""

    def __init__(self) -> None:
        self.shapes: list[tuple[int, ...]] = []

    async def infer(
        self, model: str, inputs: Mapping[str, Array], timeout_s: float, *, queue_timeout_s: float
    ) -> dict[str, Array]:
        del model, timeout_s, queue_timeout_s
        self.shapes += [array.shape for array in inputs.values()]
        return dict(inputs)


@pytest.mark.parametrize(("form", "sent"), [("tensor", 4), ("image", 3)])
async def test_the_gateway_fills_up_only_what_needs_it_and_cuts_the_answer(form: str, sent: int) -> None:
    triton = Echo()
    router = Router(triton, (0,), lambda: replace(SERVING, gpus=(0,)), {"tensor": 4, "image": None})  # type: ignore[arg-type]
    x = np.arange(6, dtype=np.float32).reshape(3, 2)
    answer = await router.infer(form, {"x": x}, 3, Deadlines.of(4, 5))  # type: ignore[arg-type]
    assert triton.shapes == [(sent, 2)]
    np.testing.assert_array_equal(answer["x"], x)


def test_what_is_added_is_an_instance_like_the_others_also_of_strings() -> None:
    arrays = {"text": np.array([b"a", b"b"], np.object_), "x": np.ones((2, 3), np.float32)}
    full = filled(arrays, 4)
    assert full["text"].tolist() == [b"a", b"b", b"b", b"b"]
    assert full["x"].dtype == np.float32
    assert {name: len(array) for name, array in cut(dict(full), 2).items()} == {"text": 2, "x": 2}


def test_a_canary_of_a_fixed_batch_must_be_answered_in_full() -> None:
    graph = Graph("tensor", (), (GraphTensor("y", "float32", (2,)),), 4, fixed_batch=4)
    model = TritonModel("m", 0, graph)
    assert fault(model, {"y": np.zeros((4, 2), np.float32)}) == ""
    assert fault(model, {"y": np.zeros((1, 2), np.float32)}) == "output y has shape [1, 2], not [4, 2]"
