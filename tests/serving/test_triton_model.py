"""How the model in Triton's Python backend spreads a batch over the cores; ONNX Runtime is real, Triton is not."""

from __future__ import annotations

import importlib
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import onnx
import pytest

from tests.model.tiny import SIZE, tiny_graph


class Response:
    def __init__(self, output_tensors: Any = (), error: Any = None) -> None:
        self.output_tensors, self.error = output_tensors, error


@dataclass
class Refusal:
    """Stands for pb_utils.TritonError."""

    text: str
    code: str = "INTERNAL"
    INVALID_ARG: ClassVar[str] = "INVALID_ARG"


def tensor(name: str, array: Any) -> Any:
    return SimpleNamespace(name=name, array=array, as_numpy=lambda: array)


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> Any:
    """serving.triton_model with a stand-in for what Triton's stub offers."""
    backend: Any = ModuleType("triton_python_backend_utils")
    backend.get_input_tensor_by_name = lambda request, name: request[name]
    backend.Tensor, backend.InferenceResponse, backend.TritonError = tensor, Response, Refusal
    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", backend)
    monkeypatch.delitem(sys.modules, "serving.triton_model", raising=False)
    return importlib.import_module("serving.triton_model")


def model(module: Any, folder: Path, threads: int, max_batch: int = 32, graph: onnx.ModelProto | None = None) -> Any:
    path = folder / "graph.onnx"
    onnx.save(graph or tiny_graph("image"), path)
    config = {
        "max_batch_size": max_batch,
        "parameters": {"graph": {"string_value": str(path)}, "threads": {"string_value": str(threads)}},
        "input": [{"name": "image"}],
        "output": [{"name": "probabilities"}],
    }
    made = module.TritonPythonModel()
    made.initialize({"model_config": json.dumps(config)})
    return made


def requests(sizes: list[int]) -> list[dict[str, Any]]:
    rng = np.random.default_rng(1)
    return [{"image": tensor("image", rng.integers(0, 256, (n, SIZE, SIZE, 3), np.uint8))} for n in sizes]


def answers(responses: list[Response]) -> list[Any]:
    return [response.output_tensors[0].array for response in responses]


@pytest.mark.parametrize("threads", [1, 2, 3, 8])
@pytest.mark.parametrize("sizes", [[1], [1, 1], [5], [1, 3, 2], [1] * 7])
def test_every_request_has_its_own_answer_however_a_batch_is_shared_out(
    module: Any, tmp_path: Path, threads: int, sizes: list[int]
) -> None:
    asked = requests(sizes)
    alone = model(module, tmp_path, threads=1)
    expected = [answers(alone.execute([request]))[0] for request in asked]
    found = answers(model(module, tmp_path, threads).execute(asked))
    assert [len(rows) for rows in found] == sizes
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def shares(module: Any, folder: Path, count: int, threads: int, max_batch: int = 32) -> list[tuple[str, int]]:
    made = model(module, folder, threads, max_batch)
    ran: list[tuple[str, int]] = []
    for name in ("_together", "_alone"):
        session = getattr(made, name)

        def run(outputs: Any, batch: Any, name: str = name, session: Any = session) -> Any:
            ran.append((name, len(batch["image"])))
            return session.run(outputs, batch)

        setattr(made, name, session and SimpleNamespace(run=run))
    made.execute(requests([count]))
    return sorted(ran)


def test_one_image_has_all_cores_and_of_several_each_core_has_a_share(module: Any, tmp_path: Path) -> None:
    assert shares(module, tmp_path, 1, 2) == [("_together", 1)]
    assert shares(module, tmp_path, 2, 2) == [("_alone", 1), ("_alone", 1)]
    assert shares(module, tmp_path, 7, 2) == [("_alone", 3), ("_alone", 4)]
    assert shares(module, tmp_path, 3, 8) == [("_alone", 1)] * 3


def test_a_large_batch_is_cut_into_small_shares_as_many_for_each_core(module: Any, tmp_path: Path) -> None:
    assert shares(module, tmp_path, 8, 2) == [("_alone", 4)] * 2
    assert shares(module, tmp_path, 9, 2) == [("_alone", 2)] * 3 + [("_alone", 3)]
    assert shares(module, tmp_path, 32, 2) == [("_alone", 4)] * 8


def test_a_graph_of_a_fixed_batch_is_never_cut(module: Any, tmp_path: Path) -> None:
    assert shares(module, tmp_path, 4, 2, max_batch=0) == [("_together", 4)]


def test_what_onnx_runtime_refuses_is_the_requests_answer(module: Any, tmp_path: Path) -> None:
    bad = [{"image": tensor("image", np.zeros((n, 1, 3), np.uint8))} for n in (1, 2)]
    found = model(module, tmp_path, 2).execute(bad)
    assert [response.error.code for response in found] == ["INTERNAL", "INTERNAL"]


def test_values_that_a_node_refuses_are_one_requests_fault_and_not_its_neighbours(module: Any, tmp_path: Path) -> None:
    table = onnx.numpy_helper.from_array(np.arange(5, dtype=np.float32), "table")
    nodes = [onnx.helper.make_node("Gather", ["table", "image"], ["probabilities"], name="words/embedding")]
    tensors = [
        onnx.helper.make_tensor_value_info(name, kind, ["n", 2])
        for name, kind in (("image", onnx.TensorProto.INT64), ("probabilities", onnx.TensorProto.FLOAT))
    ]
    graph = onnx.helper.make_graph(nodes, "words", tensors[:1], tensors[1:], [table])
    found = model(module, tmp_path, 2, graph=onnx.helper.make_model(graph, ir_version=8)).execute(
        [{"image": tensor("image", np.array([ids]))} for ids in ([0, 1], [2, 9], [3, 4])]
    )
    assert [response.error and response.error.code for response in found] == [None, "INVALID_ARG", None]
    assert found[1].error.text.startswith("node words/embedding (Gather) of the model cannot compute what it is fed: ")
    assert "idx=9" in found[1].error.text
    np.testing.assert_array_equal(answers([found[0], found[2]]), [[[0, 1]], [[3, 4]]])
