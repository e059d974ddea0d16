"""From a request's body to its answer: admitted, read, understood, decoded, inferred and encoded."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from concurrent.futures import Executor
from contextlib import suppress
from http import HTTPStatus
from typing import Any, Final

import numpy as np

from artifact.preprocessing import ImageError, UInt8Image, load_image
from artifact.signature import Preprocessing, Signature, SignatureFile
from serving.gateway import metrics, predict
from serving.gateway.admission import Admission, Admitted, overloaded
from serving.gateway.body import Body
from serving.gateway.deadlines import Deadlines, patience_s
from serving.gateway.http import (
    Answer,
    DisconnectedError,
    HttpError,
    Scope,
    bad_request,
    late,
    too_large,
)
from serving.gateway.router import Router
from serving.tensors import Array

BODY_TIMEOUT_S: Final = 20.0


class Inference:
    """Answers predict requests about one model."""

    def __init__(
        self,
        *,
        signatures: SignatureFile,
        router: Router,
        admission: Admission,
        decoders: Executor,
        max_body_bytes: int,
        request_timeout_s: float,
    ) -> None:
        self._signatures = signatures
        self._router = router
        self._admission = admission
        self._decoders = decoders
        self._max_body_bytes = max_body_bytes
        self._request_timeout_s = request_timeout_s

    async def answer(self, scope: Scope, incoming: Body) -> Answer:
        """One `:predict`, counted and measured.

        Raises:
            HttpError: it is refused, or cannot be answered.
            DisconnectedError: its sender went away.
        """
        began = time.perf_counter()
        code = "disconnected"
        try:
            answer = await self._predict(scope, incoming)
            code = str(int(answer.status))
        except HttpError as error:
            code = str(int(error.status))
            if error.status == HTTPStatus.TOO_MANY_REQUESTS:
                metrics.REJECTED.inc()
            raise
        finally:
            metrics.REQUESTS.labels(code).inc()
            metrics.SECONDS.observe(time.perf_counter() - began)
            metrics.IN_FLIGHT.set(self._admission.images)
        return answer

    async def _predict(self, scope: Scope, incoming: Body) -> Answer:
        patience = patience_s(scope["headers"])
        if incoming.length is not None and incoming.length > self._max_body_bytes:
            raise too_large(self._max_body_bytes)
        with self._admission.admit(patience) as place:
            body = await incoming.read(self._max_body_bytes, BODY_TIMEOUT_S, place.hold)
            # Its time begins now: how long a body takes to arrive is its sender's business.
            deadlines = Deadlines.of(self._admission.queue_deadline_s, min(self._request_timeout_s, patience))
            place.grow(1)
            metrics.IN_FLIGHT.set(self._admission.images)
            return await _while_connected(self._run(body, place, deadlines), incoming, deadlines.answer_by)

    async def _run(self, body: bytes, place: Admitted, deadlines: Deadlines) -> Answer:
        request = predict.parse(body, self._signatures)
        place.grow(request.count)
        began = time.perf_counter()
        inputs = await self._graph_inputs(request, deadlines.start_by)
        decoded = time.perf_counter()
        outputs = await self._router.infer(request.signature.form, inputs, request.count, deadlines)
        place.answered()
        inferred = time.perf_counter()
        answer = Answer(HTTPStatus.OK, predict.answer(request, outputs))
        metrics.STAGE_SECONDS.labels("decode").observe(decoded - began)
        metrics.STAGE_SECONDS.labels("infer").observe(inferred - decoded)
        metrics.STAGE_SECONDS.labels("encode").observe(time.perf_counter() - inferred)
        metrics.INSTANCES.inc(request.count)
        return answer

    async def _graph_inputs(self, request: predict.Predict, start_by: float) -> dict[str, Array]:
        """Arrays by the graph's input names; images are decoded in threads, as their decoder releases Python's lock."""
        inputs = {spec.tensor: request.tensors[spec.name] for spec in request.signature.inputs if spec.kind == "tensor"}
        for spec in request.signature.inputs:
            if spec.kind == "jpeg":
                images = request.images[spec.name]
                inputs[spec.tensor] = await self._decode(images, request.signature, request.layout, start_by)
        return inputs

    async def _decode(self, images: list[bytes], signature: Signature, layout: str, start_by: float) -> Array:
        prep = signature.preprocessing
        assert prep is not None  # noqa: S101 - serving.graphs has refused such a signature
        loop = asyncio.get_running_loop()
        decoded = await asyncio.gather(
            *(loop.run_in_executor(self._decoders, _decode_by, start_by, image, prep) for image in images),
            return_exceptions=True,
        )
        batch = np.empty((len(images), prep.height, prep.width, 3), np.uint8)
        for index, pixels in enumerate(decoded):
            if isinstance(pixels, ImageError):
                raise bad_request(f"{layout}[{index}]: {pixels}")
            if isinstance(pixels, BaseException):
                raise pixels
            batch[index] = pixels
        return batch


def _decode_by(start_by: float, image: bytes, prep: Preprocessing) -> UInt8Image:
    if time.monotonic() > start_by:
        raise overloaded("this request waited too long to be decoded")
    return load_image(image, prep)


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
