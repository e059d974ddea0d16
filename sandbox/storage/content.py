"""Bytes on their way into an object: spooled to disk, with the digests that Cloud Storage checks."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import Any

import google_crc32c

from sandbox.storage.errors import StorageError, bad_request

_BLOCK_BYTES = 1 << 20
_HEADER_BYTES = 1 << 16
"""More than the metadata part of any multipart upload."""
_HEADERS_END = re.compile(rb"(?:\A|\r?\n)\r?\n")


@dataclass(frozen=True, slots=True)
class Content:
    """A range of a file that holds an object's bytes."""

    path: Path
    start: int
    end: int

    def blocks(self) -> Iterator[bytes]:
        """The bytes, block by block."""
        with self.path.open("rb") as file:
            file.seek(self.start)
            rest = self.end - self.start
            while rest and (block := file.read(min(rest, _BLOCK_BYTES))):
                yield block
                rest -= len(block)

    def digests(self) -> tuple[str, str]:
        """crc32c and MD5, base64 as the API gives them."""
        crc = 0
        md5 = hashlib.md5(usedforsecurity=False)
        for block in self.blocks():
            crc = google_crc32c.extend(crc, block)
            md5.update(block)
        return base64.b64encode(crc.to_bytes(4, "big")).decode(), base64.b64encode(md5.digest()).decode()

    def check(self, resource: Mapping[str, Any], hash_header: str) -> None:
        """Compare with what the client says in its metadata or in X-Goog-Hash; raises StorageError (400)."""
        claimed = {"crc32c": resource.get("crc32c"), "md5": resource.get("md5Hash")}
        for claim in filter(None, (part.strip() for part in hash_header.split(","))):
            name, _, value = claim.partition("=")
            claimed[name] = value
        if not any(claimed.values()):
            return
        for name, actual in zip(("crc32c", "md5"), self.digests(), strict=True):
            wanted = claimed.get(name)
            if wanted and wanted != actual:
                label = {"crc32c": "CRC32C", "md5": "MD5 hash"}[name]
                raise bad_request(f'Provided {label} "{wanted}" doesn\'t match calculated {label} "{actual}".')


async def spool(blocks: AsyncIterator[bytes], path: Path) -> int:
    """Append what arrives to a file; the number of bytes."""
    count = 0
    with path.open("ab") as file:
        async for block in blocks:
            file.write(block)
            count += len(block)
    return count


def split_multipart(path: Path, content_type: str) -> tuple[dict[str, Any], str, Content]:
    """Metadata, content type and content of a `multipart/related` upload. Raises StorageError (400)."""
    boundary = _boundary(content_type)
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(_HEADER_BYTES)
        file.seek(max(0, size - len(boundary) - 8))
        tail_start, tail = file.tell(), file.read()
    opening = re.match(rb"\r?\n?--" + re.escape(boundary) + rb"[ \t]*\r?\n", head)
    end = tail.rfind(b"\r\n--" + boundary + b"--")
    if end < 0:
        end = tail.rfind(b"\n--" + boundary + b"--")
    if opening is None or end < 0:
        raise _malformed("its first and last boundary are not where its Content-Type says")
    second = re.search(rb"\r?\n--" + re.escape(boundary) + rb"[ \t]*\r?\n", head[opening.end() :])
    if second is None:
        raise _malformed("it has no second part")
    metadata_part = head[opening.end() : opening.end() + second.start()]
    after = opening.end() + second.end()
    headers_end = _HEADERS_END.search(head[after:])
    if headers_end is None:
        raise _malformed("its second part has no end of headers")
    headers = head[after : after + headers_end.start()].decode("latin-1")
    declared = re.search(r"(?im)^content-type:\s*(.+?)\s*$", headers)
    try:
        metadata = json.loads(_HEADERS_END.split(metadata_part, maxsplit=1)[1])
    except (IndexError, ValueError):
        raise _malformed("its first part is not JSON") from None
    content = Content(path, after + headers_end.end(), tail_start + end)
    return metadata, declared.group(1) if declared else "", content


def _boundary(content_type: str) -> bytes:
    header = Message()
    header["Content-Type"] = content_type
    boundary = header.get_param("boundary")
    if header.get_content_type() != "multipart/related" or not isinstance(boundary, str):
        raise _malformed("its Content-Type is not multipart/related with a boundary")
    return boundary.encode()


def _malformed(why: str) -> StorageError:
    return bad_request(f"Malformed multipart body: {why}.")
