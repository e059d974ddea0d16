"""config.pbtxt as Triton gets it: golden files, parsed with tritonclient's protobuf, held against signature.json."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as pb

from artifact.folder import ArtifactFolder
from artifact.profiles import BatchProfile, batch_profiles
from serving.graphs import Graph, GraphTensor
from serving.plans import PlanChoice
from serving.repository import write_repository
from serving.tensors import TYPES
from serving.triton_config import cpu_config, tensorrt_config

GOLDEN = Path(__file__).parent / "golden"
IMAGE = Graph(
    "image",
    (GraphTensor("image", "uint8", (224, 224, 3)),),
    (GraphTensor("probabilities", "float32", (1000,)), GraphTensor("score", "float32", ())),
    128,
)
PROFILES = batch_profiles(None)
DEPLOYMENTS = {"t4x1": 1, "t4x4": 4, "cpu": 0}


def write(artifact: ArtifactFolder, folder: Path, gpus: int) -> dict[str, str]:
    """Configurations by model."""
    choice = PlanChoice(folder / "plans", PROFILES) if gpus else None
    models = write_repository(folder / "models", artifact, range(max(1, gpus)), choice)
    return {model.name: (folder / "models" / model.name / "config.pbtxt").read_text() for model in models}


def parsed(text: str) -> Any:
    return text_format.Parse(text, pb.ModelConfig())


@pytest.mark.parametrize("deployment", DEPLOYMENTS)
def test_the_configurations_are_the_golden_ones(
    tiny: ArtifactFolder,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    deployment: str,
    request: pytest.FixtureRequest,
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 16)
    written = write(tiny, tmp_path, DEPLOYMENTS[deployment])
    comparable = {name: text.replace(str(tiny.path), "ARTIFACT") for name, text in written.items()}
    folder = GOLDEN / deployment
    if request.config.getoption("--update-golden", default=False):
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in comparable.items():
            (folder / f"{name}.pbtxt").write_text(text)
    golden = {path.stem: path.read_text() for path in folder.glob("*.pbtxt")}
    # Protobuf's text form varies its spaces from build to build on purpose.
    assert {name: str(parsed(text)) for name, text in comparable.items()} == {
        name: str(parsed(text)) for name, text in golden.items()
    }


@pytest.mark.parametrize("deployment", DEPLOYMENTS)
def test_every_golden_file_says_what_the_signature_says(tiny: ArtifactFolder, deployment: str) -> None:
    paths = sorted((GOLDEN / deployment).glob("*.pbtxt"))
    assert len(paths) == 2 * max(1, DEPLOYMENTS[deployment])
    for path in paths:
        config = parsed(path.read_text())
        (form, gpu) = re.fullmatch(r"default_(image|tensor)_gpu(\d)", config.name).groups()  # type: ignore[union-attr]
        (signature,) = (one for one in tiny.signatures.signatures.values() if one.form == form)
        (given,) = config.input
        (taken,) = signature.inputs
        assert given.name == taken.tensor
        preprocessing = signature.preprocessing
        pixels = (preprocessing.height, preprocessing.width, 3) if preprocessing else taken.shape[1:]
        dtype = "uint8" if preprocessing else taken.dtype
        assert (tuple(given.dims), given.data_type) == (pixels, pb.DataType.Value(TYPES[dtype].config))
        answers = [spec for spec in signature.outputs if spec.kind == "tensor"]
        assert [(o.name, tuple(o.dims)) for o in config.output] == [(s.tensor, s.shape[1:]) for s in answers]
        # On a GPU requests of several clients make one batch; on a CPU that would not pay.
        assert config.max_batch_size == (128 if DEPLOYMENTS[deployment] else signature.max_batch)
        assert config.parameters["gpu"].string_value == gpu


class TestOnAGpu:
    config = tensorrt_config("default_image_gpu3", 3, IMAGE, PROFILES)

    def test_two_instances_run_every_profile_on_its_own_gpu(self) -> None:
        (group,) = self.config.instance_group
        assert (group.kind, group.count, list(group.gpus)) == (pb.ModelInstanceGroup.KIND_GPU, 2, [3])
        assert list(group.profile) == ["0", "1"]

    def test_batches_are_filled_for_a_millisecond_and_both_copies_are_pinned(self) -> None:
        batching, optimization = self.config.dynamic_batching, self.config.optimization
        assert list(batching.preferred_batch_size) == [8, 32, 128]
        assert batching.max_queue_delay_microseconds == 1000
        assert batching.default_queue_policy.timeout_action == pb.ModelQueuePolicy.REJECT
        assert optimization.input_pinned_memory.enable
        assert optimization.output_pinned_memory.enable

    def test_single_images_and_preferred_batches_have_cuda_graphs_and_are_warmed(self) -> None:
        cuda = self.config.optimization.cuda
        assert cuda.graphs
        assert [spec.batch_size for spec in cuda.graph_spec] == [1, 8, 32, 128]
        assert [warm.batch_size for warm in self.config.model_warmup] == [1, 8, 32, 128]
        for warm in self.config.model_warmup:
            assert (list(warm.inputs["image"].dims), warm.inputs["image"].random_data) == ([224, 224, 3], True)

    def test_every_cuda_graph_fits_a_profile(self) -> None:
        for spec in self.config.optimization.cuda.graph_spec:
            assert any(p.smallest <= spec.batch_size <= p.greatest for p in PROFILES)

    @pytest.mark.parametrize(("greatest", "preferred"), [(16, [8]), (32, [8, 32]), (4, [])])
    def test_batches_stay_within_the_plans(self, greatest: int, preferred: Sequence[int]) -> None:
        config = tensorrt_config("m", 0, IMAGE, (BatchProfile(1, 4, greatest),))
        assert config.max_batch_size == greatest
        assert list(config.dynamic_batching.preferred_batch_size) == preferred
        assert [warm.batch_size for warm in config.model_warmup] == [1, *preferred]
        assert list(config.instance_group[0].profile) == ["0"]

    def test_one_value_an_instance_is_reshaped_as_triton_has_no_scalars(self) -> None:
        vector, scalar = self.config.output
        assert not vector.HasField("reshape")
        assert (list(scalar.dims), scalar.HasField("reshape"), list(scalar.reshape.shape)) == ([1], True, [])

    def test_floats_are_warmed_with_zeros(self) -> None:
        graph = replace(IMAGE, inputs=(GraphTensor("x", "float32", (3,)),))
        warm = tensorrt_config("m", 0, graph, PROFILES).model_warmup[0]
        assert (warm.inputs["x"].zero_data, warm.inputs["x"].random_data) == (True, False)


@pytest.mark.parametrize("on_gpu", [True, False])
def test_a_fixed_batch_is_a_model_without_batching_whose_tensors_begin_with_it(on_gpu: bool) -> None:
    graph = replace(IMAGE, max_batch=16, fixed_batch=16)
    if on_gpu:
        config = tensorrt_config("m", 0, graph, (BatchProfile(16, 16, 16),))
        assert list(config.instance_group[0].profile) == []
    else:
        config = cpu_config("m", 0, graph, Path("int8-cpu.image.onnx"), 4)
    assert config.max_batch_size == 0
    assert not config.HasField("dynamic_batching")
    assert list(config.input[0].dims) == [16, 224, 224, 3]
    assert [list(output.dims) for output in config.output] == [[16, 1000], [16, 1]]
    assert list(config.output[1].reshape.shape) == [16]
    (warm,) = config.model_warmup
    assert (warm.batch_size, list(warm.inputs["image"].dims)) == (1, [16, 224, 224, 3])
