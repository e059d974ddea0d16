"""Open Inference Protocol v2 over HTTP, after KServe's REST description and Triton's extensions."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from artifact.signature import Signature, SignatureFile, TensorSpec
from serving.gateway import infer
from serving.gateway.http import HttpError, unavailable
from tests.model.tiny import COLOURS, SIZE, colour_jpeg, tiny_signatures
from tests.serving.conftest import SERVING, Client, Reply, b64

MODEL = "/v2/models/default"
RED = colour_jpeg("red")


def split(reply: Reply) -> tuple[Any, bytes]:
    """JSON and binary data of an answer."""
    length = int(reply.headers.get("inference-header-content-length", len(reply.body)))
    return json.loads(reply.body[:length]), reply.body[length:]


async def send(client: Client, document: Any, binary: bytes = b"", path: str = f"{MODEL}/infer") -> Reply:
    """POST to `infer`."""
    text = json.dumps(document).encode()
    headers = {"inference-header-content-length": str(len(text))} if binary else {}
    return await client.request("POST", path, text + binary, headers=headers)


def photo(**fields: Any) -> dict[str, Any]:
    """An image input."""
    return {"name": "image_bytes", "shape": [1], "datatype": "BYTES", "data": [b64(RED)]} | fields


def element(data: bytes) -> bytes:
    """One element of a BYTES tensor in binary."""
    return struct.pack("<I", len(data)) + data


async def test_metadata_of_server_and_model(client: Client) -> None:
    server = (await client.request("GET", "/v2")).json
    assert server["name"] == "tensorrt-fleet"
    assert server["version"] == "0123456789abcdef0123"
    assert "binary_tensor_data" in server["extensions"]
    for path in (MODEL, f"{MODEL}/versions/3"):
        assert (await client.request("GET", path)).json == {
            "name": "default",
            "versions": ["3"],
            "platform": "onnxruntime_onnx",
            "inputs": [{"name": "image_bytes", "datatype": "BYTES", "shape": [-1]}],
            "outputs": [
                {"name": "classes", "datatype": "INT64", "shape": [-1]},
                {"name": "probabilities", "datatype": "FP32", "shape": [-1, len(COLOURS)]},
            ],
        }


READY = ("/v2/health/ready", f"{MODEL}/ready", f"{MODEL}/versions/3/ready")


async def test_health_follows_the_supervisor(client: Client) -> None:
    for path in ("/v2/health/live", *READY):
        reply = await client.request("GET", path)
        assert (reply.status, True in reply.json.values()) == (200, True)
    client.status = replace(SERVING, serving=False, reason="draining: SIGTERM", draining=True)
    for path in READY:
        reply = await client.request("GET", path)
        assert (reply.status, reply.json["ready"]) == (400, False)
    assert (await client.request("GET", "/v2/health/live")).status == 200
    client.status = replace(SERVING, serving=False, live=False)
    assert (await client.request("GET", "/v2/health/live")).status == 400


UNREACHABLE = (
    ("POST", "/v2/repository/index"),
    ("POST", "/v2/repository/models/default/load"),
    ("POST", "/v2/repository/models/default/unload"),
    ("GET", "/v2/systemsharedmemory/status"),
    ("POST", "/v2/systemsharedmemory/region/a/register"),
    ("POST", "/v2/systemsharedmemory/unregister"),
    ("GET", "/v2/cudasharedmemory/status"),
    ("POST", "/v2/cudasharedmemory/region/a/register"),
    ("GET", "/v2/trace/setting"),
    ("POST", "/v2/trace/setting"),
    ("POST", f"{MODEL}/trace/setting"),
    ("GET", "/v2/logging"),
    ("POST", "/v2/logging"),
    ("GET", "/v2/models/stats"),
    ("GET", f"{MODEL}/stats"),
    ("GET", f"{MODEL}/config"),
    ("POST", f"{MODEL}/generate"),
    ("POST", f"{MODEL}/generate_stream"),
    ("GET", "/metrics"),
    ("GET", "/v2x"),
    ("GET", "/v2/models"),
    ("GET", "/v2/models/default_image_gpu0"),
    ("POST", "/v2/models/default_image_gpu0/infer"),
    ("GET", "/v2/models/other/ready"),
    ("GET", f"{MODEL}/versions/7"),
    ("POST", f"{MODEL}/versions/7/infer"),
)


@pytest.mark.parametrize(("method", "path"), UNREACHABLE)
async def test_the_rest_of_tritons_surface_is_not_here(client: Client, method: str, path: str) -> None:
    reply = await client.request(method, path, b"{}" if method == "POST" else b"")
    assert reply.status == 404
    assert list(reply.json) == ["error"]


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("POST", "/v2/health/live", "GET, HEAD, OPTIONS"),
        ("DELETE", MODEL, "GET, HEAD, OPTIONS"),
        ("GET", f"{MODEL}/infer", "POST, OPTIONS"),
    ],
)
async def test_another_method_is_405_and_options_tells_which(
    client: Client, method: str, path: str, allow: str
) -> None:
    reply = await client.request(method, path)
    assert (reply.status, reply.headers["allow"]) == (405, allow)
    reply = await client.request("OPTIONS", path)
    assert (reply.status, reply.headers["allow"], reply.body) == (204, allow, b"")


async def test_a_photo_in_json(client: Client) -> None:
    reply = await send(client, {"id": "42", "inputs": [photo()]})
    assert reply.headers["content-type"] == "application/json"
    assert reply.json == {
        "model_name": "default",
        "model_version": "3",
        "id": "42",
        "outputs": [
            {"name": "classes", "datatype": "INT64", "shape": [1], "data": [0]},
            {"name": "probabilities", "datatype": "FP32", "shape": [1, 8], "data": [1.0] + [0.0] * 7},
        ],
    }
    assert "server-timing" in reply.headers
    ((form, inputs),) = client.router.batches
    assert (form, inputs["image"].shape) == ("image", (1, SIZE, SIZE, 3))


async def test_photos_in_binary_answered_in_binary(client: Client) -> None:
    binary = element(RED) + element(colour_jpeg("blue"))
    document = {
        "inputs": [photo(shape=[2, 1], parameters={"binary_data_size": len(binary)}) | {"data": None}],
        "parameters": {"binary_data_output": True},
    }
    reply = await send(client, document, binary, f"{MODEL}/versions/3/infer")
    assert reply.headers["content-type"] == "application/octet-stream"
    answer, raw = split(reply)
    assert [output["parameters"]["binary_data_size"] for output in answer["outputs"]] == [16, 64]
    assert "id" not in answer
    np.testing.assert_array_equal(np.frombuffer(raw[:16], np.int64), [0, 1])
    np.testing.assert_array_equal(np.frombuffer(raw[16:], np.float32).reshape(2, 8), np.eye(8)[:2])
    pixels = client.router.batches[0][1]["image"]
    assert abs(pixels[1].mean((0, 1)) - COLOURS["blue"]).max() < 4


async def test_outputs_are_answered_as_each_is_asked_for(client: Client) -> None:
    outputs = [{"name": "probabilities", "parameters": {"binary_data": True}}, {"name": "classes"}]
    answer, raw = split(await send(client, {"inputs": [photo()], "outputs": outputs}))
    assert [output["name"] for output in answer["outputs"]] == ["probabilities", "classes"]
    assert answer["outputs"][1]["data"] == [0]
    assert len(raw) == 32


async def test_classification_answers_the_best_with_their_labels(client: Client) -> None:
    outputs = [{"name": "probabilities", "parameters": {"classification": 2}}]
    answer, _ = split(await send(client, {"inputs": [photo()], "outputs": outputs}))
    (output,) = answer["outputs"]
    assert (output["datatype"], output["shape"]) == ("BYTES", [1, 2])
    assert output["data"] == ["1.000000:0:black", "0.000000:1:white"]


async def test_a_jpeg_as_it_is_needs_no_json(client: Client) -> None:
    headers = {"inference-header-content-length": "0"}
    reply = await client.request("POST", f"{MODEL}/infer", RED, headers=headers)
    answer, raw = split(reply)
    assert reply.status == 200
    assert [output["name"] for output in answer["outputs"]] == ["classes", "probabilities"]
    assert len(raw) == 8 + 32


async def test_the_tensor_form_is_chosen_by_its_inputs_name_or_by_the_signatures(client: Client) -> None:
    pixels = np.zeros((2, SIZE, SIZE, 3), np.float32)
    given = {"name": "image", "shape": list(pixels.shape), "datatype": "FP32", "data": pixels.ravel().tolist()}
    nested = given | {"data": pixels.tolist()}
    raw: dict[str, Any] = {key: value for key, value in given.items() if key != "data"}
    raw["parameters"] = {"binary_data_size": pixels.nbytes}
    for document, binary in (
        ({"inputs": [given]}, b""),
        ({"inputs": [nested]}, b""),
        ({"inputs": [given], "parameters": {"signature_name": "tensor"}}, b""),
        ({"inputs": [raw]}, pixels.tobytes()),
    ):
        reply = await send(client, document, binary)
        assert reply.status == 200, reply.body
        form, inputs = client.router.batches[-1]
        assert form == "tensor"
        assert inputs["image"].dtype == np.float32
        assert inputs["image"].shape == pixels.shape


async def test_a_bad_photo_is_named_by_its_index(client: Client) -> None:
    reply = await send(client, {"inputs": [photo(shape=[2], data=[b64(RED), "hello"])]})
    assert reply.status == 400
    assert reply.json["error"].startswith("image_bytes[1]: not a JPEG or PNG image")


async def test_no_gpu_is_503_with_tritons_error_json(client: Client) -> None:
    client.router.refusal = unavailable("no GPU is ready")
    reply = await send(client, {"inputs": [photo()]})
    assert (reply.status, reply.json) == (503, {"error": "no GPU is ready"})


async def test_a_header_length_that_is_none_is_refused(client: Client) -> None:
    for value, text in (
        ("x", "must be a number of bytes, not 'x'"),
        ("9" * 5000, "must be a number of bytes, not '999"),
        ("9999", "is 9999, but the body has only 2 bytes"),
    ):
        headers = {"inference-header-content-length": value}
        reply = await client.request("POST", f"{MODEL}/infer", b"{}", headers=headers)
        assert reply.status == 400
        assert text in reply.json["error"]


def tensor(**fields: Any) -> dict[str, Any]:
    """An input of two numbers."""
    return {"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]} | fields


def model(*specs: TensorSpec) -> SignatureFile:
    """A model that takes tensors."""
    output = TensorSpec(name="y", dtype="float32", shape=(-1,), kind="tensor", tensor="y")
    return SignatureFile(
        signatures={"serving_default": Signature(form="tensor", inputs=specs, outputs=(output,), max_batch=4)}
    )


X = TensorSpec(name="x", dtype="float32", shape=(-1, 2), kind="tensor", tensor="x")
S = TensorSpec(name="s", dtype="string", shape=(-1,), kind="tensor", tensor="s")


ONE_INPUT = model(X)


@dataclass(frozen=True)
class Refused:
    """A request that gets 400, and part of the message."""

    error: str
    document: Any
    binary: bytes = b""
    signatures: SignatureFile = ONE_INPUT

    def __str__(self) -> str:
        return self.error


REFUSED = (
    Refused("must be a JSON object", []),
    Refused("'inputs' must be a list of objects with a name", {}),
    Refused("'inputs' must be a list of objects with a name", {"inputs": []}),
    Refused("inputs[0] must be an object with a name", {"inputs": [{}]}),
    Refused("inputs: 'x' is there twice", {"inputs": [tensor(), tensor()]}),
    Refused("takes the inputs x, not z", {"inputs": [tensor(name="z")]}),
    Refused("takes the inputs x, s, not x", {"inputs": [tensor()]}, b"", model(X, S)),
    Refused("x: datatype must be FP32, not 'FP64'", {"inputs": [tensor(datatype="FP64")]}),
    Refused("x: shape must be a list of sizes", {"inputs": [tensor(shape=[-1, 2])]}),
    Refused("x: shape must be a list of sizes", {"inputs": [tensor(shape=None)]}),
    Refused("x: expected shape [2], got [3]", {"inputs": [tensor(shape=[1, 3])]}),
    Refused("x: shape [2, 2] holds 4 elements, but data has 2", {"inputs": [tensor(shape=[2, 2])]}),
    Refused("x: data must be a list, not null", {"inputs": [tensor(data=None)]}),
    Refused("x: expected float32, got text", {"inputs": [tensor(data=["a", "b"])]}),
    Refused("x: expected float32, got true or false", {"inputs": [tensor(data=[True, 1])]}),
    Refused("0 instances given; 1 to 4 are taken", {"inputs": [tensor(shape=[0, 2], data=[])]}),
    Refused("5 instances given; 1 to 4 are taken", {"inputs": [tensor(shape=[5, 2], data=[0] * 10)]}),
    Refused("shared memory is not offered", {"inputs": [tensor(parameters={"shared_memory_region": "a"})]}),
    Refused("x: 'parameters' must be an object, not a list", {"inputs": [tensor(parameters=[])]}),
    Refused("'id' must be a string, not a number", {"id": 1, "inputs": [tensor()]}),
    Refused("no signature 'a'; it has serving_default", {"inputs": [tensor()], "parameters": {"signature_name": "a"}}),
    Refused("there is no 'z'; the signature has y", {"inputs": [tensor()], "outputs": [{"name": "z"}]}),
    Refused(
        "y: classification must be a number of classes, of an output [batch, classes]",
        {"inputs": [tensor()], "outputs": [{"name": "y", "parameters": {"classification": 1}}]},
    ),
    Refused(
        "y: shared memory is not offered",
        {"inputs": [tensor()], "outputs": [{"name": "y", "parameters": {"shared_memory_region": "a"}}]},
    ),
    Refused("binary_data_size is 9; 8 bytes", {"inputs": [tensor(parameters={"binary_data_size": 9})]}, bytes(8)),
    Refused("binary_data_size is True", {"inputs": [tensor(parameters={"binary_data_size": True})]}, bytes(8)),
    Refused("takes 8 bytes of binary data, not 4", {"inputs": [tensor(parameters={"binary_data_size": 4})]}, bytes(4)),
    Refused("4 bytes follow the last input's", {"inputs": [tensor(parameters={"binary_data_size": 8})]}, bytes(12)),
    Refused(
        "all inputs must have the same first dimension, not {'x': 1, 's': 2}",
        {"inputs": [tensor(), {"name": "s", "shape": [2], "datatype": "BYTES", "data": ["a", "b"]}]},
        b"",
        model(X, S),
    ),
    Refused(
        "s: element 1: invalid base64",
        {"inputs": [{"name": "s", "shape": [2], "datatype": "BYTES", "data": ["a", {"b64": "?"}]}]},
        b"",
        model(S),
    ),
    Refused(
        "s: shape [2] takes 2 elements, each with its length in four bytes before it; the binary data of 5 bytes",
        {"inputs": [{"name": "s", "shape": [2], "datatype": "BYTES", "parameters": {"binary_data_size": 5}}]},
        element(b"a"),
        model(S),
    ),
    Refused(
        "the binary data of 8 bytes does not divide into these",
        {"inputs": [{"name": "s", "shape": [1], "datatype": "BYTES", "parameters": {"binary_data_size": 8}}]},
        b"\xff\xff\xff\xffabcd",
        model(S),
    ),
)


@pytest.mark.parametrize("row", REFUSED, ids=str)
def test_what_is_wrong_is_named(row: Refused) -> None:
    text = json.dumps(row.document).encode()
    with pytest.raises(HttpError) as caught:
        infer.parse(text + row.binary, len(text), row.signatures)
    assert caught.value.status == 400
    assert row.error in str(caught.value)


def test_inputs_that_fit_several_signatures_need_a_name() -> None:
    one = tiny_signatures().signatures["tensor"]
    two = SignatureFile(
        signatures={"a": one, "b": one, "serving_default": tiny_signatures().signatures["serving_default"]}
    )
    document = {"inputs": [{"name": "image", "shape": [0, SIZE, SIZE, 3], "datatype": "FP32", "data": []}]}
    with pytest.raises(HttpError, match="fit the signatures a, b: name one in the request parameter signature_name"):
        infer.parse(json.dumps(document).encode(), None, two)


def test_without_a_serving_default_the_first_signature_is_it() -> None:
    name, _ = infer.default_signature(SignatureFile(signatures={"own": tiny_signatures().signatures["tensor"]}))
    assert name == "own"


@pytest.mark.parametrize(
    ("spec", "body", "expected"),
    [
        (X, np.array([1, 2], np.float32).tobytes(), [[1, 2]]),
        (S, b"any bytes", [b"any bytes"]),
    ],
)
def test_a_body_without_json_is_one_instance(spec: TensorSpec, body: bytes, expected: Any) -> None:
    request = infer.parse(body, 0, model(spec))
    assert request.count == 1
    assert request.tensors[spec.name].tolist() == expected
    assert all(wanted.binary for wanted in request.wanted)


@pytest.mark.parametrize(
    ("signatures", "error"),
    [
        (model(X, S), "only where the default signature has one input, not x, s"),
        (
            model(TensorSpec(name="x", dtype="float32", shape=(-1, -1), kind="tensor", tensor="x")),
            "does not tell the shape",
        ),
        (model(X), "x: shape [1, 2] takes 8 bytes of binary data, not 3"),
    ],
)
def test_a_body_without_json_must_be_clear(signatures: SignatureFile, error: str) -> None:
    with pytest.raises(HttpError) as caught:
        infer.parse(b"abc", 0, signatures)
    assert error in str(caught.value)
