"""Which plans a VM serves, and that one on which none fits builds its own and says so: trtexec is a stand-in."""

from __future__ import annotations

import json
import logging
import os
import sys
from dataclasses import replace
from pathlib import Path

import onnx
import pytest

from artifact.errors import ArtifactError
from artifact.folder import ArtifactFolder
from artifact.manifest import Plan
from artifact.profiles import BatchProfile
from artifact.signature import Form
from serving import plans
from serving.graphs import Graph, GraphTensor, graphs
from serving.plans import PlanChoice, PlanError, Rebuild, build, choose
from tests.model.tiny import KEY, SIZE
from tests.serving.stand_ins import command

pytestmark = pytest.mark.slow

T4_PLANS = "plans/nvidia-tesla-t4-sm75-trt10.13.2.6"


@pytest.fixture
def artifact(tiny: ArtifactFolder, tmp_path: Path) -> ArtifactFolder:
    """The tiny artifact with plans for a T4 by TensorRT 10.13.2.6: files that no GPU has seen."""
    folder = tmp_path / "artifact"
    folder.mkdir()
    for entry in tiny.path.iterdir():
        (folder / entry.name).symlink_to(entry)
    (folder / T4_PLANS).mkdir(parents=True)
    for form in ("image", "tensor"):
        (folder / T4_PLANS / f"int8.{form}.plan").write_bytes(b"a plan")
    made = ArtifactFolder(folder)
    plan = Plan(
        gpu="nvidia-tesla-t4",
        compute_capability="7.5",
        tensorrt="10.13.2.6",
        folder=T4_PLANS,
        profiles=((1, 4, 16), (16, 32, 32)),
    )
    made.manifest = tiny.manifest.model_copy(update={"runtime": "tensorrt", "plans": (plan,)})
    return made


def chosen(artifact: ArtifactFolder, capability: str = "7.5", tensorrt: str | None = "10.13.2") -> PlanChoice:
    return choose(
        artifact,
        graphs(artifact.signatures),
        compute_capability=capability,
        tensorrt=tensorrt,
        own_plans=artifact.path.parent / "own",
    )


@pytest.fixture
def trtexec(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The stand-in, on PATH."""
    script = Path(__file__).with_name("trtexec.py")
    command(tmp_path / "bin", "trtexec", f'exec {sys.executable} {script} "$@"')
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    return tmp_path / "bin" / "trtexec"


def rebuild_of(choice: PlanChoice) -> Rebuild:
    assert choice.rebuild is not None
    return choice.rebuild


class TestChoice:
    def test_the_artifacts_plans_are_served_on_their_gpu_with_their_profiles(self, artifact: ArtifactFolder) -> None:
        choice = chosen(artifact)
        assert choice.rebuild is None
        assert choice.plan("image") == artifact.path / T4_PLANS / "int8.image.plan"
        assert choice.profiles == (BatchProfile(1, 4, 16), BatchProfile(16, 32, 32))

    @pytest.mark.parametrize(
        ("capability", "tensorrt", "here"),
        [
            ("8.9", "10.13.2", "compute capability 8.9, TensorRT 10.13.2"),
            ("7.5", "10.14.1", "compute capability 7.5, TensorRT 10.14.1"),
            ("8.9", None, "compute capability 8.9, TensorRT unknown"),
        ],
    )
    def test_another_gpu_or_another_tensorrt_means_plans_of_the_vms_own(
        self, artifact: ArtifactFolder, capability: str, tensorrt: str | None, here: str
    ) -> None:
        choice = chosen(artifact, capability, tensorrt)
        rebuild = rebuild_of(choice)
        assert rebuild.why == (
            "the artifact has plans for nvidia-tesla-t4 (compute capability 7.5, TensorRT 10.13.2.6); "
            f"this VM has {here}"
        )
        assert choice.folder.is_relative_to(artifact.path.parent / "own" / KEY)
        assert choice.profiles == (BatchProfile(1, 8, 32), BatchProfile(32, 128, 128))

    def test_a_tensorrt_that_cannot_be_told_is_trusted_on_the_same_gpu_but_not_silently(
        self, artifact: ArtifactFolder, caplog: pytest.LogCaptureFixture
    ) -> None:
        assert chosen(artifact, tensorrt=None).rebuild is None
        assert "cannot tell which TensorRT is here" in caplog.text

    def test_an_artifact_without_plans_is_built_for(self, artifact: ArtifactFolder) -> None:
        artifact.manifest = artifact.manifest.model_copy(update={"plans": ()})
        assert rebuild_of(chosen(artifact)).why.startswith("the artifact has plans for nothing; this VM has")

    def test_a_plan_that_is_promised_and_missing_is_refused(self, artifact: ArtifactFolder) -> None:
        (artifact.path / T4_PLANS / "int8.tensor.plan").unlink()
        with pytest.raises(ArtifactError, match=rf"has no {T4_PLANS}/int8\.tensor\.plan"):
            chosen(artifact)

    def test_plans_of_two_tensorrts_do_not_share_a_folder(self, artifact: ArtifactFolder) -> None:
        assert chosen(artifact, "7.5", "10.14.1").folder != chosen(artifact, "7.5", "10.15.0").folder


@pytest.mark.usefixtures("trtexec")
class TestBuild:
    async def test_every_form_is_built_from_the_int8_graph_with_the_profiles(self, artifact: ArtifactFolder) -> None:
        choice = chosen(artifact, "8.9")
        said: list[str] = []
        assert await build(rebuild_of(choice), said.append) == 2
        for form in ("image", "tensor"):
            options = json.loads(choice.plan(form).read_text())
            assert options["--onnx"] == str(artifact.path / "onnx" / f"int8.{form}.onnx")
            assert json.loads(options["profiles"]) == [
                {f"--{bound}Shapes": {"image": [size, SIZE, SIZE, 3]} for bound, size in sizes.items()}
                for sizes in ({"min": 1, "opt": 8, "max": 32}, {"min": 32, "opt": 128, "max": 128})
            ]
        assert [text[:33] for text in said] == [
            "building TensorRT plan 1 of 2 her",
            "building TensorRT plan 2 of 2 her",
        ]

    async def test_it_is_said_in_the_log_with_the_reason(
        self, artifact: ArtifactFolder, caplog: pytest.LogCaptureFixture
    ) -> None:
        with caplog.at_level(logging.WARNING):
            await build(rebuild_of(chosen(artifact, "8.9")), lambda _: None)
        built = [record for record in caplog.records if record.message == "built a TensorRT plan on this VM"]
        assert len(built) == 2
        assert "this VM has compute capability 8.9" in vars(built[0])["why"]

    async def test_a_second_start_of_the_vm_builds_nothing(
        self, artifact: ArtifactFolder, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        choice = chosen(artifact, "8.9")
        await build(rebuild_of(choice), lambda _: None)
        monkeypatch.setenv("STAND_IN_FAILS", "1")
        said: list[str] = []
        assert await build(rebuild_of(choice), said.append) == 2
        assert said == []

    async def test_a_failure_names_trtexecs_reason_and_log_and_leaves_no_plan(
        self, artifact: ArtifactFolder, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("STAND_IN_FAILS", "1")
        choice = chosen(artifact, "8.9")
        with pytest.raises(PlanError, match=r"trtexec failed with 1: .*OutOfMemory.* \(log: .*int8\.image\.log\)"):
            await build(rebuild_of(choice), lambda _: None)
        assert list(choice.folder.glob("*.plan")) == []

    async def test_it_ends_at_its_deadline_and_trtexec_with_it(
        self, artifact: ArtifactFolder, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("STAND_IN_HANGS", "1")
        with pytest.raises(PlanError, match="has not built a plan within"):
            await build(rebuild_of(chosen(artifact, "8.9")), lambda _: None, deadline_s=0.2)

    async def test_a_fixed_batch_has_no_profiles(self, artifact: ArtifactFolder, tmp_path: Path) -> None:
        model = onnx.load(artifact.path / "onnx" / "int8.tensor.onnx")
        model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 4
        onnx.save(model, tmp_path / "fixed.onnx")
        (_, graph) = graphs(artifact.signatures)
        fixed = replace(graph, max_batch=4, fixed_batch=4)
        rebuild = Rebuild("a test", ((fixed, tmp_path / "fixed.onnx"),), (BatchProfile(4, 4, 4),), tmp_path / "own")
        assert await build(rebuild, lambda _: None) == 1

    async def test_the_stand_in_refuses_what_trtexec_does(
        self, artifact: ArtifactFolder, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        real = plans.command
        monkeypatch.setattr(plans, "command", lambda *a, **b: [*real(*a, **b), "--workspace=4096"])
        with pytest.raises(PlanError, match="Unknown option: --workspace=4096"):
            await build(rebuild_of(chosen(artifact, "8.9")), lambda _: None)


async def test_without_trtexec_the_reason_and_the_remedy_are_said(
    artifact: ArtifactFolder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PlanError, match=r"this VM has compute capability 8\.9.*there is no trtexec to build others"):
        await build(rebuild_of(chosen(artifact, "8.9")), lambda _: None)


def test_names_with_colons_are_quoted_and_every_input_has_a_shape() -> None:
    form: Form = "tensor"
    inputs = (GraphTensor("x:0", "float32", (4, 4)), GraphTensor("flag", "float32", ()))
    graph = Graph(form, inputs, (), 8)
    arguments = plans.command(
        "trtexec",
        Path("m.onnx"),
        Path("m.plan"),
        graph=graph,
        profiles=(BatchProfile(1, 8, 8),),
        timing_cache=Path("t"),
    )
    assert "--minShapes='x:0':1x4x4,flag:1" in arguments
    assert "--maxShapes='x:0':8x4x4,flag:8" in arguments


def test_the_library_tells_its_version(monkeypatch: pytest.MonkeyPatch) -> None:
    class Library:
        @staticmethod
        def getInferLibVersion() -> int:  # noqa: N802
            return 101302

    monkeypatch.setattr("ctypes.CDLL", lambda _: Library)
    assert plans.installed_tensorrt() == "10.13.2"


def test_a_machine_without_the_library_tells_none() -> None:
    assert plans.installed_tensorrt() is None
