"""The engine inspector's answer is read: precision of each convolution, and what stands between them.

Of the files in recorded/, two are written by hand in the inspector's form and two come from a GPU; they say so
themselves.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from model.errors import BuildError
from model.plan.inspection import parse_layers, summarise

RECORDED = Path(__file__).parent / "recorded"
GOOD = (RECORDED / "int8-good.inspector.json").read_text()
BAD = (RECORDED / "int8-bad.inspector.json").read_text()


def test_a_well_fused_engine_has_every_convolution_in_int8_and_no_finding() -> None:
    summary = summarise(parse_layers(GOOD), int8=True, nodes=("conv1", "conv2", "conv3", "shortcut"))
    assert summary.layers == 9
    assert summary.precisions() == {"Int8": 4}
    assert summary.findings == ()
    assert summary.kinds["CaskConvolution: Int8+Int8 > Int8"] == 1
    assert summary.kinds["Reformat: Int8 > FP32"] == 1


def test_every_detour_and_every_convolution_in_floats_is_a_finding() -> None:
    summary = summarise(parse_layers(BAD), int8=True, nodes=("conv1", "conv2", "conv3", "conv4", "conv5"))
    assert summary.precisions() == {"Int8": 2, "FP16": 1}
    assert [finding.partition(":")[0] for finding in summary.findings] == [
        "PWN(PWN(conv1_out_Q, conv1_out_DQ), relu1)",
        "Reformatting CopyNode for Input Tensor 0 to conv3 + relu3",
        "conv3 + relu3",
        "conv4",
        "conv5",
    ]
    apart, reformat, half, inside, missing = summary.findings
    assert "apart from conv1_grid_Q + conv1, which hands it FP32" in apart
    assert "a reformat (Int8 to FP16) between conv2_grid_Q + conv2 + relu2 and conv3 + relu3" in reformat
    assert half.endswith("a convolution in FP16, not Int8")
    assert "inside Myelin {ForeignNode[conv4...probabilities]}" in inside
    assert missing.endswith("in no layer that the inspector shows")


def test_a_convolution_that_is_kept_in_floats_on_purpose_is_no_finding() -> None:
    summary = summarise(parse_layers(BAD), int8=True, kept_float=("conv3",))
    assert not any(finding.startswith("conv3 + relu3:") for finding in summary.findings)


def test_an_engine_that_is_not_int8_has_no_findings() -> None:
    summary = summarise(parse_layers(BAD), int8=False, nodes=("conv5",))
    assert summary.findings == ()
    assert summary.precisions() == {"Int8": 2, "FP16": 1}


def test_an_inspector_that_names_no_nodes_is_not_taken_for_one_that_lost_convolutions() -> None:
    document = json.loads(GOOD)
    for layer in document["Layers"]:
        layer["Metadata"] = ""
    (finding,) = summarise(parse_layers(json.dumps(document)), int8=True, nodes=("conv1", "conv2")).findings
    assert finding.startswith("the inspector names no ONNX nodes")


def test_each_profile_is_looked_at_and_the_worse_precision_counts() -> None:
    document = json.loads(GOOD)
    second = json.loads(GOOD)["Layers"]
    for layer in second:
        layer["Name"] += " [profile 1]"
        for tensor in (*layer["Inputs"], *layer["Outputs"]):
            tensor["Name"] += " [profile 1]"
    second[3]["Inputs"][0]["Format/Datatype"] = "Row major linear FP32"
    document["Layers"] += second
    summary = summarise(parse_layers(json.dumps(document)), int8=True)
    assert summary.precisions() == {"Int8": 3, "FP32": 1}
    assert summary.findings == ("conv2_grid_Q + conv2 + relu2: a convolution in FP32, not Int8",)


@pytest.mark.parametrize(
    ("document", "match"),
    [
        ('{"Layers": ["conv1 + relu1"]}', "layer names only: build with detailed"),
        ("not json", "not understood: JSONDecodeError"),
        ('{"layers": []}', "not understood: KeyError"),
    ],
)
def test_an_answer_that_tells_too_little_is_an_error(document: str, match: str) -> None:
    with pytest.raises(BuildError, match=match):
        parse_layers(document)


def test_a_real_engine_of_resnet50_has_every_convolution_in_int8_and_no_finding() -> None:
    recorded = (RECORDED / "resnet50.tensorrt-8.6.1-h100.inspector.json").read_text()
    summary = summarise(parse_layers(recorded), int8=True)
    assert summary.precisions() == {"Int8": 53}
    assert summary.findings == ()


def test_a_real_engine_whose_trunk_is_float_has_its_reformats_found() -> None:
    recorded = (RECORDED / "resnet50v2.tensorrt-8.6.1-h100.inspector.json").read_text()
    summary = summarise(parse_layers(recorded), int8=True)
    assert summary.precisions() == {"Int8": 53}
    assert len(summary.findings) == 19
    assert "Conv_7_out_DQ: a reformat (Int8 to FP16) between Conv_7_w_grid" in summary.findings[0]
