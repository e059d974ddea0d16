"""Triton's model repository, read back with tritonclient's own protobuf."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from artifact.errors import ArtifactError
from artifact.folder import ArtifactFolder
from artifact.profiles import BatchProfile
from artifact.signature import Signature, SignatureFile, TensorSpec
from serving.graphs import graphs
from serving.plans import PlanChoice
from serving.repository import write_repository
from tests.model.tiny import COLOURS, SIZE


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


def test_plans_are_linked_and_may_be_built_later(tiny: ArtifactFolder, tmp_path: Path) -> None:
    choice = PlanChoice(tmp_path / "own", (BatchProfile(1, 8, 32),))
    models = write_repository(tmp_path / "models", tiny, range(4), choice)
    assert len(models) == 8
    for model in models:
        link = tmp_path / "models" / model.name / "1" / "model.plan"
        assert link.readlink() == tmp_path / "own" / f"int8.{model.graph.form}.plan"
        written = config_of(tmp_path / "models", model.name)
        assert written.platform == "tensorrt_plan"
        assert list(written.instance_group[0].gpus) == [model.gpu]


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


def test_a_fixed_batch_is_read_from_the_tensors_and_must_be_the_greatest() -> None:
    def file(batch: int, max_batch: int) -> SignatureFile:
        x = TensorSpec(name="x", dtype="float32", shape=(batch, 2), kind="tensor", tensor="x")
        signature = Signature(form="tensor", inputs=(x,), outputs=(x,), max_batch=max_batch)
        return SignatureFile(signatures={"serving_default": signature})

    assert graphs(file(4, 4))[0].fixed_batch == 4
    assert graphs(file(-1, 4))[0].fixed_batch is None
    with pytest.raises(ArtifactError, match=r"tensors are of batch \[4\], and at most 8 are taken"):
        graphs(file(4, 8))
