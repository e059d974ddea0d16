"""`python -m benchmarks.serving.peers.fastapi_server`: a model behind FastAPI and uvicorn, as one would write it today.

The event loop only parses and answers; decoding and the model run in threads, as both release Python's lock.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

import numpy as np
import orjson
import uvicorn
from fastapi import FastAPI, Request, Response

import contract
from artifact.preprocessing import UInt8Image
from benchmarks.serving.peers.answering import Classifier, Options, Scores, answer_of, images_of


class Batcher:
    """Runs what has been decoded while the last batch ran as the next, so a lone request never waits."""

    def __init__(self, classifier: Classifier, most: int) -> None:
        self._classifier = classifier
        self._most = most
        self._waiting: asyncio.Queue[tuple[UInt8Image, asyncio.Future[Scores]]] = asyncio.Queue()
        self._thread = ThreadPoolExecutor(1)

    async def scores(self, pixels: UInt8Image) -> Scores:
        """Of one image, [classes]."""
        answer: asyncio.Future[Scores] = asyncio.get_running_loop().create_future()
        self._waiting.put_nowait((pixels, answer))
        return await answer

    async def run(self) -> None:
        """Work until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            batch = [await self._waiting.get()]
            while len(batch) < self._most and not self._waiting.empty():
                batch.append(self._waiting.get_nowait())
            pixels = np.stack([image for image, _ in batch])
            rows = await loop.run_in_executor(self._thread, self._classifier.scores, pixels)
            for (_, answer), row in zip(batch, rows, strict=True):
                if not answer.done():
                    answer.set_result(row)


def app() -> FastAPI:
    """The application of one worker."""
    options = Options.of_environment()
    classifier = Classifier(options)
    classifier.warm_up(options.batch)
    threads = ThreadPoolExecutor(os.cpu_count())
    batcher = Batcher(classifier, options.batch)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        running = asyncio.create_task(batcher.run())
        yield
        running.cancel()

    made = FastAPI(lifespan=lifespan)

    def classify(image: bytes) -> Scores:
        row: Scores = classifier.scores(classifier.pixels(image)[np.newaxis])[0]
        return row

    async def predict(request: Request) -> Response:
        images = images_of(orjson.loads(await request.body()))
        loop = asyncio.get_running_loop()
        if options.batch > 1:
            pixels = await asyncio.gather(
                *(loop.run_in_executor(threads, classifier.pixels, image) for image in images)
            )
            rows = await asyncio.gather(*(batcher.scores(image) for image in pixels))
        else:
            rows = await asyncio.gather(*(loop.run_in_executor(threads, classify, image) for image in images))
        return Response(answer_of(np.stack(rows)), media_type="application/json")

    made.post(contract.PREDICT_PATH)(predict)
    return made


def main() -> None:
    """Serve until SIGTERM."""
    options = Options.of_environment()
    uvicorn.run(
        "benchmarks.serving.peers.fastapi_server:app",
        factory=True,
        host=options.host,
        port=options.port,
        workers=options.workers,
        loop="uvloop",
        http="httptools",
        access_log=False,
        log_level="warning",
    )


if __name__ == "__main__":
    main()
