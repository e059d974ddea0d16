"""Content encodings: gzip and deflate of requests, within a limit; gzip of answers where it is worth its time."""

from __future__ import annotations

import asyncio
import re
import zlib
from collections.abc import Callable, Iterable, Mapping
from http import HTTPStatus
from typing import Final

from serving.gateway.http import HttpError, bad_request, header, too_large

WORTHWHILE_BYTES: Final = 4096
"""Answers below it are sent as they are: they fit a few packets, and a thousand probabilities do not."""
_LEVEL: Final = 1
"""Scores are nearly random digits: level 6 makes them 7 % smaller than level 1 and takes three to ten times as long."""
_THREAD_BYTES: Final = 2**16
"""Half a millisecond at that level."""
_STEP_BYTES: Final = 2**20
"""Inflated at a time; other requests have their turn in between."""
_WINDOW: Final[Mapping[bytes, int]] = {b"gzip": 31, b"x-gzip": 31, b"deflate": 15}
"""zlib's `wbits` for each format (RFC 9110, 8.4.1: `deflate` is zlib's)."""
_NONE: Final = {b"", b"identity"}
_GZIP: Final = re.compile(rb"\s*(?:gzip|x-gzip|\*)\s*(?:;\s*q\s*=\s*(?P<weight>[0-9.]+)\s*)?", re.IGNORECASE)


async def inflate(body: bytes, encoding: bytes, limit: int, grown: Callable[[int], None]) -> bytes:
    """`body` without its content encoding; `grown` is told its size as it grows, and may refuse it.

    Raises:
        HttpError: 413, it is longer than `limit` bytes; 415, an encoding that is not taken; 400, it is corrupt.
    """
    name = encoding.strip().lower()
    if name in _NONE:
        return body
    if name not in _WINDOW:
        text = f"Content-Encoding {name.decode('latin-1')!r} is not taken; send gzip, deflate or none"
        raise HttpError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, text, ((b"accept-encoding", b"gzip, deflate"),))
    inflater = zlib.decompressobj(_WINDOW[name])
    chunks: list[bytes] = []
    size = 0
    rest = body
    try:
        while not inflater.eof:
            chunk = inflater.decompress(rest, min(_STEP_BYTES, limit + 1 - size))
            rest = inflater.unconsumed_tail
            if not chunk and not rest and not inflater.eof:
                raise bad_request(f"the {name.decode()} body ends too early")
            size += len(chunk)
            if size > limit:
                raise too_large(limit)
            chunks.append(chunk)
            grown(size)
            await asyncio.sleep(0)
    except zlib.error as error:
        raise bad_request(f"the body is no {name.decode()}: {error}") from error
    if inflater.unused_data:
        raise bad_request(f"{len(inflater.unused_data)} bytes follow the end of the {name.decode()} body")
    return b"".join(chunks)


def takes_gzip(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Whether a request's Accept-Encoding allows gzip (RFC 9110, 12.5.3)."""
    entries = (header(headers, b"accept-encoding") or b"").split(b",")
    matches = [match for entry in entries if (match := _GZIP.fullmatch(entry))]
    # A weight for gzip counts before one for any encoding.
    matches.sort(key=lambda match: b"*" in match[0])
    return bool(matches) and _weight(matches[0]) > 0


async def gzipped(body: bytes) -> bytes:
    """`body` as gzip; long ones in a thread, so that they hold nobody up."""
    if len(body) < _THREAD_BYTES:
        return zlib.compress(body, _LEVEL, 31)
    return await asyncio.to_thread(zlib.compress, body, _LEVEL, 31)


def _weight(match: re.Match[bytes]) -> float:
    try:
        return float(match["weight"] or 1)
    except ValueError:
        return 0.0
