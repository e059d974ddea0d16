"""Triton's model repository, read back with tritonclient's own protobuf."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from artifact.errors import ArtifactError
from artifact.folder import ArtifactFolder
from artifact.signature import Signature, SignatureFile, TensorSpec
from serving.graphs import Graph, GraphTensor, graphs
from serving.repository import TritonModel, tensorrt_config, write_repository
from tests.model.tiny import COLOURS, SIZE

IMAGE = Graph(
    "image",
    (GraphTensor("image", "uint8", (224, 224, 3)),),
    (GraphTensor("probabilities", "float32", (1000,)), GraphTensor("score", "float32", ())),
    128,
)


def config_of(folder: Path, model: str) -> Any:
    text = (folder / model / "config.pbtxt").read_text()
    return text_format.Parse(text, model_config_pb2.ModelConfig())


def test_a_model_a_form_and_gpu(tiny: ArtifactFolder, tmp_path: Path) -> None:
    models = write_repository(tmp_path / "models", tiny, range(2), None)
    names = {f"default_{form}_gpu{gpu}" for form in ("image", "tensor") for gpu in (0, 1)}
    assert {model.name for model in models} == {path.name for path in (tmp_path / "models").iterdir()} == names
    for model in models:
        config = config_of(tmp_path / "models", model.name)
        assert config.name == model.name
        assert config.parameters["gpu"].string_value == str(model.gpu)
        assert config.max_batch_size == 32
        assert config.backend == "python"
        assert [group.count for group in config.instance_group] == [1]
        assert config.instance_group[0].kind == model_config_pb2.ModelInstanceGroup.KIND_CPU
        assert Path(config.parameters["graph"].string_value).is_file()
        assert f"int8-cpu.{model.graph.form}" in config.parameters["graph"].string_value
        assert int(config.parameters["threads"].string_value) >= 1


def test_inputs_and_outputs_are_the_graphs(tiny: ArtifactFolder, tmp_path: Path) -> None:
    write_repository(tmp_path / "models", tiny, [0], None)
    config = config_of(tmp_path / "models", "default_image_gpu0")
    assert [(e.name, e.data_type, list(e.dims)) for e in config.input] == [
        ("image", model_config_pb2.TYPE_UINT8, [SIZE, SIZE, 3])
    ]
    assert [(e.name, e.data_type, list(e.dims)) for e in config.output] == [
        ("probabilities", model_config_pb2.TYPE_FP32, [len(COLOURS)])
    ]


def test_canaries_go_before_requests_and_requests_do_not_wait_for_ever(tiny: ArtifactFolder, tmp_path: Path) -> None:
    write_repository(tmp_path / "models", tiny, [0], None)
    batching = config_of(tmp_path / "models", "default_image_gpu0").dynamic_batching
    assert batching.priority_levels == 2
    assert batching.default_priority_level == 2
    assert batching.default_queue_policy.timeout_action == model_config_pb2.ModelQueuePolicy.REJECT
    assert batching.default_queue_policy.default_timeout_microseconds > 0
    assert batching.default_queue_policy.max_queue_size > 0


def test_the_models_first_line_extends_the_path(tiny: ArtifactFolder, tmp_path: Path) -> None:
    write_repository(tmp_path / "models", tiny, [0], None)
    lines = (tmp_path / "models" / "default_image_gpu0" / "1" / "model.py").read_text().splitlines()
    assert lines[0].startswith("import sys; sys.path[:0] = [")
    assert str(Path(__file__).parents[2]) in lines[0]


def test_a_plan_runs_twice_on_its_own_gpu() -> None:
    config = tensorrt_config(TritonModel("default_image_gpu3", 3, IMAGE))
    assert config.platform == "tensorrt_plan"
    assert [(g.kind, g.count, list(g.gpus)) for g in config.instance_group] == [
        (model_config_pb2.ModelInstanceGroup.KIND_GPU, 2, [3])
    ]
    assert list(config.dynamic_batching.preferred_batch_size) == [8, 32, 128]
    assert config.dynamic_batching.max_queue_delay_microseconds == 1000
    assert config.parameters["gpu"].string_value == "3"


def test_preferred_batches_stay_within_the_models() -> None:
    config = tensorrt_config(TritonModel("m", 0, replace(IMAGE, max_batch=16)))
    assert list(config.dynamic_batching.preferred_batch_size) == [8]


def test_one_value_an_instance_is_reshaped_as_triton_has_no_scalars() -> None:
    config = tensorrt_config(TritonModel("m", 0, IMAGE))
    vector, scalar = config.output
    assert not vector.HasField("reshape")
    assert list(scalar.dims) == [1]
    assert scalar.HasField("reshape")
    assert list(scalar.reshape.shape) == []


def test_a_gpu_without_a_plan_is_refused_by_name(tiny: ArtifactFolder, tmp_path: Path) -> None:
    folder = ArtifactFolder(tiny.path)
    folder.manifest = tiny.manifest.model_copy(update={"runtime": "tensorrt"})
    with pytest.raises(ArtifactError, match=r"plans for nothing; this machine's GPUs have compute capability 7\.5"):
        write_repository(tmp_path / "models", folder, [0], "7.5")


def test_signatures_of_one_form_share_a_graph_and_may_not_contradict() -> None:
    def tensor(name: str, size: int) -> TensorSpec:
        return TensorSpec(name=name, dtype="float32", shape=(-1, size), kind="tensor", tensor=name)

    def file(*signatures: Signature) -> SignatureFile:
        return SignatureFile(signatures={f"s{i}": signature for i, signature in enumerate(signatures)})

    one = Signature(form="tensor", inputs=(tensor("x", 2),), outputs=(tensor("y", 3),), max_batch=8)
    two = one.model_copy(update={"outputs": (tensor("z", 1),), "max_batch": 4})
    (graph,) = graphs(file(one, two))
    assert [entry.name for entry in graph.outputs] == ["y", "z"]
    assert graph.max_batch == 8
    with pytest.raises(ArtifactError, match="contradicts"):
        graphs(file(one, one.model_copy(update={"inputs": (tensor("x", 5),)})))
