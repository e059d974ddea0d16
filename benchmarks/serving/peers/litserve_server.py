"""`python -m benchmarks.serving.peers.litserve_server`: the model behind LitServe.

Requests and answers go between its HTTP servers and its workers through its ZeroMQ queue (`fast_queue`), and answers
are written by orjson in the worker, so that they pass as bytes. LitServe reads annotations, so they are no text.
"""

from typing import Any

import litserve
import numpy as np
from fastapi import Request, Response

import contract
from artifact.preprocessing import UInt8Image
from benchmarks.serving.peers.answering import Classifier, Options, Scores, answer_of, images_of


class Api(litserve.LitAPI):  # type: ignore[misc] # not installed where types are checked
    """A request is one or more images; a batch is one or more requests."""

    def setup(self, device: str) -> None:
        """In each worker."""
        del device
        options = Options.of_environment()
        self._classifier = Classifier(options)
        self._classifier.warm_up(options.batch)

    def decode_request(self, request: Request) -> list[UInt8Image]:
        """Pixels of its images. Named a request, what LitServe passes is the JSON object in it."""
        return [self._classifier.pixels(image) for image in images_of(request)]

    def batch(self, inputs: list[list[UInt8Image]]) -> list[list[UInt8Image]]:
        """Requests have different numbers of images: `predict` puts them together."""
        return inputs

    def unbatch(self, output: list[Scores]) -> list[Scores]:
        """One entry a request."""
        return output

    def predict(self, x: Any) -> Any:  # noqa: ANN401 - one request's images, or those of several
        """Scores of one request, or a list of them."""
        requests = x if isinstance(x[0], list) else [x]
        scores = self._classifier.scores(np.stack([image for images in requests for image in images]))
        ends = np.cumsum([len(images) for images in requests])
        rows = np.split(scores, ends[:-1])
        return rows if requests is x else rows[0]

    def encode_response(self, output: Scores) -> Response:
        """The answer, ready to be sent."""
        return Response(answer_of(output), media_type="application/json")


def main() -> None:
    """Serve until SIGTERM."""
    options = Options.of_environment()
    # A batch takes what waits (its timeout is short), so a lone request hardly waits for others.
    batching = {"max_batch_size": options.batch, "batch_timeout": 0.001} if options.batch > 1 else {}
    server = litserve.LitServer(
        Api(api_path=contract.PREDICT_PATH, **batching),
        accelerator="cpu",
        workers_per_device=options.workers,
        fast_queue=True,
    )
    server.run(
        host=options.host,
        port=options.port,
        log_level="warning",
        generate_client_file=False,
        loop="uvloop",
        http="httptools",
        access_log=False,
    )


if __name__ == "__main__":
    main()
