"""From a request's body to its answer: admitted, read, understood, decoded, inferred and encoded."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import Executor
from contextlib import suppress
from functools import partial
from typing import Any, Protocol, TypeVar

import numpy as np

from artifact.preprocessing import ImageError, UInt8Image, load_image
from artifact.signature import Preprocessing
from serving.gateway.admission import Admission, Admitted, overloaded
from serving.gateway.batch import Batch
from serving.gateway.body import Body
from serving.gateway.compression import inflate
from serving.gateway.deadlines import Deadlines, patience_s
from serving.gateway.http import (
    Answer,
    DisconnectedError,
    Headers,
    HttpError,
    bad_request,
    header,
    late,
    too_large,
)
from serving.gateway.router import Router
from serving.gateway.trace import Trace
from serving.tensors import Array

B = TypeVar("B", bound=Batch)


class Dialect(Protocol[B]):
    """How a protocol asks and is answered."""

    def parse(self, headers: Headers, body: bytes) -> B:
        """Understand a request.

        Raises:
            HttpError: 400.
        """

    def encode(self, request: B, outputs: Mapping[str, Array]) -> Answer:
        """The answer, from the graph's outputs [count, ...] by the graph's names."""


class Inference:
    """Answers requests for inference with one model, in any dialect."""

    def __init__(
        self,
        *,
        router: Router,
        admission: Admission,
        decoders: Executor,
        max_body_bytes: int,
        body_timeout_s: float,
        request_timeout_s: float,
    ) -> None:
        self._router = router
        self._admission = admission
        self._decoders = decoders
        self._max_body_bytes = max_body_bytes
        self._body_timeout_s = body_timeout_s
        self._request_timeout_s = request_timeout_s

    async def answer(self, headers: Headers, incoming: Body, trace: Trace, dialect: Dialect[B]) -> Answer:
        """Answer one request, and say in `trace` how it went.

        Raises:
            HttpError: it is refused, or cannot be answered.
            DisconnectedError: its sender went away.
        """
        patience = patience_s(headers)
        if incoming.length is not None and incoming.length > self._max_body_bytes:
            raise too_large(self._max_body_bytes)
        with self._admission.admit(patience) as place:
            body = await incoming.read(self._max_body_bytes, self._body_timeout_s, place.hold)
            trace.bytes_in = len(body)
            encoding = header(headers, b"content-encoding")
            if encoding is not None:
                body = await inflate(body, encoding, self._max_body_bytes, place.hold)
            # Its time begins now: how long a body takes to arrive is its sender's business.
            deadlines = Deadlines.of(self._admission.queue_deadline_s, min(self._request_timeout_s, patience))
            place.grow(1)
            work = self._run(partial(dialect.parse, headers, body), dialect.encode, place, deadlines, trace)
            return await _while_connected(work, incoming, deadlines.answer_by)

    async def _run(
        self,
        parse: Callable[[], B],
        encode: Callable[[B, Mapping[str, Array]], Answer],
        place: Admitted,
        deadlines: Deadlines,
        trace: Trace,
    ) -> Answer:
        began = time.perf_counter()
        request = parse()
        trace.images = request.count
        place.grow(request.count)
        inputs = await self._graph_inputs(request, deadlines.start_by, trace)
        decoded = time.perf_counter()
        outputs = await self._router.infer(request.signature.form, inputs, request.count, deadlines)
        place.answered()
        inferred = time.perf_counter()
        answer = encode(request, outputs)
        trace.decode_s = decoded - began - trace.queue_s
        trace.infer_s = inferred - decoded
        trace.encode_s = time.perf_counter() - inferred
        trace.answered = True
        return answer

    async def _graph_inputs(self, request: Batch, start_by: float, trace: Trace) -> dict[str, Array]:
        """Arrays by the graph's input names; images are decoded in threads, as their decoder releases Python's lock."""
        inputs = {spec.tensor: request.tensors[spec.name] for spec in request.signature.inputs if spec.kind == "tensor"}
        for spec in request.signature.inputs:
            if spec.kind == "jpeg":
                inputs[spec.tensor] = await self._decode(request, spec.name, start_by, trace)
        return inputs

    async def _decode(self, request: Batch, name: str, start_by: float, trace: Trace) -> Array:
        prep = request.signature.preprocessing
        assert prep is not None  # noqa: S101 - serving.graphs has refused such a signature
        images = request.images[name]
        loop = asyncio.get_running_loop()
        asked = time.perf_counter()
        decoded = await asyncio.gather(
            *(loop.run_in_executor(self._decoders, _decode_by, start_by, image, prep) for image in images),
            return_exceptions=True,
        )
        pixels: list[Array] = []
        first = time.perf_counter()
        for index, one in enumerate(decoded):
            if isinstance(one, ImageError):
                raise bad_request(f"{request.at(name, index)}: {one}")
            if isinstance(one, BaseException):
                raise one
            picture, began = one
            pixels.append(picture)
            first = min(first, began)
        trace.queue_s += first - asked
        return np.stack(pixels) if len(pixels) > 1 else pixels[0][np.newaxis]


def _decode_by(start_by: float, image: bytes, prep: Preprocessing) -> tuple[UInt8Image, float]:
    """The pixels, and when their decoding began (time.perf_counter)."""
    if time.monotonic() > start_by:
        raise overloaded("this request waited too long to be decoded")
    began = time.perf_counter()
    return load_image(image, prep), began


async def _while_connected(work: Coroutine[Any, Any, Answer], incoming: Body, answer_by: float) -> Answer:
    """Do the work unless the client goes away first or time is up: its place is then free for another.

    Raises:
        DisconnectedError: it went away.
        HttpError: 504, it is later than `answer_by` (monotonic).
    """
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(incoming.receive())
    try:
        left_s = max(0.0, answer_by - time.monotonic())
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED, timeout=left_s)
        if task.done():
            return task.result()
        if gone.done():
            raise DisconnectedError
        raise late()
    finally:
        for pending in (task, gone):
            if not pending.done():
                pending.cancel()
                with suppress(asyncio.CancelledError, HttpError):
                    await pending
