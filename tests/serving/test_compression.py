"""gzip of requests, within a limit, and of answers."""

from __future__ import annotations

import gzip
import json
import zlib

import numpy as np
import pytest

from serving.gateway import compression
from serving.gateway.compression import WORTHWHILE_BYTES, takes_gzip
from tests.model.tiny import colour_jpeg
from tests.serving.conftest import Client, b64

RED = json.dumps({"instances": [b64(colour_jpeg("red"))]}).encode()


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("gzip", gzip.compress(RED)),
        ("GZIP", gzip.compress(RED)),
        ("x-gzip", gzip.compress(RED)),
        ("deflate", zlib.compress(RED)),
        ("identity", RED),
        ("", RED),
    ],
)
async def test_a_compressed_request_is_the_same_request(client: Client, encoding: str, body: bytes) -> None:
    reply = await client.predict(body, headers={"content-encoding": encoding})
    assert (reply.status, reply.json["predictions"][0]["classes"]) == (200, 0)


@pytest.mark.parametrize(
    ("encoding", "body", "status", "error"),
    [
        ("br", RED, 415, "Content-Encoding 'br' is not taken; send gzip, deflate or none"),
        ("gzip, gzip", gzip.compress(gzip.compress(RED)), 415, "is not taken"),
        ("gzip", RED, 400, "the body is no gzip"),
        ("deflate", gzip.compress(RED), 400, "the body is no deflate"),
        ("gzip", gzip.compress(RED)[:-10], 400, "ends too early"),
        ("gzip", b"", 400, "ends too early"),
        ("gzip", gzip.compress(RED) + b"more", 400, "4 bytes follow the end"),
        ("gzip", gzip.compress(b" " * (2**20 + 1)), 413, "larger than 1048576 bytes"),
        ("gzip", gzip.compress(b"\0" * 2**28), 413, "larger than 1048576 bytes"),
    ],
)
async def test_what_cannot_be_inflated_is_refused(
    client: Client, encoding: str, body: bytes, status: int, error: str
) -> None:
    reply = await client.predict(body, headers={"content-encoding": encoding})
    assert reply.status == status
    assert error in reply.json["error"]
    if status == 415:
        assert reply.headers["accept-encoding"] == "gzip, deflate"
    assert client.admission.images == client.admission.bytes == 0


async def test_a_bomb_is_inflated_no_further_than_its_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compression, "_STEP_BYTES", 1000)
    sizes: list[int] = []
    with pytest.raises(Exception, match="larger than 5000 bytes"):
        await compression.inflate(gzip.compress(b"\0" * 10**6), b"gzip", 5000, sizes.append)
    assert sizes == [1000, 2000, 3000, 4000, 5000]


async def test_an_inflated_body_counts_with_its_whole_size() -> None:
    held: list[int] = []
    content = gzip.compress(b"[" + b" " * 100_000 + b"]")
    assert await compression.inflate(content, b"gzip", 2**20, held.append) == gzip.decompress(content)
    assert held[-1] == 100_002


@pytest.mark.parametrize(
    ("accepts", "taken"),
    [
        ("gzip", True),
        ("gzip, deflate, br", True),
        ("br;q=1.0, GZIP;q=0.5", True),
        ("*", True),
        ("*;q=0, gzip", True),
        ("gzip;q=0, *", False),
        ("gzip;q=0.000", False),
        ("gzip;q=a", False),
        ("br", False),
        ("identity", False),
        ("", False),
    ],
)
def test_accept_encoding_is_read_as_rfc_9110_says(accepts: str, taken: bool) -> None:
    assert takes_gzip([(b"host", b"x"), (b"accept-encoding", accepts.encode())]) is taken


async def test_an_answer_is_gzipped_where_it_is_long_and_the_client_takes_it(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def many(*_: object) -> object:
        return {"probabilities": np.random.default_rng(0).random((1, 1000), np.float32)}

    short = await client.predict(RED, headers={"accept-encoding": "gzip"})
    assert "content-encoding" not in short.headers
    monkeypatch.setattr(client.router, "infer", many)
    plain = await client.predict(RED)
    assert len(plain.body) > WORTHWHILE_BYTES
    assert "content-encoding" not in plain.headers
    assert plain.headers["vary"] == "accept-encoding"
    packed = await client.predict(RED, headers={"accept-encoding": "gzip"})
    assert packed.headers["content-encoding"] == "gzip"
    assert int(packed.headers["content-length"]) == len(packed.body) < len(plain.body) * 0.6
    assert gzip.decompress(packed.body) == plain.body
