"""The JSON of `:predict`, after tensorflow_serving/util/json_tensor.cc and the REST API's documentation."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from artifact.signature import DType, Signature, SignatureFile, TensorSpec
from serving.gateway import predict
from serving.gateway.http import HttpError
from serving.gateway.size import most_commas
from tests.model.tiny import SIZE, colour_jpeg, tiny_signatures
from tests.serving.conftest import b64


def signature_of(*inputs: TensorSpec, outputs: tuple[TensorSpec, ...] | None = None) -> SignatureFile:
    """A model with one tensor signature."""
    answer = outputs or (TensorSpec(name="y", dtype="float32", shape=(-1, 2), kind="tensor", tensor="y"),)
    return SignatureFile(
        signatures={"serving_default": Signature(form="tensor", inputs=inputs, outputs=answer, max_batch=4)}
    )


def numbers(name: str = "x", dtype: DType = "float32", shape: tuple[int, ...] = (-1, 2)) -> TensorSpec:
    """A tensor input."""
    return TensorSpec(name=name, dtype=dtype, shape=shape, kind="tensor", tensor=f"{name}:0")


def parse(document: Any, signatures: SignatureFile) -> predict.Predict:
    return predict.parse(json.dumps(document).encode(), signatures)


def refusal(document: Any, signatures: SignatureFile) -> str:
    """The text of the 400 that the request gets."""
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    with pytest.raises(HttpError) as caught:
        predict.parse(body, signatures, most_commas(signatures))
    assert caught.value.status == 400
    return str(caught.value)


JPEG = colour_jpeg("red")


@pytest.mark.parametrize(
    "document",
    [
        {"instances": [b64(JPEG)]},
        {"instances": [{"image_bytes": b64(JPEG)}]},
        {"signature_name": "serving_default", "instances": [b64(JPEG)]},
        {"signature_name": "", "instances": [b64(JPEG)]},
        {"inputs": [b64(JPEG)]},
        {"inputs": {"image_bytes": [b64(JPEG)]}},
    ],
)
def test_every_spelling_of_one_image_is_the_same_image(document: Any, signatures: SignatureFile) -> None:
    request = parse(document, signatures)
    assert request.images == {"image_bytes": [JPEG]}
    assert request.count == 1
    assert request.layout == ("inputs" if "inputs" in document else "instances")


def test_a_tensor_signature_takes_nested_lists(signatures: SignatureFile) -> None:
    pixels = np.linspace(-1, 1, SIZE * SIZE * 3).reshape(SIZE, SIZE, 3)
    request = parse({"signature_name": "tensor", "instances": [pixels.tolist(), pixels.tolist()]}, signatures)
    assert request.tensors["image"].dtype == np.float32
    assert request.tensors["image"].shape == (2, SIZE, SIZE, 3)
    np.testing.assert_allclose(request.tensors["image"][1], pixels, rtol=1e-6)


def test_several_inputs_are_named_in_both_forms() -> None:
    two = signature_of(numbers("a"), numbers("b", "int64", (-1,)))
    rows = parse({"instances": [{"a": [1, 2], "b": 3}, {"a": [4, 5], "b": 6}]}, two)
    columns = parse({"inputs": {"a": [[1, 2], [4, 5]], "b": [3, 6]}}, two)
    for request in (rows, columns):
        np.testing.assert_array_equal(request.tensors["a"], np.array([[1, 2], [4, 5]], np.float32))
        np.testing.assert_array_equal(request.tensors["b"], np.array([3, 6]))


def test_strings_are_text_or_base64_at_any_depth() -> None:
    words = signature_of(numbers("words", "string", (-1, 2)))
    request = parse({"instances": [["ä", b64(b"\x00\xff")], ["", "b"]]}, words)
    assert request.tensors["words"].tolist() == [["ä".encode(), b"\x00\xff"], [b"", b"b"]]


def test_nan_and_infinity_are_numbers_here() -> None:
    request = predict.parse(b'{"instances": [[NaN, -Infinity]]}', signature_of(numbers()))
    assert math.isnan(request.tensors["x"][0, 0])
    assert request.tensors["x"][0, 1] == -math.inf


@pytest.mark.parametrize(
    ("document", "text"),
    [
        (b"", "document is empty"),
        (b"{", "JSON parse error"),
        (b'{"instances": [NaN', "JSON parse error"),
        (b"\xff\xfe", "JSON parse error"),
        (b"[" * 100_000, "JSON parse error"),
        ([], "must be a JSON object, not a list"),
        ({}, "either 'instances' (row form) or 'inputs' (column form)"),
        ({"instances": [b64(JPEG)], "inputs": []}, "either 'instances' (row form) or 'inputs' (column form)"),
        ({"instances": {}}, "'instances' must be a list, not an object"),
        ({"instances": []}, "at least one instance is needed"),
        ({"inputs": []}, "at least one instance is needed"),
        ({"instances": [b64(b"")] * 33}, "33 instances given, at most 32 are taken"),
        ({"signature_name": 1, "instances": []}, "'signature_name' must be a string, not a number"),
        ({"signature_name": "no", "instances": []}, "no signature 'no'; it has serving_default, tensor"),
        ({"instances": [b64(JPEG), 7]}, 'instances[1]: expected {"b64": "<base64>"}, got a number'),
        ({"instances": [b64(JPEG), {"b64": "§"}]}, "instances[1]: invalid base64"),
        ({"instances": [{"b64": "AAAAA"}]}, "instances[0]: invalid base64"),
        ({"instances": [{"b64": "AAA!A"}]}, "instances[0]: invalid base64"),
        ({"instances": [{"b64": 1}]}, "instances[0]"),
        ({"instances": [{"picture": b64(JPEG)}]}, "instances[0]: expected an object with 'image_bytes', got an object"),
        ({"instances": [{"image_bytes": b64(JPEG), "x": 1}]}, "instances[0]: expected an object with 'image_bytes'"),
        ({"instances": [{"image_bytes": b64(JPEG)}, b64(JPEG)]}, "instances[1]: expected an object with 'image_bytes'"),
        ({"inputs": b64(JPEG)}, "inputs: image_bytes must be a list"),
        ({"inputs": {"picture": []}}, "inputs: expected an object with 'image_bytes', got an object with 'picture'"),
    ],
)
def test_what_is_wrong_is_named(document: Any, text: str, signatures: SignatureFile) -> None:
    assert text in refusal(document, signatures)


@pytest.mark.parametrize(
    ("dtype", "instance", "text"),
    [
        ("float32", [1], "instances[1]: expected shape [2], got [1]"),
        ("float32", [[1, 2]], "instances[1]: expected shape [2], got [1, 2]"),
        ("float32", [1, [2]], "instances[1]: expected a regular nested list of float32"),
        ("float32", [1, "2"], "instances[1]: expected float32, got text"),
        ("float32", [1, None], "instances[1]: expected float32, got objects or null"),
        ("float32", [True, False], "instances[1]: expected float32, got true or false"),
        ("float32", [1, True], "instances[1]: expected float32, got true or false"),
        ("float32", [1, 1e39], "instances[1]: expected float32, got numbers out of range"),
        ("float32", [1, {"b64": ""}], "instances[1]: expected float32, got objects or null"),
        ("int32", [1, 2.5], "instances[1]: expected int32, got numbers with a fraction"),
        ("int32", [1, 2**31], "instances[1]: expected int32 from -2147483648 to 2147483647"),
        ("uint8", [1, -1], "instances[1]: expected uint8 from 0 to 255"),
        ("int64", [1, 2**70], "instances[1]: expected int64"),
        ("bool", [1, 0], "instances[1]: expected bool, got numbers"),
        ("string", [["a"], "b"], "instances[1]: string: expected"),
    ],
)
def test_a_bad_tensor_is_named_by_its_index(dtype: DType, instance: Any, text: str) -> None:
    good: Any = {"bool": [True, False], "string": ["a", "b"]}.get(dtype, [1, 2])
    assert text in refusal({"instances": [good, instance]}, signature_of(numbers(dtype=dtype)))


def test_rows_of_unequal_length_are_refused() -> None:
    free = signature_of(numbers(shape=(-1, -1)))
    assert "same shape" in refusal({"instances": [[1, 2], [3]]}, free)
    two = signature_of(numbers("a"), numbers("b", "int64", (-1,)))
    assert "same number of rows" in refusal({"inputs": {"a": [[1, 2]], "b": [3, 6]}}, two)


def test_a_million_instances_are_refused_unread() -> None:
    body = b'{"instances":[' + b"0," * 1_000_000 + b"0]}"
    assert "more values than any signature takes" in refusal(body, signature_of(numbers()))
    assert "1000001 instances given, at most 4" in refusal(body, signature_of(numbers(shape=(-1, -1))))


@given(
    st.lists(st.tuples(st.floats(width=32, allow_nan=False), st.integers(-(2**31), 2**31 - 1)), min_size=1, max_size=4)
)
def test_numbers_arrive_unchanged(rows: list[tuple[float, int]]) -> None:
    two = signature_of(numbers("f", shape=(-1,)), numbers("i", "int32", (-1,)))
    body = json.dumps({"instances": [{"f": f, "i": i} for f, i in rows]}).encode()
    request = predict.parse(body, two)
    assert request.tensors["f"].tolist() == [f for f, _ in rows]
    assert request.tensors["i"].tolist() == [i for _, i in rows]


def answered(document: Any, signatures: SignatureFile, **outputs: Any) -> Any:
    """The answer's JSON for a graph that gave `outputs`."""
    return json.loads(predict.answer(parse(document, signatures), outputs))


def test_row_form_answers_an_object_an_instance() -> None:
    probabilities = np.array([[0.25, 0.5, 0.25], [0.75, 0.125, 0.125]], np.float32)
    answer = answered({"instances": [b64(JPEG)] * 2}, tiny_signatures(), probabilities=probabilities)
    assert answer == {
        "predictions": [
            {"classes": 1, "probabilities": [0.25, 0.5, 0.25]},
            {"classes": 0, "probabilities": [0.75, 0.125, 0.125]},
        ]
    }


def test_column_form_answers_a_list_an_output() -> None:
    probabilities = np.array([[0.25, 0.75]], np.float32)
    answer = answered({"inputs": [b64(JPEG)]}, tiny_signatures(), probabilities=probabilities)
    assert answer == {"outputs": {"classes": [1], "probabilities": [[0.25, 0.75]]}}


def test_a_lone_output_is_not_wrapped() -> None:
    lone = signature_of(numbers())
    y = np.array([[1.5, 2.5]], np.float32)
    assert answered({"instances": [[1, 2]]}, lone, y=y) == {"predictions": [[1.5, 2.5]]}
    assert answered({"inputs": [[1, 2]]}, lone, y=y) == {"outputs": [[1.5, 2.5]]}


def test_one_value_an_instance_is_a_number() -> None:
    scalar = signature_of(
        numbers(), outputs=(TensorSpec(name="y", dtype="float32", shape=(-1,), kind="tensor", tensor="y"),)
    )
    assert answered({"instances": [[1, 2]]}, scalar, y=np.array([[1.5]], np.float32)) == {"predictions": [1.5]}


def test_strings_whose_name_ends_in_bytes_are_base64() -> None:
    outputs = tuple(
        TensorSpec(name=name, dtype="string", shape=(-1, 1), kind="tensor", tensor=name) for name in ("a", "a_bytes")
    )
    value = np.array([[b"\xc3\xa4"]], np.object_)
    answer = answered({"instances": [[1, 2]]}, signature_of(numbers(), outputs=outputs), a=value, a_bytes=value)
    assert answer == {"predictions": [{"a": ["ä"], "a_bytes": [{"b64": "w6Q="}]}]}


def test_nan_is_answered_as_nan() -> None:
    answer = answered({"instances": [[1, 2]]}, signature_of(numbers()), y=np.array([[np.nan, np.inf]], np.float32))
    assert math.isnan(answer["predictions"][0][0])
    assert answer["predictions"][0][1] == math.inf


def test_probabilities_are_written_as_short_as_float32_allows() -> None:
    body = predict.answer(
        parse({"instances": [b64(JPEG)]}, tiny_signatures()), {"probabilities": np.array([[0.1, 0.2]], np.float32)}
    )
    assert b"[0.1,0.2]" in body
