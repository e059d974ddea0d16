"""TensorFlow Serving's REST API v1, row by row. Each row cites what it follows.

`api_rest` is https://www.tensorflow.org/tfx/serving/api_rest, by its heading; the others are files of
github.com/tensorflow/serving below `tensorflow_serving/`.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
import pytest
import simplejpeg

from artifact.signature import DType, Signature, SignatureFile, TensorSpec
from serving.gateway import predict
from serving.gateway.http import HttpError
from tests.model.tiny import COLOURS, SIZE, colour_jpeg
from tests.serving.conftest import Client, b64

MODEL = "/v1/models/default"
JSON_TENSOR = "util/json_tensor.cc"
HANDLER = "model_servers/http_rest_api_handler.cc"
HANDLER_TEST = "model_servers/http_rest_api_handler_test.cc"
UTIL = "model_servers/http_rest_api_util.cc"
STATUS = "model_servers/get_model_status_impl.cc"
CORE = "model_servers/server_core.cc"
RED = {"instances": [b64(colour_jpeg("red"))]}
AVAILABLE = {
    "model_version_status": [
        {"version": "3", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
    ]
}


@dataclass(frozen=True)
class Route:
    """A request, and what it is answered with: `error` is part of the message, `answer` the whole document."""

    source: str
    method: str
    path: str
    status: int
    error: str = ""
    answer: Any = None
    body: Any = field(default_factory=lambda: RED)

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


ROUTES = (
    Route("api_rest, Model status API", "GET", MODEL, 200, answer=AVAILABLE),
    Route("api_rest, Model status API", "GET", f"{MODEL}/versions/3", 200, answer=AVAILABLE),
    # GetModelStatusWithModelSpec looks at the version alone, so a label changes nothing.
    Route(f"api_rest, Model status API; {STATUS}", "GET", f"{MODEL}/labels/stable", 200, answer=AVAILABLE),
    Route(STATUS, "GET", f"{MODEL}/versions/7", 404, "Could not find version 7 of model default"),
    Route(STATUS, "GET", "/v1/models/other", 404, "Could not find any versions of model other"),
    Route(f"{UTIL}: the path is matched in any case", "GET", "/V1/Models/default", 200, answer=AVAILABLE),
    Route(f"{HANDLER_TEST}, UnsupportedApiCalls", "GET", "/v1/models", 400, "Missing model name in request."),
    Route(HANDLER, "GET", "/v1/models/metadata", 404, "Could not find any versions of model metadata"),
    Route("api_rest, Model Metadata API", "GET", f"{MODEL}/metadata", 200),
    Route("api_rest, Model Metadata API", "GET", f"{MODEL}/versions/3/metadata", 200),
    Route(CORE, "GET", f"{MODEL}/labels/stable/metadata", 400, "Unrecognized servable version label: stable"),
    Route(CORE, "GET", f"{MODEL}/versions/7/metadata", 404, "Servable not found for request: Specific(default, 7)"),
    Route("api_rest, Predict API", "POST", f"{MODEL}:predict", 200),
    Route("api_rest, Predict API", "POST", f"{MODEL}/versions/3:predict", 200),
    Route(f"{HANDLER_TEST}, PredictRequestErrors", "POST", f"{MODEL}/labels/x:predict", 400, "version label: x"),
    Route(f"{HANDLER_TEST}, PredictModelNameVersionErrors", "POST", "/v1/models/foo:predict", 404, "Latest(foo)"),
    Route(f"{HANDLER_TEST}, PredictModelNameVersionErrors", "POST", f"{MODEL}/versions/50:predict", 404, "default, 50"),
    Route("servables/tensorflow/classifier.cc", "POST", f"{MODEL}:classify", 400, "Expected classification signature"),
    Route("servables/tensorflow/regressor.cc", "POST", f"{MODEL}:regress", 400, "Expected regression signature"),
    Route(CORE, "POST", "/v1/models/foo:classify", 404, "Servable not found for request: Latest(foo)"),
    Route(f"{HANDLER_TEST}, UnsupportedApiCalls", "GET", "/v1/foo", 400, "Malformed request: GET /v1/foo"),
    Route(f"{HANDLER_TEST}, UnsupportedApiCalls", "POST", "/v1/foo", 400, "Malformed request: POST /v1/foo"),
    Route(f"{HANDLER_TEST}, UnsupportedApiCalls", "GET", "/v1/models/a/b", 400, "Malformed request"),
    Route(f"{HANDLER_TEST}, UnsupportedApiCalls", "POST", "/v1/models", 400, "Malformed request"),
    Route(f"{HANDLER_TEST}, UnsupportedApiCalls", "POST", MODEL, 400, "Malformed request"),
    Route(f"{HANDLER_TEST}, UnsupportedApiCalls", "GET", f"{MODEL}:predict", 400, "Malformed request"),
    Route(f"{HANDLER_TEST}, UnsupportedApiCalls", "POST", f"{MODEL}/metadata", 400, "Malformed request"),
    Route(f"{HANDLER_TEST}, UnsupportedApiCalls", "POST", f"{MODEL}/version/3:predict", 400, "Malformed request"),
    Route(f"{HANDLER_TEST}, UnsupportedApiCalls", "POST", f"{MODEL}/versions/x:predict", 400, "Malformed request"),
    Route(
        f"{HANDLER_TEST}, UnsupportedApiCalls",
        *("POST", f"{MODEL}/versions/{2**64 - 1}:regress", 400, "Failed to convert version: 18446744073709551615"),
    ),
    Route(
        f"{HANDLER_TEST}, UnsupportedApiCalls",
        *("POST", f"{MODEL}/versions/3/labels/x:regress", 400, "Malformed request"),
    ),
    Route(HANDLER, "DELETE", MODEL, 400, "Malformed request: DELETE"),
    Route(f"{HANDLER_TEST}, PredictRequestErrors", "POST", f"{MODEL}:predict", 400, "document is empty", body=b""),
    # Ours: what HTTP asks of every server, and the labels.
    Route("RFC 9110, 9.3.2", "HEAD", MODEL, 200),
    Route("RFC 9110, 9.3.2", "HEAD", f"{MODEL}/metadata", 200),
    Route("RFC 9110, 9.3.7", "OPTIONS", f"{MODEL}:predict", 204),
    Route("RFC 9110, 9.3.7", "OPTIONS", MODEL, 204),
    Route("RFC 9110, 9.3.7", "OPTIONS", "/healthz", 204),
    Route(HANDLER, "GET", f"{MODEL}/versions/{'9' * 5000}", 400, "Failed to convert version: 999"),
    Route("docs/http-api.md", "GET", f"{MODEL}/labels", 200),
    Route("docs/http-api.md", "GET", f"{MODEL}/versions/3/labels", 200),
    Route("docs/http-api.md", "GET", "/index.html", 404, "the API is below /v1/ and /v2/"),
)


@pytest.mark.parametrize("row", ROUTES, ids=str)
async def test_a_route_is_answered_as_its_source_says(client: Client, row: Route) -> None:
    reply = await client.request(row.method, row.path, row.body if row.method == "POST" else b"")
    assert reply.status == row.status
    if row.status >= 400:
        assert list(reply.json) == ["error"]
        assert row.error in reply.json["error"]
        assert reply.headers["content-type"] == "application/json"
    if row.answer is not None:
        assert reply.json == row.answer
    if row.method == "HEAD":
        assert reply.body == b""
        assert int(reply.headers["content-length"]) > 0
    if row.method == "OPTIONS":
        assert "OPTIONS" in reply.headers["allow"]
        assert "content-length" not in reply.headers


def spec(name: str, dtype: DType, *shape: int) -> TensorSpec:
    """A tensor of a signature, its batch dimension first."""
    return TensorSpec(name=name, dtype=dtype, shape=(-1, *shape), kind="tensor", tensor=name)


def model(*inputs: TensorSpec, outputs: tuple[TensorSpec, ...] = ()) -> SignatureFile:
    """A model with these tensors under serving_default."""
    signature = Signature(form="tensor", inputs=inputs, outputs=outputs or (spec("y", "float32"),), max_batch=8)
    return SignatureFile(signatures={"serving_default": signature})


FLOATS, INTS, TEXTS, FLAGS = (model(spec("x", dtype)) for dtype in ("float32", "int32", "string", "bool"))
B64 = model(spec("b64", "string"))
PAIRS = model(spec("x", "float32", 2))
TWO = model(spec("a", "int64"), spec("b", "string"))
NAN = float("nan")


@dataclass(frozen=True)
class Taken:
    """A request that is understood, and the tensors that it holds."""

    source: str
    model: SignatureFile
    body: str
    tensors: dict[str, Any]

    def __str__(self) -> str:
        return self.body


TAKEN = (
    Taken("api_rest, row format, tensors as scalars", FLOATS, '{"instances": [1.0, 5]}', {"x": [1.0, 5.0]}),
    Taken("api_rest, row format, named", TWO, '{"instances": [{"a": 1, "b": "t"}]}', {"a": [1], "b": [b"t"]}),
    Taken("api_rest, row format", FLOATS, '{"instances": [{"x": 1}, {"x": 2}]}', {"x": [1, 2]}),
    Taken("api_rest, column format", TWO, '{"inputs": {"a": [1], "b": ["t"]}}', {"a": [1], "b": [b"t"]}),
    Taken("api_rest, column format, one input", FLOATS, '{"inputs": [1, 2]}', {"x": [1, 2]}),
    Taken("api_rest, column format", FLOATS, '{"inputs": {"x": [1, 2]}}', {"x": [1, 2]}),
    Taken(
        f"{JSON_TENSOR}, FillTensorMapFromInputsMap: other columns are passed over",
        *(FLOATS, '{"inputs": {"x": [1], "z": 9}}', {"x": [1]}),
    ),
    Taken("api_rest, Request format", FLOATS, '{"signature_name": "serving_default", "instances": [1]}', {"x": [1]}),
    Taken(f"{HANDLER}, GetInfoMap", FLOATS, '{"signature_name": "", "instances": [1]}', {"x": [1]}),
    Taken("api_rest, JSON conformance: other keys", FLOATS, '{"instances": [1], "more": {}}', {"x": [1]}),
    Taken("api_rest, Encoding binary values", TEXTS, '{"instances": [{"b64": "/w=="}]}', {"x": [b"\xff"]}),
    Taken("api_rest, Encoding binary values", TEXTS, '{"instances": [{"x": {"b64": "/w=="}}]}', {"x": [b"\xff"]}),
    Taken(
        "api_rest, Encoding binary values", TEXTS, '{"inputs": [{"b64": "/w=="}, "ä"]}', {"x": [b"\xff", "ä".encode()]}
    ),
    Taken(
        "api_rest, Encoding binary values: at any depth",
        *(model(spec("x", "string", 1, 2)), '{"instances": [[["a", {"b64": "YQ=="}]]]}', {"x": [[[b"a", b"a"]]]}),
    ),
    Taken(
        f"{JSON_TENSOR}, absl::Base64Unescape: in lines, as MIME has it",
        *(TEXTS, '{"instances": [{"b64": "YWJj\\r\\nZGU=\\n"}, {"b64": " Y Q "}]}', {"x": [b"abcde", b"a"]}),
    ),
    Taken(
        f"{JSON_TENSOR}, absl::Base64Unescape: without padding",
        *(TEXTS, '{"instances": [{"b64": "YQ"}, {"b64": "YWI"}]}', {"x": [b"a", b"ab"]}),
    ),
    Taken(
        f"{JSON_TENSOR}, IsValBase64Object: even where an input has that name",
        *(B64, '{"instances": [{"b64": "YQ=="}]}', {"b64": [b"a"]}),
    ),
    Taken(
        f"{JSON_TENSOR}, IsValBase64Object: unless it holds no string",
        *(B64, '{"instances": [{"b64": {"b64": "YQ=="}}]}', {"b64": [b"a"]}),
    ),
    Taken(f"{JSON_TENSOR}, strings are UTF-8", TEXTS, '{"instances": ["\\u00e4"]}', {"x": ["ä".encode()]}),
    Taken("api_rest, JSON conformance, NaN", PAIRS, '{"instances": [[NaN, -Infinity]]}', {"x": [[NAN, -math.inf]]}),
    Taken(
        f"{JSON_TENSOR}, kParseNanAndInfFlag: RapidJSON's other spellings",
        *(PAIRS, '{"instances": [[-NaN, Inf]]}', {"x": [[NAN, math.inf]]}),
    ),
    Taken(
        "RapidJSON: words within strings are text", TEXTS, '{"instances": ["NaN", "\\"Inf"]}', {"x": [b"NaN", b'"Inf']}
    ),
    Taken(f"{JSON_TENSOR}, FindMember: the first", FLOATS, '{"instances": [1], "instances": [2]}', {"x": [1]}),
    Taken(f"{JSON_TENSOR}, FindMember", FLOATS, '{"inputs": {"x": [1], "x": [2]}}', {"x": [1]}),
    Taken("the same where NaN is near", FLOATS, '{"instances": [NaN], "instances": [2]}', {"x": [NAN]}),
    Taken(f"{JSON_TENSOR}, a string with a colon", TEXTS, '{"instances": ["a: b", "c"]}', {"x": [b"a: b", b"c"]}),
    Taken("RapidJSON, EncodedInputStream takes a byte order mark", FLOATS, '\ufeff{"instances": [1]}', {"x": [1]}),
    Taken(f"{JSON_TENSOR}, AddValueToTensor: bool", FLAGS, '{"instances": [true, false]}', {"x": [True, False]}),
    Taken(f"{JSON_TENSOR}, IsLosslessDecimal", FLOATS, '{"instances": [16777215, 3e38]}', {"x": [16777215, 3e38]}),
)


@pytest.mark.parametrize("row", TAKEN, ids=str)
def test_a_request_is_understood_as_its_source_says(row: Taken) -> None:
    request = predict.parse(row.body.encode(), row.model)
    assert request.tensors.keys() == row.tensors.keys()
    for name, expected in row.tensors.items():
        array = request.tensors[name]
        np.testing.assert_array_equal(array, np.array(expected, array.dtype))


@dataclass(frozen=True)
class Refused:
    """A request that gets 400, and part of the message."""

    source: str
    model: SignatureFile
    body: str
    error: str

    def __str__(self) -> str:
        return self.body


REFUSED = (
    Refused(f"{HANDLER_TEST}, PredictRequestErrors", FLOATS, "instances = [1, 2]", "JSON parse error"),
    Refused(
        f"{HANDLER_TEST}, PredictRequestErrors", FLOATS, '{"instances": ["x", "y"]}', "instances[0]: expected float32"
    ),
    Refused(
        f"{HANDLER_TEST}, PredictRequestErrors", FLOATS, '{"signature_name": 100}', "'signature_name' must be a string"
    ),
    Refused(f"{HANDLER}, GetInfoMap", FLOATS, '{"signature_name": "s", "instances": [1]}', "no signature 's'"),
    Refused(f"{JSON_TENSOR}, ParseJson", FLOATS, "[1]", "must be a JSON object, not a list"),
    Refused(f"{JSON_TENSOR}, one of two keys", FLOATS, '{"inputs": [1], "instances": [1]}', "either 'instances'"),
    Refused(f"{JSON_TENSOR}, one of two keys", FLOATS, '{"input": [1]}', "either 'instances'"),
    Refused(f"{JSON_TENSOR}, FillPredictRequestFromJson", FLOATS, '{"instances": 1}', "'instances' must be a list"),
    Refused(f"{JSON_TENSOR}, FillPredictRequestFromJson", FLOATS, '{"instances": []}', "at least one instance"),
    Refused(
        f"{JSON_TENSOR}, a plain list with two inputs", TWO, '{"instances": [1]}', "must be an object with the inputs"
    ),
    Refused(f"{JSON_TENSOR}, keys must be the inputs", TWO, '{"instances": [{"a": 1}]}', "an object with 'a', 'b'"),
    Refused(
        f"{JSON_TENSOR}, keys must be the inputs", FLOATS, '{"instances": [{"x": 1, "z": 2}]}', "an object with 'x'"
    ),
    Refused(f"{JSON_TENSOR}, objects or none", FLOATS, '{"instances": [{"x": 1}, 2]}', "instances[1]"),
    Refused(f"{JSON_TENSOR}, objects or none", FLOATS, '{"instances": [1, {"x": 2}]}', "instances[1]"),
    Refused(
        f"{JSON_TENSOR}, objects or none", B64, '{"instances": [{"b64": {"b64": ""}}, {"b64": ""}]}', "instances[1]"
    ),
    Refused(f"{JSON_TENSOR}, Missing named input", TWO, '{"inputs": {"a": [1]}}', "an object with 'a', 'b'"),
    Refused(f"{JSON_TENSOR}, plain values with two inputs", TWO, '{"inputs": [1]}', "an object with 'a', 'b'"),
    Refused(f"{JSON_TENSOR}, AddValueToTensor: IsNumber", FLOATS, '{"instances": [true]}', "got true or false"),
    Refused(f"{JSON_TENSOR}, AddValueToTensor: IsNumber", FLOATS, '{"instances": [null]}', "objects or null"),
    Refused(f"{JSON_TENSOR}, AddValueToTensor: IsInt", INTS, '{"instances": [1.0]}', "numbers with a fraction"),
    Refused(f"{JSON_TENSOR}, AddValueToTensor: IsInt", INTS, '{"instances": [2147483648]}', "out of range"),
    Refused(f"{JSON_TENSOR}, AddValueToTensor: IsBool", FLAGS, '{"instances": [1]}', "expected bool, got numbers"),
    Refused(f"{JSON_TENSOR}, AddValueToTensor: IsString", TEXTS, '{"instances": [1]}', "got a number"),
    Refused(f"{JSON_TENSOR}, IsLosslessDecimal", FLOATS, '{"instances": [16777216]}', "cannot hold exactly"),
    Refused(f"{JSON_TENSOR}, IsLosslessDecimal", PAIRS, '{"instances": [[0.5, -16777217]]}', "cannot hold exactly"),
    Refused(f"{JSON_TENSOR}, IsLosslessDecimal", FLOATS, '{"instances": [4e38]}', "out of range"),
    Refused(
        f"{JSON_TENSOR}, IsValBase64Object: the only key", TEXTS, '{"instances": [{"b64": "", "x": 1}]}', "instances[0]"
    ),
    Refused(f"{JSON_TENSOR}, IsValBase64Object: a string", TEXTS, '{"instances": [{"b64": 1}]}', "b64"),
    Refused(f"{JSON_TENSOR}, Unable to base64 decode", TEXTS, '{"instances": [{"b64": "?"}]}', "invalid base64"),
    Refused(
        f"{JSON_TENSOR}, absl::Base64Unescape: six bits over", TEXTS, '{"instances": [{"b64": "YWJjZ"}]}', "base64"
    ),
    Refused(
        f"{JSON_TENSOR}, absl::Base64Unescape: padding must fit", TEXTS, '{"instances": [{"b64": "YQ="}]}', "base64"
    ),
    Refused(f"{JSON_TENSOR}, absl::Base64Unescape: ASCII", TEXTS, '{"instances": [{"b64": "YQ\\u00a0"}]}', "base64"),
    Refused(
        f"{JSON_TENSOR}, FillTensorProto: base64 of numbers", FLOATS, '{"instances": [{"b64": ""}]}', "expected float32"
    ),
    Refused(f"{JSON_TENSOR}, FillTensorProto: level", PAIRS, '{"instances": [[1, [2]]]}', "regular nested list"),
    Refused(
        f"{JSON_TENSOR}, Expecting tensor size", PAIRS, '{"instances": [[1, 2], [1]]}', "instances[1]: expected shape"
    ),
    Refused("RapidJSON: one document", FLOATS, '{"instances": [1]} {}', "JSON parse error"),
    Refused("RapidJSON: half a surrogate pair", TEXTS, '{"instances": ["\\ud800"]}', "JSON parse error"),
    Refused("the same where NaN is near", TEXTS, '{"instances": ["\\ud800"], "x": NaN}', "surrogates not allowed"),
    Refused(
        "nesting that one parser takes and the other does not",
        *(FLOATS, '{"a": 1, "a": 2, "instances": ' + "[" * 1000 + "]" * 1000 + "}", "recursion"),
    ),
    Refused("the error behind NaN is told, not NaN", FLOATS, '{"instances": [NaN, 1,]}', "line 1 column 23"),
    Refused("RapidJSON: no trailing comma", FLOATS, '{"instances": [NaN,]}', "JSON parse error"),
)


@pytest.mark.parametrize("row", REFUSED, ids=str)
def test_a_request_is_refused_as_its_source_says(row: Refused) -> None:
    with pytest.raises(HttpError) as caught:
        predict.parse(row.body.encode(), row.model)
    assert caught.value.status == 400
    assert row.error in str(caught.value)


@dataclass(frozen=True)
class Answered:
    """What a graph gave, and the JSON that the client gets."""

    source: str
    body: str
    outputs: tuple[TensorSpec, ...]
    arrays: dict[str, Any]
    answer: str

    def __str__(self) -> str:
        return self.answer


ONE, BOTH = (spec("y", "float32", 2),), (spec("y", "float32", 2), spec("n", "int64"))
ROW, COLUMN = '{"instances": [1, 2]}', '{"inputs": [1, 2]}'
ANSWERED = (
    Answered(
        "api_rest, row format, one output", ROW, ONE, {"y": [[1, 2], [3, 0.5]]}, '{"predictions":[[1.0,2.0],[3.0,0.5]]}'
    ),
    Answered(
        "api_rest, row format, named outputs",
        *(ROW, BOTH, {"y": [[1, 2], [3, 4]], "n": [[5], [6]]}),
        '{"predictions":[{"y":[1.0,2.0],"n":5},{"y":[3.0,4.0],"n":6}]}',
    ),
    Answered(
        "api_rest, column format, one output", COLUMN, ONE, {"y": [[1, 2], [3, 4]]}, '{"outputs":[[1.0,2.0],[3.0,4.0]]}'
    ),
    Answered(
        "api_rest, column format, named outputs",
        *(COLUMN, BOTH, {"y": [[1, 2], [3, 4]], "n": [[5], [6]]}),
        '{"outputs":{"y":[[1.0,2.0],[3.0,4.0]],"n":[5,6]}}',
    ),
    Answered(
        f"{JSON_TENSOR}, WriteDecimal: the shortest decimal, .0 for whole numbers",
        *(ROW, ONE, {"y": [[0.1, 1], [1e-7, 9e15]]}),
        '{"predictions":[[0.1,1.0],[1e-7,9e+15]]}',
    ),
    Answered(
        f"{JSON_TENSOR}, WriteDecimal: NaN, Infinity",
        *(ROW, ONE, {"y": [[NAN, 0.1], [math.inf, -math.inf]]}),
        '{"predictions":[[NaN,0.1],[Infinity,-Infinity]]}',
    ),
    Answered(
        f"{JSON_TENSOR}, WriteDecimal, in column format and beside another output",
        *(COLUMN, BOTH, {"y": [[NAN, 0.1], [1, 2]], "n": [[5], [6]]}),
        '{"outputs":{"y":[[NaN,0.1],[1.0,2.0]],"n":[5,6]}}',
    ),
    Answered(
        "a scalar NaN beside another output",
        *(ROW, (spec("y", "float32"), spec("n", "int64")), {"y": [[NAN], [1]], "n": [[5], [6]]}),
        '{"predictions":[{"y":NaN,"n":5},{"y":1.0,"n":6}]}',
    ),
    Answered(
        "float16 and float64, as WriteDecimal",
        *(ROW, (spec("y", "float16"), spec("n", "float64")), {"y": [[0.5], [NAN]], "n": [[0.1], [2]]}),
        '{"predictions":[{"y":0.5,"n":0.1},{"y":NaN,"n":2.0}]}',
    ),
    Answered(
        "AddSingleValueAndAdvance: bool",
        ROW,
        (spec("y", "bool"),),
        {"y": [[True], [False]]},
        '{"predictions":[true,false]}',
    ),
    Answered(
        "api_rest, Encoding binary values: the suffix _bytes",
        *(
            ROW,
            (spec("y_bytes", "string"), spec("y", "string")),
            {"y_bytes": [[b"a"], [b"\xff"]], "y": [[b"a"], [b"b"]]},
        ),
        '{"predictions":[{"y_bytes":{"b64":"YQ=="},"y":"a"},{"y_bytes":{"b64":"/w=="},"y":"b"}]}',
    ),
)


@pytest.mark.parametrize("row", ANSWERED, ids=str)
def test_an_answer_is_written_as_its_source_says(row: Answered) -> None:
    signatures = model(spec("x", "float32"), outputs=row.outputs)
    types = {"string": np.object_}
    arrays = {
        one.name: np.array(row.arrays[one.name], types.get(one.dtype, one.dtype)).reshape(2, *(one.shape[1:] or (1,)))
        for one in row.outputs
    }
    body = predict.answer(predict.parse(row.body.encode(), signatures), arrays)
    assert body.decode() == row.answer + "\n"


async def test_metadata_is_getmodelmetadatas_json(client: Client) -> None:
    """api_rest, Model Metadata API; its names and strings are those of testdata/..._metadata.json."""
    document = (await client.request("GET", f"{MODEL}/metadata")).json
    assert document["model_spec"] == {"name": "default", "signature_name": "", "version": "3"}
    tensor = document["metadata"]["signature_def"]["signature_def"]["tensor"]
    assert tensor["method_name"] == "tensorflow/serving/predict"
    assert tensor["inputs"]["image"] == {
        "dtype": "DT_FLOAT",
        "tensor_shape": {
            "dim": [{"size": str(size), "name": ""} for size in (-1, SIZE, SIZE, 3)],
            "unknown_rank": False,
        },
        "name": "image",
    }
    assert tensor["outputs"]["classes"]["dtype"] == "DT_INT64"


@pytest.mark.parametrize("kind", ["application/json", "text/plain", "application/x-www-form-urlencoded", ""])
async def test_any_content_type_is_taken(client: Client, kind: str) -> None:
    """http_server.cc reads the body whatever its type; curl -d says it is a form."""
    assert (await client.predict(RED, headers={"content-type": kind})).status == 200


async def test_the_error_of_a_model_that_is_not_served_is_json(client: Client) -> None:
    reply = await client.request("GET", "/v1/models/o%22ther")
    assert json.loads(reply.body) == {"error": "Could not find any versions of model o%22ther"}


async def test_a_batch_of_photos_answers_every_class(client: Client) -> None:
    reply = await client.predict({"inputs": [b64(colour_jpeg("red"))] * 3})
    assert reply.json["outputs"]["classes"] == [0, 1, 2]
    assert [len(row) for row in reply.json["outputs"]["probabilities"]] == [len(COLOURS)] * 3


def encodings(colour: tuple[int, int, int]) -> dict[str, bytes]:
    """A plain picture in every encoding that is taken."""
    pixels = np.full((48, 64, 3), colour, np.uint8)
    blue_first = np.ascontiguousarray(pixels[..., ::-1])
    no_black = np.full(pixels.shape[:2], 255, np.uint8)
    return {
        "JPEG": bytes(cv2.imencode(".jpg", blue_first)[1]),
        "progressive JPEG": bytes(cv2.imencode(".jpg", blue_first, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1]),
        "CMYK JPEG": bytes(simplejpeg.encode_jpeg(np.dstack([pixels, no_black]), 95, "CMYK")),
        "PNG": bytes(cv2.imencode(".png", blue_first)[1]),
        "PNG with transparency": bytes(cv2.imencode(".png", np.dstack([blue_first, no_black]))[1]),
        "greyscale JPEG": bytes(simplejpeg.encode_jpeg(np.full((48, 64, 1), 200, np.uint8), 95, "GRAY")),
        "greyscale PNG": bytes(cv2.imencode(".png", np.full((48, 64), 200, np.uint8))[1]),
    }


async def test_pictures_are_taken_in_every_encoding_and_at_any_size(client: Client) -> None:
    """api_rest, Encoding binary values: what the bytes are is the model's business, so here the preprocessing's."""
    pictures = encodings((250, 120, 10))
    reply = await client.predict({"instances": [b64(data) for data in pictures.values()]})
    assert reply.status == 200, reply.body
    ((_, inputs),) = client.router.batches
    for name, pixels in zip(pictures, inputs["image"], strict=True):
        expected = (200, 200, 200) if "greyscale" in name else (250, 120, 10)
        assert abs(pixels.mean((0, 1)) - expected).max() < 4, name
