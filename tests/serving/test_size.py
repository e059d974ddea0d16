"""The largest request that a model can take, told before it is parsed."""

from __future__ import annotations

import math

import pytest

from artifact.signature import Signature, SignatureFile, TensorSpec
from serving.gateway.http import HttpError
from serving.gateway.json_text import parse_object
from serving.gateway.size import most_commas


def signature(*inputs: TensorSpec, max_batch: int = 4) -> SignatureFile:
    output = TensorSpec(name="y", dtype="float32", shape=(-1, 2), kind="tensor", tensor="y")
    made = Signature(form="tensor", inputs=inputs, outputs=(output,), max_batch=max_batch)
    return SignatureFile(signatures={"serving_default": made})


def tensor(shape: tuple[int, ...], dtype: str = "float32", name: str = "x") -> TensorSpec:
    return TensorSpec.model_validate({"name": name, "dtype": dtype, "shape": shape, "kind": "tensor", "tensor": name})


def test_a_full_batch_of_every_input_fits() -> None:
    limit = most_commas(signature(tensor((-1, 8, 3)), tensor((-1,), name="z")))
    body = b"[" + b",".join([b"1"] * (4 * (8 * 3 + 1))) + b"]"
    assert body.count(b",") < limit < 2000


@pytest.mark.parametrize("one", [tensor((-1, -1)), tensor((-1,), "string")])
def test_open_shapes_and_texts_have_no_such_limit(one: TensorSpec) -> None:
    assert most_commas(signature(one)) == math.inf


def test_images_have_no_commas() -> None:
    image = TensorSpec(name="image", dtype="string", shape=(-1,), kind="jpeg", tensor="image")
    assert most_commas(signature(image)) < 2000


def test_more_is_refused_unparsed() -> None:
    with pytest.raises(HttpError, match="more values than any signature takes"):
        parse_object(b"this is no JSON,,,", most_commas=2)
    with pytest.raises(HttpError, match="JSON parse error"):
        parse_object(b"this is no JSON,,,", most_commas=3)
