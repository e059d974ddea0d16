"""TensorRT-RTX takes our graphs on a CPU and fuses them; a badly placed one is flagged."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from artifact.folder import ArtifactFolder
from artifact.signature import Preprocessing
from model.__main__ import main
from model.errors import BuildError
from model.export.half import half_graph
from model.export.image_form import with_image_input
from model.plan import fusion
from model.plan.fusion import ARCHITECTURES, FusionUnavailableError, check, unavailable
from model.quantise.int8 import calibrated_tensors, tensorrt_graph
from model.quantise.statistics import collect
from tests.model.nets import SIZE, images, mobile_net, two_branch_net

pytestmark = pytest.mark.slow

PREPROCESSING = Preprocessing(
    decoder="fast", interpolation="linear", crop_fraction=1, height=SIZE, width=SIZE, mean=(127,) * 3, std=(128,) * 3
)
NETS = {"mobile": mobile_net, "two branches": two_branch_net}
WELL_FUSED = {"mobile": 4, "two branches": 2}
"""Kernels with bias, activation and one quantisation: of the expansion, depthwise, stem and head; of stem and first.

The second branch's ReLU is the net's output and stays float.
"""
needs_rtx = pytest.mark.skipif(bool(unavailable()), reason=unavailable() or "TensorRT-RTX is here")


def int8(net: onnx.ModelProto) -> onnx.ModelProto:
    return tensorrt_graph(net, collect(net, calibrated_tensors(net), lambda: [images(8)]), "mse")


def planted(graph: onnx.ModelProto, tensor: str, consumer: str) -> onnx.ModelProto:
    """The graph with a pair between a convolution and its activation."""
    made = onnx.ModelProto.FromString(graph.SerializeToString())
    made.graph.initializer.append(numpy_helper.from_array(np.float32(0.05), "planted_scale"))
    made.graph.initializer.append(numpy_helper.from_array(np.int8(0), "planted_zero"))
    parameters = ["planted_scale", "planted_zero"]
    pair = [
        helper.make_node("QuantizeLinear", [tensor, *parameters], ["planted_q"], name="planted_Q"),
        helper.make_node("DequantizeLinear", ["planted_q", *parameters], ["planted_dq"], name="planted_DQ"),
    ]
    (position,) = (index for index, node in enumerate(made.graph.node) if node.name == consumer)
    made.graph.node[position].input[0] = "planted_dq"
    nodes = [*made.graph.node[:position], *pair, *made.graph.node[position:]]
    del made.graph.node[:]
    made.graph.node.extend(nodes)
    onnx.checker.check_model(made)
    return made


@needs_rtx
@pytest.mark.parametrize("name", NETS)
def test_int8_graphs_build_and_every_activation_is_fused_with_one_quantisation(name: str) -> None:
    results = check(int8(NETS[name]()))
    assert tuple(result.architecture for result in results) == ARCHITECTURES
    for result in results:
        assert result.findings == ()
        assert result.fused == WELL_FUSED[name]
        assert result.plan_bytes > 100_000


@needs_rtx
@pytest.mark.parametrize("name", NETS)
def test_fp16_graphs_build_and_quantise_nothing(name: str) -> None:
    for result in check(half_graph(NETS[name]())):
        assert (result.findings, result.quantising) == ((), 0)


@needs_rtx
def test_pixels_go_into_the_graph_without_a_pass_of_their_own() -> None:
    for result in check(with_image_input(int8(mobile_net()), PREPROCESSING)):
        assert result.findings == ()
        assert any(kernel.startswith("Cast") and "RounCast" in kernel for kernel in result.kernels)


@needs_rtx
@pytest.mark.parametrize(
    ("name", "tensor", "consumer"), [("mobile", "expand_out", "expand_act"), ("two branches", "first_out", "first_act")]
)
def test_a_pair_between_a_convolution_and_its_activation_is_flagged(name: str, tensor: str, consumer: str) -> None:
    for result in check(planted(int8(NETS[name]()), tensor, consumer)):
        (finding,) = result.findings
        assert finding.endswith("(1x): quantised between a convolution and its activation")
        assert result.fused == WELL_FUSED[name] - 1


@needs_rtx
def test_two_pairs_in_a_row_are_flagged() -> None:
    graph = int8(two_branch_net())
    # Of the pair behind the stem's activation another one is made, of another scale.
    (position,) = (i for i, node in enumerate(graph.graph.node) if node.name == "stem_act_out_Q")
    consumer = graph.graph.node[position].name
    for result in check(planted(graph, "stem_act_out", consumer)):
        assert any(finding.endswith("quantised twice with nothing between") for finding in result.findings)


@needs_rtx
def test_a_graph_that_tensorrt_refuses_is_an_error_with_its_reason() -> None:
    graph = int8(mobile_net())
    for tensor in graph.graph.initializer:
        if tensor.name == "expand_act_out_zero":
            tensor.CopyFrom(numpy_helper.from_array(np.int8(3), tensor.name))
    with pytest.raises(BuildError, match=r"TensorRT-RTX does not (parse|build) it"):
        check(graph)


@needs_rtx
def test_inspect_checks_a_graph_and_its_exit_status_tells(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = int8(two_branch_net())
    onnx.save(good, tmp_path / "good.onnx")
    onnx.save(planted(good, "first_out", "first_act"), tmp_path / "bad.onnx")
    assert main(["inspect", str(tmp_path / "good.onnx"), "--fusion"]) == 0
    assert "SM86: TensorRT-RTX builds it" in capsys.readouterr().out
    assert main(["inspect", str(tmp_path / "bad.onnx"), "--fusion", "--json"]) == 1
    fusion = json.loads(capsys.readouterr().out)["fusion"]
    assert [len(result["findings"]) for result in fusion] == [1, 1]


@needs_rtx
@pytest.mark.slow
@pytest.mark.parametrize("precision", ["int8", "fp16"])
def test_the_real_efficientnet_lite0_is_well_fused(real_artifact: ArtifactFolder, precision: str) -> None:
    for result in check(real_artifact.path / "onnx" / f"{precision}.image.onnx"):
        assert result.findings == ()
        # 49 convolutions, 33 of them with an activation; equal ones share a kernel.
        assert (result.fused >= 15) if precision == "int8" else (result.quantising == 0)


def test_where_it_cannot_run_the_reason_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    with pytest.raises(FusionUnavailableError, match="for Linux on x86-64, and this is Linux on aarch64"):
        check(Path("nothing.onnx"))


def test_without_its_package_the_reason_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    monkeypatch.setitem(sys.modules, "tensorrt_rtx_libs", None)
    assert "TensorRT-RTX is not installed" in fusion.unavailable()
