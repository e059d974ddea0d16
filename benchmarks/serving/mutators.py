"""Generated requests, good and bad, each with the answer that it must get.

Every mutator makes one kind of request from a random generator, so a seed and a number name a request for good.
"""

from __future__ import annotations

import base64
import gzip
import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

import contract
from benchmarks.serving import images
from benchmarks.serving.reference import Reference, Scores

MAX_BODY_BYTES: Final = 4 * 2**20
"""Limit of the VM that the requests are for; it must be told."""
BODY_TIMEOUT_S: Final = 3.0
"""Likewise."""
VALID_ONE_IN: Final = 10
_POOL: Final = 60
_HUGE: Final = 10**6
_DIGITS: Final = "9" * 5000
"""More than Python converts to a number."""
_UPGRADE: Final = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAAP__")
"""The offer of Java's HTTP client."""


@dataclass(frozen=True, slots=True)
class Expected:
    """The answer to one request: its status, for 200 the scores of each instance, otherwise a part of the error."""

    status: int
    text: str = ""
    scores: tuple[Scores, ...] = ()


@dataclass(frozen=True, slots=True)
class Case:
    """Bytes to send and the answers to expect, in order; none: the sender hangs up without waiting."""

    mutator: str
    parts: tuple[bytes, ...]
    expected: tuple[Expected, ...]
    pause_s: float = 0.0
    """Between two parts."""
    last: bool = False
    """The connection is not to be used afterwards."""


def post(body: bytes, *headers: str, path: str = contract.PREDICT_PATH, length: int | None = None) -> bytes:
    """A request with a body."""
    lines = [f"POST {path} HTTP/1.1", "Host: vm", f"Content-Length: {len(body) if length is None else length}"]
    return "\r\n".join([*lines, *headers, "", ""]).encode() + body


def chunked(body: bytes, rng: random.Random, *headers: str) -> bytes:
    """The same in chunks of random sizes."""
    lines = [f"POST {contract.PREDICT_PATH} HTTP/1.1", "Host: vm", "Transfer-Encoding: chunked"]
    pieces = ["\r\n".join([*lines, *headers, "", ""]).encode()]
    while body:
        size = rng.randint(1, max(1, len(body) // 2))
        pieces.append(b"%x\r\n%s\r\n" % (size, body[:size]))
        body = body[size:]
    return b"".join([*pieces, b"0\r\n\r\n"])


def b64(data: bytes) -> dict[str, str]:
    """As the REST API takes binary values."""
    return {"b64": base64.b64encode(data).decode()}


def dumps(document: Any) -> bytes:  # noqa: ANN401 - any JSON
    """JSON of a document."""
    return json.dumps(document).encode()


class Mutators:
    """Makes requests for an artifact whose answers are known."""

    def __init__(self, reference: Reference) -> None:
        self._reference = reference
        rng = random.Random(0)  # noqa: S311 - reproducible, not secret
        self._pool: list[tuple[bytes, Scores]] = []
        while len(self._pool) < _POOL:
            image = images.encode(images.picture(rng), rng.choice(images.KINDS), rng.randint(50, 95))
            scores = reference.of_image(image)
            assert scores is not None, "generated images are good ones"
            self._pool.append((image, scores))
        self._bad: tuple[tuple[int, Callable[[random.Random], Case]], ...] = (
            (12, self._damaged_image),
            (4, self._bomb),
            (4, self._no_image),
            (8, self._mixed),
            (8, self._not_base64),
            (4, self._wrong_type),
            (8, self._broken_json),
            (3, self._deep),
            (1, self._repeated_keys_and_deep),
            (1, self._huge_list),
            (1, self._huge_tensor),
            (4, self._wrong_document),
            (4, self._no_instances),
            (3, self._too_many),
            (6, self._wrong_tensor),
            (6, self._wrong_route),
            (3, self._wrong_header),
            (1, self._thousands_of_digits),
            (4, self._no_http),
            (1, self._long_head),
            (2, self._too_long),
            (1, self._too_long_chunked),
            (2, self._broken_chunk),
            (1, self._slow_body),
            (3, self._compressed),
            (4, self._pipelined),
            (4, self._hangs_up),
        )

    def cases(self, seed: int, count: int) -> Iterator[Case]:
        """`count` requests; every tenth is valid."""
        weights, mutators = zip(*self._bad, strict=True)
        for number in range(count):
            rng = random.Random(f"{seed}/{number}")  # noqa: S311 - as above
            if number % VALID_ONE_IN == 0:
                yield self._valid(rng)
            else:
                yield rng.choices(mutators, weights)[0](rng)

    def _good(self, rng: random.Random) -> tuple[bytes, Expected]:
        """A body that must be answered."""
        count = rng.choice((1, 1, 1, 2, rng.randint(3, 8)))
        if rng.random() < 0.2:
            tensors = [self._tensor(rng) for _ in range(count)]
            expected = Expected(200, scores=tuple(self._reference.of_tensor(one) for one in tensors))
            document: dict[str, Any] = {"signature_name": "tensor"}
            rows: list[Any] = [one.tolist() for one in tensors]
        else:
            chosen = [rng.choice(self._pool) for _ in range(count)]
            expected = Expected(200, scores=tuple(scores for _, scores in chosen))
            document = {"signature_name": "serving_default"} if rng.random() < 0.3 else {}
            rows = [b64(image) for image, _ in chosen]
        document[rng.choice(("instances", "inputs"))] = rows
        return dumps(document), expected

    def _tensor(self, rng: random.Random) -> npt.NDArray[np.float32]:
        made = np.random.default_rng(rng.randrange(2**32)).uniform(-1, 1, self._reference.pixels)
        return made.round(2).astype(np.float32)

    def _image(self, rng: random.Random) -> bytes:
        return rng.choice(self._pool)[0]

    def _valid(self, rng: random.Random) -> Case:
        body, expected = self._good(rng)
        match rng.randrange(8):
            case 0:
                return Case("valid, in chunks", (chunked(body, rng),), (expected,))
            case 1:
                wire = post(body)
                cut = rng.randrange(1, len(wire))
                return Case("valid, in two parts", (wire[:cut], wire[cut:]), (expected,), pause_s=0.05)
            case 2:
                return Case("valid, asks before it sends", (post(body, "Expect: 100-continue"),), (expected,))
            case 3:
                header = f"x-request-timeout-ms: {rng.randint(15000, 20000)}"
                return Case("valid, with a deadline", (post(body, header),), (expected,))
            case 4:
                kind = rng.choice(("text/plain", "application/x-www-form-urlencoded", "image/jpeg", "no type"))
                return Case("valid, of any type", (post(body, f"Content-Type: {kind}"),), (expected,))
            case 5:
                wire = chunked(body, rng, *_UPGRADE) if rng.random() < 0.5 else post(body, *_UPGRADE)
                return Case("valid, offers HTTP/2", (wire,), (expected,))
            case 6:
                return self._other_base64(rng)
            case _:
                return Case("valid", (post(body),), (expected,))

    def _other_base64(self, rng: random.Random) -> Case:
        image, scores = rng.choice(self._pool)
        wrapped = base64.encodebytes(image).decode()
        bare = base64.b64encode(image).decode().rstrip("=")
        name, text = rng.choice(
            (
                ("in lines", wrapped.replace("\n", rng.choice(("\n", "\r\n", "\n\t ")))),
                ("without padding", bare),
                ("in lines without padding", wrapped.rstrip("=\n")),
            )
        )
        body = dumps({"instances": [{"b64": text}]})
        return Case(f"valid, base64 {name}", (post(body),), (Expected(200, scores=(scores,)),))

    def _one_bad(self, name: str, item: Any, text: str = "instances[0]") -> Case:  # noqa: ANN401 - any JSON
        return Case(name, (post(dumps({"instances": [item]})),), (Expected(400, text),))

    def _damaged_image(self, rng: random.Random) -> Case:
        if rng.random() < 0.5:
            image, name = images.truncated(self._image(rng), rng), "truncated image"
        else:
            image, name = images.corrupted(self._image(rng), rng), "corrupt image"
        scores = self._reference.of_image(image)
        if scores is None:
            return self._one_bad(name, b64(image))
        return Case(name, (post(dumps({"instances": [b64(image)]})),), (Expected(200, scores=(scores,)),))

    def _bomb(self, rng: random.Random) -> Case:
        if rng.random() < 0.5:
            # With some sizes the decoder already finds the header impossible.
            return self._one_bad("JPEG bomb", b64(images.jpeg_bomb(rng)))
        return self._one_bad("PNG bomb", b64(images.png_bomb(rng)), "pixels in all are decoded")

    def _no_image(self, rng: random.Random) -> Case:
        image = images.no_image(rng)
        if self._reference.of_image(image) is not None:
            return self._valid(rng)
        return self._one_bad("no image", b64(image))

    def _mixed(self, rng: random.Random) -> Case:
        items: list[Any] = [b64(self._image(rng)) for _ in range(rng.randint(2, 8))]
        bad = rng.randrange(len(items))
        items[bad] = rng.choice((b64(images.no_image(rng)), b64(images.jpeg_bomb(rng)), {"b64": "!"}, 1, None, "text"))
        row = rng.choice(("instances", "inputs"))
        return Case("one bad among good", (post(dumps({row: items})),), (Expected(400, f"{row}[{bad}]"),))

    def _not_base64(self, rng: random.Random) -> Case:
        good = base64.b64encode(self._image(rng)).decode()
        at = rng.randrange(len(good) - 8)
        stranger = rng.choice("!-_é😀\0")
        cut = good.rstrip("=")[: 4 * (at // 4) + 1]
        bad = rng.choice((good[:at] + stranger + good[at:], cut, "=" + good, good[1:]))
        return self._one_bad("invalid base64", {"b64": bad})

    def _wrong_type(self, rng: random.Random) -> Case:
        inner = rng.choice((None, 1, 1.5, True, [], {}, [1], {"b64": "aa"}))
        item = rng.choice(({"b64": inner}, inner, {"b64": "AAAA", "more": 1}, {"B64": "AAAA"}))
        return Case("wrong type", (post(dumps({"instances": [item]})),), (Expected(400),))

    def _broken_json(self, rng: random.Random) -> Case:
        body = dumps({"instances": [b64(self._image(rng))]})
        at = rng.randrange(1, len(body))
        name, broken = rng.choice(
            (
                ("truncated JSON", body[:at]),
                ("empty body", b""),
                ("JSON and more", body + rng.choice((b"}", b"[]", b"x", b"\0"))),
                ("invalid UTF-8", body[:20] + rng.choice((b"\xff", b"\xc0\x80", b"\xed\xa0\x80")) + body[20:]),
                ("half a surrogate", b'{"instances": ["\\ud800"]}'),
                ("half a surrogate beside NaN", b'{"instances": ["\\ud800"], "more": NaN}'),
                ("no JSON", rng.randbytes(rng.randint(1, 300)) + b"\xff"),
                ("open string", b'{"instances": ["' + b"a" * at),
                ("control character", b'{"instances": ["\x01"]}'),
            )
        )
        return Case(name, (post(broken),), (Expected(400),))

    def _deep(self, rng: random.Random) -> Case:
        depth = rng.choice((200, 1100, 100_000))
        opening, closing = rng.choice((("[", "]"), ('{"a":', "}"), ('{"instances":[', "]}")))
        text = opening * depth + ("1" + closing * depth if rng.random() < 0.7 else "")
        body = text if opening != "[" else f'{{"instances": {text}}}'
        return Case("deep nesting", (post(body.encode()),), (Expected(400),))

    def _repeated_keys_and_deep(self, rng: random.Random) -> Case:
        depth = rng.randint(990, 1020)
        opening, closing = rng.choice((("[", "]"), ('{"a":', "}")))
        body = '{"instances": [1], "instances": ' + opening * depth + "1" + closing * depth + "}"
        return Case("repeated keys beside deep nesting", (post(body.encode()),), (Expected(400),))

    def _huge_list(self, rng: random.Random) -> Case:
        item = rng.choice((b"0", b"1", b"[]", b'""'))
        body = b'{"instances": [' + b",".join([item] * _HUGE) + b"]}"
        return Case("a million instances", (post(body),), (Expected(400),))

    def _huge_tensor(self, rng: random.Random) -> Case:
        row = b"[" + b",".join([rng.choice((b"0", b"1"))] * _HUGE) + b"]"
        body = b'{"signature_name": "tensor", "instances": [' + row + b"]}"
        return Case("an instance of a million numbers", (post(body),), (Expected(400),))

    def _wrong_document(self, rng: random.Random) -> Case:
        item = b64(self._image(rng))
        document = rng.choice(
            (
                None,
                1,
                "text",
                [item],
                {},
                {"instances": item},
                {"instances": "text"},
                {"instances": [item], "inputs": [item]},
                {"signature_name": "other", "instances": [item]},
                {"signature_name": 1, "instances": [item]},
                {"instances": [{"other_input": item}]},
                {"inputs": {"other_input": [item]}},
            )
        )
        return Case("wrong document", (post(dumps(document)),), (Expected(400),))

    def _no_instances(self, rng: random.Random) -> Case:
        document: dict[str, Any] = rng.choice(
            ({"instances": []}, {"inputs": []}, {"signature_name": "tensor", "instances": []})
        )
        return Case("empty batch", (post(dumps(document)),), (Expected(400),))

    def _too_many(self, rng: random.Random) -> Case:
        count = self._reference.image.max_batch + rng.randint(1, 100)
        body = dumps({"instances": [b64(self._image(rng)[:50])] * count})
        return Case("more than a batch", (post(body),), (Expected(400, f"{count} instances"),))

    def _wrong_tensor(self, rng: random.Random) -> Case:
        good: Any = self._tensor(rng).tolist()
        bad: Any = self._tensor(rng).tolist()
        match rng.randrange(6):
            case 0:
                bad[0][0][0] = rng.choice(("1", None, {}, [1], True))
            case 1:
                bad.pop()
            case 2:
                bad[1][1].append(0.5)
            case 3:
                bad = rng.choice((1.5, [], [[]], "text", None))
            case 4:
                bad[0][0][0] = 1e300
            case _:
                bad = [bad]
        at = rng.randrange(2)
        rows = [bad, good] if at == 0 else [good, bad]
        body = dumps({"signature_name": "tensor", "instances": rows})
        return Case("wrong tensor", (post(body),), (Expected(400),))

    def _wrong_route(self, rng: random.Random) -> Case:
        body, _ = self._good(rng)
        path, status = rng.choice(
            (
                ("/v1/models/other:predict", 404),
                ("/v1/models/default/versions/99:predict", 404),
                ("/v1/models/default:explode", 400),
                ("/" + "a" * rng.randint(1, 4000), 404),
                ("/%00%ff%2e%2e/", 404),
                ("/v1/models/default/labels", 400),
                ("/v1/models/default", 400),
                ("/healthz", 405),
                ("/v2/repository/index", 404),
            )
        )
        return Case("wrong route", (post(body, path=path),), (Expected(status),))

    def _wrong_header(self, rng: random.Random) -> Case:
        body, _ = self._good(rng)
        value = rng.choice(("0", "-1", "1.5", "soon", "", "9" * 30))
        return Case("no deadline", (post(body, f"x-request-timeout-ms: {value}"),), (Expected(400),))

    def _thousands_of_digits(self, rng: random.Random) -> Case:
        body, _ = self._good(rng)
        name, wire, text = rng.choice(
            (
                (
                    "version of 5000 digits",
                    post(body, path=f"/v1/models/default/versions/{_DIGITS}:predict"),
                    "Failed to convert version",
                ),
                (
                    "header length of 5000 digits",
                    post(body, f"Inference-Header-Content-Length: {_DIGITS}", path="/v2/models/default/infer"),
                    "must be a number of bytes",
                ),
            )
        )
        return Case(name, (wire,), (Expected(400, text),))

    def _no_http(self, rng: random.Random) -> Case:
        body, _ = self._good(rng)
        data = rng.choice(
            (
                b"\x16\x03\x01\x02\x00\x01\x00" + rng.randbytes(50),
                b"GET / HTTP/9.9\r\n\r\n",
                b"BREW /pot HTTP/1.1\r\nHost: vm\r\n\r\n",
                b"POST / HTTP/1.1\r\nno colon\r\n\r\n",
                post(body, "Transfer-Encoding: chunked"),
                post(body).replace(b"Content-Length: ", b"Content-Length: -"),
                post(body).replace(b"Content-Length: ", b"Content-Length: 1x"),
                post(body, "Content-Length: 3"),
            )
        )
        return Case("no HTTP", (data,), (Expected(400),), last=True)

    def _long_head(self, rng: random.Random) -> Case:
        lines = rng.choice((b"X-Long: " + b"a" * 2**20 + b"\r\n", b"".join(b"X-%d: 1\r\n" % n for n in range(20000))))
        return Case(
            "long head", (b"GET /healthz HTTP/1.1\r\nHost: vm\r\n" + lines + b"\r\n",), (Expected(431),), last=True
        )

    def _too_long(self, rng: random.Random) -> Case:
        declared = rng.choice((MAX_BODY_BYTES + 1, 2**31, 2**40))
        return Case("declared too long", (post(b"{" * 1000, length=declared),), (Expected(413),), last=True)

    def _too_long_chunked(self, rng: random.Random) -> Case:
        head = chunked(b"{", rng)[: -len(b"0\r\n\r\n")]
        chunk = b"%x\r\n%s\r\n" % (2**18, b" " * 2**18)
        parts = (head, *[chunk] * (MAX_BODY_BYTES // 2**18 + rng.randint(1, 4)), b"0\r\n\r\n")
        return Case("chunked too long", (b"".join(parts),), (Expected(413),))

    def _broken_chunk(self, rng: random.Random) -> Case:
        body, _ = self._good(rng)
        head = chunked(b"", rng)[: -len(b"0\r\n\r\n")]
        size = rng.choice((b"-1", b"xyz", b"fffffffffffffffff", b""))
        return Case("broken chunk", (head + size + b"\r\n" + body,), (Expected(400),), last=True)

    def _slow_body(self, rng: random.Random) -> Case:
        body, expected = self._good(rng)
        wire = post(body)
        if rng.random() < 0.5:
            size = len(wire) // 4
            parts = tuple(wire[at : at + size] for at in range(0, len(wire), size))
            return Case("slow body", parts, (expected,), pause_s=0.05)
        return Case("body that never ends", (wire[:-1],), (Expected(408),), last=True)

    def _compressed(self, rng: random.Random) -> Case:
        body, expected = self._good(rng)
        packed = gzip.compress(body, 1)
        at = rng.randrange(len(packed) // 2)
        name, data, encoding, answer = rng.choice(
            (
                ("gzip", packed, "gzip", expected),
                ("gzip, cut", packed[:at], "gzip", Expected(400)),
                ("gzip, damaged", b"\x1f\x8b\x07" + packed[3:], "gzip", Expected(400)),
                ("gzip bomb", gzip.compress(bytes(MAX_BODY_BYTES + 1), 9), "gzip", Expected(413)),
                ("unknown encoding", packed, "br", Expected(415)),
            )
        )
        return Case(name, (post(data, f"Content-Encoding: {encoding}"),), (answer,))

    def _pipelined(self, rng: random.Random) -> Case:
        requests, answers = [], []
        for _ in range(rng.randint(2, 5)):
            if rng.random() < 0.5:
                body, expected = self._good(rng)
            else:
                body, expected = b"{", Expected(400)
            requests.append(post(body))
            answers.append(expected)
        return Case("pipelined", (b"".join(requests),), tuple(answers))

    def _hangs_up(self, rng: random.Random) -> Case:
        body, _ = self._good(rng)
        wire = post(body)
        return Case("hangs up", (wire[: rng.randrange(1, len(wire) + 1)],), (), last=True)
