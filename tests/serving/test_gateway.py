"""Routes, codes and headers of the HTTP API, with a stand-in for the GPUs."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import simplejpeg

from serving.gateway.http import unavailable
from tests.model.tiny import COLOURS, SIZE, colour_jpeg
from tests.serving.conftest import SERVING, Client, b64

MODEL = "/v1/models/default"
RED = {"instances": [b64(colour_jpeg("red"))]}


async def test_a_photo_is_decoded_and_classified(client: Client) -> None:
    reply = await client.predict(RED, headers={"content-type": "application/x-www-form-urlencoded"})
    assert reply.status == 200
    assert reply.json["predictions"][0]["classes"] == 0
    assert len(reply.json["predictions"][0]["probabilities"]) == len(COLOURS)
    ((form, inputs),) = client.router.batches
    assert form == "image"
    assert inputs["image"].shape == (1, SIZE, SIZE, 3)
    assert inputs["image"].dtype == np.uint8
    assert abs(inputs["image"][0].mean((0, 1)) - COLOURS["red"]).max() < 4


async def test_images_keep_their_order_in_a_batch(client: Client) -> None:
    names = ["blue", "white", "black", "green"]
    await client.predict({"instances": [b64(colour_jpeg(name)) for name in names]})
    ((_, inputs),) = client.router.batches
    for pixels, name in zip(inputs["image"], names, strict=True):
        assert abs(pixels.mean((0, 1)) - COLOURS[name]).max() < 4


async def test_every_answer_names_its_vm_and_artifact(client: Client) -> None:
    for reply in (await client.predict(RED), await client.predict(b"{"), await client.request("GET", "/nothing")):
        assert reply.headers["x-served-by"] == "vm-1"
        assert reply.headers["x-model-key"] == "0123456789abcdef0123"
        assert int(reply.headers["content-length"]) == len(reply.body)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", MODEL, 200),
        ("HEAD", MODEL, 200),
        ("GET", f"{MODEL}/versions/3", 200),
        ("GET", f"{MODEL}/metadata", 200),
        ("GET", f"{MODEL}/versions/3/metadata", 200),
        ("GET", f"{MODEL}/labels", 200),
        ("GET", "/healthz", 200),
        ("GET", f"{MODEL}/versions/2", 404),
        ("GET", "/v1/models/other", 404),
        ("GET", "/", 404),
        ("GET", "/v1/models", 400),
        ("GET", f"{MODEL}/", 400),
        ("GET", "/v2/health/ready", 200),
        ("POST", "/v2/repository/index", 404),
        ("POST", "/v1/models/other:predict", 404),
        ("POST", f"{MODEL}/versions/2:predict", 404),
        ("GET", f"{MODEL}:predict", 400),
        ("POST", MODEL, 400),
        ("DELETE", "/healthz", 405),
    ],
)
async def test_routes(client: Client, method: str, path: str, status: int) -> None:
    reply = await client.request(method, path)
    assert reply.status == status
    if status >= 400:
        assert set(reply.json) == {"error"}
    if status == 405:
        assert reply.headers["allow"]
    if method == "HEAD":
        assert reply.body == b""


async def test_status_is_tensorflow_servings(client: Client) -> None:
    assert (await client.request("GET", MODEL)).json == {
        "model_version_status": [
            {"version": "3", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
        ]
    }


async def test_metadata_describes_the_signatures(client: Client) -> None:
    document = (await client.request("GET", f"{MODEL}/metadata")).json
    assert document["model_spec"] == {"name": "default", "signature_name": "", "version": "3"}
    signatures = document["metadata"]["signature_def"]["signature_def"]
    assert signatures["serving_default"]["inputs"]["image_bytes"]["dtype"] == "DT_STRING"
    dims = signatures["tensor"]["inputs"]["image"]["tensor_shape"]["dim"]
    assert [dim["size"] for dim in dims] == ["-1", str(SIZE), str(SIZE), "3"]
    assert signatures["tensor"]["method_name"] == "tensorflow/serving/predict"


async def test_labels_are_lines(client: Client) -> None:
    reply = await client.request("GET", f"{MODEL}/labels")
    assert reply.body.decode().splitlines() == list(COLOURS)
    assert reply.headers["content-type"].startswith("text/plain")


@pytest.mark.parametrize(
    ("changes", "health", "liveness"),
    [
        ({}, 200, 200),
        ({"serving": False, "state": "LOADING", "reason": "default_image_gpu1: no"}, 503, 200),
        ({"serving": False, "live": False, "reason": "3 of 4 GPUs are visible"}, 503, 503),
    ],
)
async def test_health_and_liveness_follow_the_supervisor(
    client: Client, changes: dict[str, Any], health: int, liveness: int
) -> None:
    client.status = replace(SERVING, **changes)
    reply = await client.request("GET", MODEL)
    assert reply.status == health
    assert (await client.request("GET", "/healthz")).status == liveness
    if health == 503:
        assert reply.json["error"] == changes["reason"]


async def test_a_draining_vm_serves_on_but_closes_connections(client: Client) -> None:
    assert "connection" not in (await client.predict(RED)).headers
    client.status = replace(SERVING, serving=False, draining=True, state="UNLOADING", reason="draining: SIGTERM")
    reply = await client.predict(RED)
    assert reply.status == 200
    assert reply.headers["connection"] == "close"
    assert (await client.request("GET", MODEL)).status == 503


async def test_no_gpu_is_503_with_the_reason(client: Client) -> None:
    client.router.refusal = unavailable("Triton: starting")
    reply = await client.predict(RED)
    assert (reply.status, reply.json) == (503, {"error": "Triton: starting"})


@pytest.mark.parametrize(
    ("image", "text"),
    [
        (b"", "the image is empty"),
        (b"GIF89a", "not a JPEG or PNG image"),
        (colour_jpeg("red")[:200], "JPEG"),
        (b"\xff\xd8\xff\xe0" + b"\0" * 100, "JPEG"),
    ],
)
async def test_a_bad_image_is_named_by_its_index(client: Client, image: bytes, text: str) -> None:
    reply = await client.predict({"instances": [b64(colour_jpeg("red")), b64(image)]})
    assert reply.status == 400
    assert reply.json["error"].startswith("instances[1]: ")
    assert text in reply.json["error"]
    assert not client.router.batches


async def test_a_decompression_bomb_is_refused_by_its_header(client: Client) -> None:
    tiny = bytearray(simplejpeg.encode_jpeg(np.zeros((8, 8, 3), np.uint8), 50))
    frame = tiny.index(b"\xff\xc0")
    tiny[frame + 5 : frame + 9] = b"\x7f\x00\x7f\x00"
    reply = await client.predict({"instances": [b64(bytes(tiny))]})
    assert reply.status == 400
    assert "32512 x 32512 pixels" in reply.json["error"]


async def test_text_where_an_image_belongs_is_no_image(client: Client) -> None:
    reply = await client.predict({"instances": ["hello"]})
    assert reply.status == 400
    assert "instances[0]: not a JPEG or PNG" in reply.json["error"]


async def test_a_body_above_the_limit_is_413_declared_or_not(client: Client) -> None:
    for headers in ({}, {"content-length": ""}):
        reply = await client.predict(b"x" * (2**20 + 1), headers=headers)
        assert reply.status == 413
        assert "1048576 bytes" in reply.json["error"]
    assert client.admission.images == client.admission.bytes == 0


async def test_a_full_gateway_refuses_with_429_and_keeps_the_connection(client: Client) -> None:
    with client.admission.admit() as place:
        place.grow(64)
        reply = await client.predict(RED)
    assert reply.status == 429
    assert reply.headers["retry-after"] == "1"
    assert "connection" not in reply.headers
    assert (await client.predict(RED)).status == 200


async def test_a_full_gateway_does_not_even_read_the_body(client: Client) -> None:
    with client.admission.admit() as place:
        place.grow(64)
        assert (await client.predict(b"no JSON at all")).status == 429
    assert (await client.predict(b"no JSON at all")).status == 400


async def test_too_many_bytes_at_once_are_429(client: Client) -> None:
    with client.admission.admit() as place:
        place.hold(2**20)
        assert (await client.predict(RED)).status == 429
    assert (await client.predict(RED)).status == 200


async def test_too_many_images_at_once_are_429_and_leave_no_trace(client: Client) -> None:
    with client.admission.admit() as place:
        place.grow(60)
        assert (await client.predict({"instances": [b64(colour_jpeg("red"))] * 8})).status == 429
        assert (await client.predict(RED)).status == 200
    assert client.admission.images == client.admission.bytes == 0


async def test_a_client_that_leaves_frees_its_place(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    cancelled = asyncio.Event()

    async def endless(*_: Any) -> Any:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    monkeypatch.setattr(client.router, "infer", endless)
    reply = await client.predict(RED, leaves=True)
    assert reply.status == 0
    assert client.admission.images == 0


async def test_a_fault_of_ours_is_500_without_details(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*_: Any) -> Any:
        raise ZeroDivisionError("secret")

    monkeypatch.setattr(client.router, "infer", broken)
    reply = await client.predict(RED)
    assert reply.status == 500
    assert b"secret" not in reply.body
