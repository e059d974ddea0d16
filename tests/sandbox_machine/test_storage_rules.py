from __future__ import annotations

import base64
import hashlib
from pathlib import Path

import google_crc32c
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sandbox.storage.content import Content, split_multipart
from sandbox.storage.errors import StorageError
from sandbox.storage.preconditions import Preconditions
from sandbox.storage.uploads import Chunk, chunk


@pytest.mark.parametrize(
    ("query", "generation", "reading", "code"),
    [
        ({}, 0, False, None),
        ({"ifGenerationMatch": "0"}, 0, False, None),
        ({"ifGenerationMatch": "0"}, 7, False, 412),
        ({"ifGenerationMatch": "7"}, 7, False, None),
        ({"ifGenerationMatch": "7"}, 8, False, 412),
        ({"ifGenerationMatch": "7"}, 0, False, 412),
        ({"ifGenerationNotMatch": "0"}, 0, False, 412),
        ({"ifGenerationNotMatch": "0"}, 7, False, None),
        ({"ifGenerationNotMatch": "7"}, 7, True, 304),
        ({"ifGenerationNotMatch": "7"}, 7, False, 412),
        ({"ifMetagenerationMatch": "1"}, 7, False, None),
        ({"ifMetagenerationMatch": "2"}, 7, False, 412),
        ({"ifMetagenerationNotMatch": "1"}, 7, True, 304),
        ({"ifGenerationMatch": "7", "ifMetagenerationMatch": "2"}, 7, False, 412),
    ],
)
def test_preconditions(query: dict[str, str], generation: int, reading: bool, code: int | None) -> None:
    failure = Preconditions.of(query).failure(generation, 1 if generation else 0, reading=reading)
    assert (failure.code if failure else None) == code


@pytest.mark.parametrize("value", ["", "x", "-1", "1.5"])
def test_precondition_that_is_no_number_is_refused(value: str) -> None:
    with pytest.raises(StorageError, match="ifGenerationMatch"):
        Preconditions.of({"ifGenerationMatch": value})


@given(content=st.binary(max_size=3000) | st.just(b"\r\n--edge\r\n\r\n--edge--") | st.just(b"\n--other--\r\n"))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
def test_multipart_content_survives_whatever_it_holds(tmp_path: Path, content: bytes) -> None:
    boundary = "===edge==="
    body = (
        f'--{boundary}\r\ncontent-type: application/json; charset=UTF-8\r\n\r\n{{"name": "a"}}\r\n'
        f"--{boundary}\r\ncontent-type: image/jpeg\r\n\r\n"
    ).encode() + content
    path = tmp_path / "body"
    path.write_bytes(body + f"\r\n--{boundary}--".encode())
    metadata, content_type, found = split_multipart(path, f'multipart/related; boundary="{boundary}"')
    assert metadata == {"name": "a"}
    assert content_type == "image/jpeg"
    assert b"".join(found.blocks()) == content


@pytest.mark.parametrize(
    ("content_type", "body", "why"),
    [
        ("application/json", b"{}", "multipart/related"),
        ("multipart/related", b"--x", "boundary"),
        ("multipart/related; boundary=x", b"--x\r\n\r\n{}\r\n--x\r\n\r\ndata", "last boundary"),
        ("multipart/related; boundary=x", b"--x\r\n\r\n{}\r\n--x--", "no second part"),
        ("multipart/related; boundary=x", b"--x\r\n\r\nnot json\r\n--x\r\n\r\ndata\r\n--x--", "not JSON"),
    ],
)
def test_malformed_multipart_says_why(tmp_path: Path, content_type: str, body: bytes, why: str) -> None:
    path = tmp_path / "body"
    path.write_bytes(body)
    with pytest.raises(StorageError, match=why) as caught:
        split_multipart(path, content_type)
    assert caught.value.code == 400


def test_digests_cover_the_range_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "body"
    path.write_bytes(b"head" + b"content" + b"tail")
    crc, md5 = Content(path, 4, 11).digests()
    assert crc == base64.b64encode(google_crc32c.value(b"content").to_bytes(4, "big")).decode()
    assert md5 == base64.b64encode(hashlib.md5(b"content", usedforsecurity=False).digest()).decode()


@pytest.mark.parametrize(
    ("claims", "header"),
    [({"crc32c": "AAAAAA=="}, ""), ({"md5Hash": "AAAAAAAAAAAAAAAAAAAAAA=="}, ""), ({}, "crc32c=AAAAAA==,md5=")],
)
def test_wrong_digest_is_refused(tmp_path: Path, claims: dict[str, str], header: str) -> None:
    path = tmp_path / "body"
    path.write_bytes(b"content")
    with pytest.raises(StorageError, match="doesn't match") as caught:
        Content(path, 0, 7).check(claims, header)
    assert caught.value.code == 400


@pytest.mark.parametrize(
    ("content_range", "length", "expected"),
    [
        (None, 10, Chunk(0, 10)),
        (None, None, Chunk(0, None)),
        ("bytes 0-9/20", 10, Chunk(0, 20)),
        ("bytes 10-19/*", 10, Chunk(10, None)),
        ("bytes */20", 0, Chunk(None, 20)),
        ("bytes */*", 0, Chunk(None, None)),
    ],
)
def test_content_range(content_range: str | None, length: int | None, expected: Chunk) -> None:
    assert chunk(content_range, length) == expected


def test_bad_content_range_is_refused() -> None:
    with pytest.raises(StorageError, match="Content-Range"):
        chunk("bytes 0-9", 10)
