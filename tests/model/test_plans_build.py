"""A whole build for TensorRT with the stand-in: the artifact holds its plans, and serving picks them."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from artifact.folder import ArtifactFolder
from artifact.recipe import BuildRequest
from model.build.pipeline import build
from model.build.progress import Quiet
from serving.graphs import graphs
from serving.plans import choose
from tests.model.fake_tensorrt import FakeTensorRt
from tests.serving.stand_ins import command

REPOSITORY = Path(__file__).parents[2]


@pytest.mark.slow
def test_an_artifact_for_tensorrt_holds_plans_that_serving_takes_as_they_are(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    command(tmp_path / "bin", "nvidia-smi", 'echo "Tesla T4, 7.5"')
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    fake = FakeTensorRt()
    monkeypatch.setitem(sys.modules, "tensorrt", fake)
    request = BuildRequest(source="builtin:smoke", runtime="tensorrt", tensorrt="10.13", gpu_type="nvidia-tesla-t4")
    built = build(request, REPOSITORY, tmp_path / "artifact", Quiet()).folder
    assert fake.builders == 1
    artifact = ArtifactFolder(built.path)
    (plan,) = artifact.manifest.plans
    assert plan.folder == "plans/nvidia-tesla-t4-sm75-trt10.13.2.6"
    forms = [graph.form for graph in graphs(artifact.signatures)]
    for form in forms:
        for precision in ("int8", "fp16", "fp32"):
            assert f"{plan.folder}/{precision}.{form}.plan" in artifact.manifest.files
    choice = choose(
        artifact,
        graphs(artifact.signatures),
        compute_capability="7.5",
        tensorrt="10.13.2",
        own_plans=tmp_path / "own",
    )
    assert choice.rebuild is None
    assert all(choice.plan(form).is_file() for form in forms)
    assert [(p.smallest, p.best, p.greatest) for p in choice.profiles] == [(1, 8, 32), (32, 128, 128)]
