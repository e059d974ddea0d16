"""Plans are built as TensorRT 10 wants it: with a stand-in that refuses what the real one does."""

from __future__ import annotations

import json
import sys
import tomllib
from pathlib import Path

import onnx
import pytest

from artifact.profiles import BatchProfile, batch_profiles
from artifact.signature import Form, Preprocessing
from model.errors import BuildError
from model.export.image_form import with_image_input
from model.plan.builder import PlanBuilder
from model.plan.log import PlanLog
from model.plan.plans import LOG, PlanSources, build_plans, plan_files
from model.plan.target import COMPUTE_CAPABILITIES, Gpu, PlanTarget, plan_machine, plan_target, visible_gpus
from model.plan.tensorrt_api import TensorRt, load_tensorrt
from model.plan.timing_cache import TimingCacheFile
from model.quantise.int8 import calibrated_tensors, tensorrt_graph
from model.quantise.statistics import collect
from tests.model.fake_tensorrt import FakeTensorRt
from tests.model.nets import SIZE, images, mobile_net
from tests.serving.stand_ins import command

REPOSITORY = Path(__file__).parents[2]
T4 = PlanTarget("nvidia-tesla-t4", "7.5", "10.13.2.6")
TESLA_T4 = Gpu("Tesla T4", "7.5")
PLACE = "plans/nvidia-tesla-t4-sm75-trt10.13.2.6"
PREPROCESSING = Preprocessing(
    decoder="fast", interpolation="linear", crop_fraction=1, height=SIZE, width=SIZE, mean=(127,) * 3, std=(128,) * 3
)


@pytest.fixture(scope="module")
def graphs() -> dict[tuple[str, Form], onnx.ModelProto]:
    net = mobile_net()
    histograms = collect(net, calibrated_tensors(net), lambda: [images(8)])
    by_precision = {"fp32": net, "int8": tensorrt_graph(net, histograms, "max")}
    made: dict[tuple[str, Form], onnx.ModelProto] = {}
    for precision, graph in by_precision.items():
        made[precision, "tensor"] = graph
        made[precision, "image"] = with_image_input(graph, PREPROCESSING)
    return made


def build(sources: PlanSources, fake: TensorRt, folder: Path, target: PlanTarget = T4) -> tuple[list[str], list[float]]:
    lines: list[str] = []
    fractions: list[float] = []
    build_plans(sources, target, fake, folder, cache=folder / "cache", progress=fractions.append, line=lines.append)
    return lines, fractions


def as_module(fake: FakeTensorRt) -> TensorRt:
    module: TensorRt = fake  # type: ignore[assignment]
    return module


def test_one_builder_builds_every_precision_and_form_and_int8_comes_first(
    graphs: dict[tuple[str, Form], onnx.ModelProto], tmp_path: Path
) -> None:
    fake = FakeTensorRt()
    _, fractions = build(PlanSources(graphs), as_module(fake), tmp_path)
    assert fake.builders == 1
    flags = [plan["flags"] for plan in fake.built]
    assert flags == [["FP16", "INT8"]] * 2 + [["FP16"]] * 2 + [[]] * 2
    assert sorted(path.name for path in (tmp_path / PLACE).glob("*.plan")) == sorted(
        f"{precision}.{form}.plan" for precision in ("int8", "fp16", "fp32") for form in ("image", "tensor")
    )
    assert fractions == sorted(fractions)
    assert (fractions[0], fractions[-1]) == (0.0, 1.0)


def test_profiles_cover_one_image_to_the_greatest_batch_in_two_ranges(
    graphs: dict[tuple[str, Form], onnx.ModelProto], tmp_path: Path
) -> None:
    fake = FakeTensorRt()
    build(PlanSources(graphs), as_module(fake), tmp_path)
    shape = (SIZE, SIZE, 3)
    wanted = [{"image": tuple((n, *shape) for n in sizes)} for sizes in ((1, 8, 32), (32, 128, 128))]
    assert all(plan["profiles"] == wanted for plan in fake.built)


def test_the_profiles_of_a_model() -> None:
    assert batch_profiles(None) == (BatchProfile(1, 8, 32), BatchProfile(32, 128, 128))
    assert batch_profiles(16) == (BatchProfile(16, 16, 16),)


def test_a_profile_must_rise() -> None:
    with pytest.raises(ValueError, match="must rise from 1: 8, 4, 4"):
        BatchProfile(8, 4, 4)


def test_a_model_of_fixed_batch_has_that_batch_as_its_only_profile(
    graphs: dict[tuple[str, Form], onnx.ModelProto], tmp_path: Path
) -> None:
    fixed = {key: onnx.ModelProto.FromString(graph.SerializeToString()) for key, graph in graphs.items()}
    for graph in fixed.values():
        graph.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 16
    fake = FakeTensorRt()
    build(PlanSources(fixed, fixed_batch=16), as_module(fake), tmp_path)
    assert [len(plan["profiles"]) for plan in fake.built] == [1] * 6
    assert fake.built[0]["profiles"][0]["image"] == ((16, SIZE, SIZE, 3),) * 3


def test_a_dimension_besides_the_batch_must_be_fixed(
    graphs: dict[tuple[str, Form], onnx.ModelProto], tmp_path: Path
) -> None:
    loose = {key: onnx.ModelProto.FromString(graph.SerializeToString()) for key, graph in graphs.items()}
    for graph in loose.values():
        graph.graph.input[0].type.tensor_type.shape.dim[1].dim_param = "H"
    with pytest.raises(BuildError, match=r"int8\.image: input image has shape \[-1, -1, 16, 3\]"):
        build(PlanSources(loose), as_module(FakeTensorRt()), tmp_path)


def test_the_manifest_says_what_was_built_for_what(
    graphs: dict[tuple[str, Form], onnx.ModelProto], tmp_path: Path
) -> None:
    plans = build_plans(
        PlanSources(graphs),
        T4,
        as_module(FakeTensorRt()),
        tmp_path,
        cache=tmp_path / "cache",
        progress=lambda _: None,
        line=lambda _: None,
    )
    (plan,) = plans
    assert (plan.gpu, plan.compute_capability, plan.tensorrt, plan.folder) == (
        "nvidia-tesla-t4",
        "7.5",
        "10.13.2.6",
        PLACE,
    )
    assert plan.profiles == ((1, 8, 32), (32, 128, 128))
    names = plan_files(tmp_path, plans)
    assert len(names) == 12
    assert f"{PLACE}/int8.image.plan" in names
    summary = json.loads((tmp_path / PLACE / "int8.image.json").read_text())
    assert summary["convolutionsByPrecision"] == {"Int8": 5}
    assert summary["findings"] == []


def test_timings_are_kept_for_the_next_build(graphs: dict[tuple[str, Form], onnx.ModelProto], tmp_path: Path) -> None:
    first, second = FakeTensorRt(), FakeTensorRt()
    build(PlanSources(graphs), as_module(first), tmp_path)
    assert first.built[0]["tactics_known"] == 0
    assert first.built[1]["tactics_known"] > 0
    build(PlanSources(graphs), as_module(second), tmp_path)
    assert second.built[0]["tactics_known"] == len(graphs["int8", "image"].graph.node)


@pytest.mark.parametrize("content", [b"no cache", b'["another GPU", ["stem"]]'])
def test_timings_of_another_gpu_or_none_at_all_are_not_used(
    graphs: dict[tuple[str, Form], onnx.ModelProto], tmp_path: Path, content: bytes
) -> None:
    file = TimingCacheFile(tmp_path / "cache", T4)
    file.path.parent.mkdir()
    file.path.write_bytes(content)
    fake = FakeTensorRt()
    build(PlanSources(graphs), as_module(fake), tmp_path)
    assert fake.built[0]["tactics_known"] == 0
    assert "is not used" in (tmp_path / LOG).read_text()
    assert b"Tesla T4" in file.path.read_bytes()


def test_a_graph_that_the_parser_refuses_is_named_with_node_and_reason(tmp_path: Path) -> None:
    scale = onnx.helper.make_tensor("s", onnx.TensorProto.FLOAT, [], [0.1])
    bias = onnx.helper.make_tensor("b", onnx.TensorProto.INT32, [1], [3])
    node = onnx.helper.make_node("DequantizeLinear", ["b", "s"], ["y"], name="bias_DQ")
    value = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["N", 1])
    graph = onnx.helper.make_model(onnx.helper.make_graph([node], "g", [value], [value], [scale, bias]))
    with pytest.raises(BuildError, match=r"does not parse int8\.tensor: node bias_DQ: input has type Int32.*tensorrt"):
        build(PlanSources({("int8", "tensor"): graph}), as_module(FakeTensorRt()), tmp_path)


def test_a_graph_that_is_not_built_is_named_with_tensorrts_own_reason_and_its_log(
    graphs: dict[tuple[str, Form], onnx.ModelProto], tmp_path: Path
) -> None:
    swapped: dict[tuple[str, Form], onnx.ModelProto] = {
        ("fp32", "tensor"): graphs["int8", "tensor"],
        ("int8", "tensor"): graphs["int8", "tensor"],
    }
    with pytest.raises(BuildError, match=rf"cannot build fp16\.tensor: Error Code 4.*INT8 builder flag.*{LOG}"):
        build(PlanSources(swapped), as_module(FakeTensorRt()), tmp_path)


def test_the_log_holds_what_tensorrt_said_but_not_every_tactic(
    graphs: dict[tuple[str, Form], onnx.ModelProto], tmp_path: Path
) -> None:
    build(PlanSources(graphs), as_module(FakeTensorRt()), tmp_path)
    text = (tmp_path / LOG).read_text()
    assert "[INFO] Engine generation completed" in text
    assert "tactic of a hundred thousand" not in text


def test_a_builder_that_does_not_start_is_an_error_with_its_reason(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="builder does not start: createInferBuilder: CUDA initialization failure"):
        PlanBuilder(as_module(FakeTensorRt(broken=True)), PlanLog(tmp_path / LOG), TimingCacheFile(tmp_path, T4))


class TestTarget:
    @staticmethod
    def target(
        wanted: str = "nvcr.io/nvidia/tritonserver:25.08-py3",
        *,
        gpu: Gpu = TESLA_T4,
        release: str = "25.08",
        gpu_type: str = "nvidia-tesla-t4",
    ) -> PlanTarget:
        return plan_target(
            as_module(FakeTensorRt()),
            wanted_tensorrt=wanted,
            wanted_gpu=gpu_type,
            environment={"NVIDIA_TENSORRT_VERSION": release} if release else {},
            gpus=(gpu,),
        )

    @pytest.mark.parametrize(
        "wanted", ["10.13", "10.13.2.6", "nvcr.io/nvidia/tritonserver:25.08-py3", "a/b:25.08-py3@sha256:00"]
    )
    def test_what_the_request_names_is_what_is_here(self, wanted: str) -> None:
        assert self.target(wanted) == T4
        assert T4.folder == PLACE

    @pytest.mark.parametrize(
        ("wanted", "match"),
        [
            ("10.1", "TensorRT here is 10.13.2.6, and 10.1 is wanted"),
            (
                "nvcr.io/nvidia/tritonserver:25.10-py3",
                "this container is release 25.08 .*tritonserver:25.10-py3 serves",
            ),
        ],
    )
    def test_another_tensorrt_is_refused(self, wanted: str, match: str) -> None:
        with pytest.raises(BuildError, match=match):
            self.target(wanted)

    def test_every_gpu_type_that_a_fleet_may_have_can_be_built_for(self) -> None:
        catalog = tomllib.loads((REPOSITORY / "components" / "data" / "catalog.toml").read_text())
        assert set(catalog["gpus"]) <= set(COMPUTE_CAPABILITIES)

    def test_another_gpu_is_refused_by_name(self) -> None:
        with pytest.raises(
            BuildError, match=r"GPU is a NVIDIA L4 of compute capability 8\.9.*nvidia-tesla-t4 \(7\.5\)"
        ):
            self.target(gpu=Gpu("NVIDIA L4", "8.9"))

    def test_an_unknown_gpu_type_is_refused_with_those_that_are_known(self) -> None:
        with pytest.raises(BuildError, match="'none' cannot be built; allowed: nvidia-tesla-t4, "):
            self.target(gpu_type="none")

    @pytest.mark.parametrize(("wanted", "release"), [("repository/image@sha256:00", "25.08"), ("a/b:25.08-py3", "")])
    def test_what_cannot_be_verified_is_said(
        self, graphs: dict[tuple[str, Form], onnx.ModelProto], tmp_path: Path, wanted: str, release: str
    ) -> None:
        target = self.target(wanted, release=release)
        assert "is not verified" in target.remark
        lines, _ = build(PlanSources(graphs), as_module(FakeTensorRt()), tmp_path, target)
        assert target.remark in lines[0]


class TestImport:
    def test_a_machine_without_tensorrt_says_where_there_is_one(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "tensorrt", None)
        with pytest.raises(BuildError, match=r"cannot be imported .*TensorRT container .*model\.builder\.container"):
            load_tensorrt()

    @pytest.mark.parametrize("version", ["11.4.0.106", "8.6.1"])
    def test_another_major_version_is_refused(self, monkeypatch: pytest.MonkeyPatch, version: str) -> None:
        monkeypatch.setitem(sys.modules, "tensorrt", FakeTensorRt(version))
        with pytest.raises(BuildError, match=rf"TensorRT here is {version}: plans are built with 10\.x"):
            load_tensorrt()

    def test_version_10_is_taken(self, monkeypatch: pytest.MonkeyPatch) -> None:
        fake = as_module(FakeTensorRt())
        monkeypatch.setitem(sys.modules, "tensorrt", fake)
        assert load_tensorrt() is fake


class TestGpus:
    @staticmethod
    def with_smi(monkeypatch: pytest.MonkeyPatch, folder: Path, script: str) -> None:
        command(folder, "nvidia-smi", script)
        monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")

    def test_nvidia_smi_names_them(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        self.with_smi(monkeypatch, tmp_path, 'echo "Tesla T4, 7.5"; echo "Tesla T4, 7.5"')
        assert visible_gpus() == (TESLA_T4, TESLA_T4)

    def test_a_driver_that_fails_is_an_error_with_its_words(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        self.with_smi(monkeypatch, tmp_path, "echo couldn\\'t communicate with the NVIDIA driver; exit 9")
        with pytest.raises(BuildError, match="nvidia-smi failed with 9: couldn't communicate"):
            visible_gpus()

    def test_a_machine_without_a_driver_is_an_error(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setenv("PATH", str(tmp_path))
        with pytest.raises(BuildError, match=r"nvidia-smi: .*a machine with a GPU, in a container that sees it"):
            visible_gpus()

    def test_a_build_asks_for_both_before_it_begins(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        self.with_smi(monkeypatch, tmp_path, 'echo "Tesla T4, 7.5"')
        fake = as_module(FakeTensorRt())
        monkeypatch.setitem(sys.modules, "tensorrt", fake)
        assert plan_machine("10.13", "nvidia-tesla-t4") == (fake, T4)

    def test_no_gpu_is_an_error(self) -> None:
        with pytest.raises(BuildError, match="nvidia-smi sees no GPU"):
            plan_target(as_module(FakeTensorRt()), wanted_tensorrt="10", wanted_gpu="nvidia-tesla-t4", gpus=())
