"""What every peer does alike: the same JSON, decoder and graph as ours, with the fastest libraries for each."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Literal, Self

import cv2
import numpy as np
import numpy.typing as npt
import onnxruntime
import orjson
import pybase64

from artifact.folder import ArtifactFolder
from artifact.preprocessing import UInt8Image, load_image
from artifact.signature import Preprocessing

Scores = npt.NDArray[np.float32]
"""Probabilities [n, classes]."""
Model = Callable[[npt.NDArray[np.uint8]], Scores]
"""Scores of pixels [n, height, width, 3]."""

OPTIONS_VARIABLE: Final = "PEER_OPTIONS"
_OUTPUT: Final = "probabilities"
_DUMPS: Final = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE


@dataclass(frozen=True, slots=True)
class Options:
    """How a peer is set up, passed on in its environment."""

    host: str
    port: int
    artifact: str
    workers: int
    """Processes that run the model."""
    threads: int
    """Of the model, in each of them."""
    batch: int
    """Images run at once at most, of several requests; 1: each request on its own."""
    runtime: Literal["onnxruntime", "tensorflow"] = "onnxruntime"
    native: str = ""
    """Folder of the frozen TensorFlow graph (model.compare.runners.save_native)."""

    def environment(self) -> dict[str, str]:
        """For the peer's process."""
        return {OPTIONS_VARIABLE: json.dumps(asdict(self))}

    @classmethod
    def of_environment(cls, environment: Mapping[str, str] = os.environ) -> Self:
        """What `environment` said."""
        return cls(**json.loads(environment[OPTIONS_VARIABLE]))


class Classifier:
    """From encoded images to scores."""

    def __init__(self, options: Options) -> None:
        # As in the gateway: decoding has threads enough.
        cv2.setNumThreads(1)
        artifact = ArtifactFolder(Path(options.artifact))
        prep = artifact.signatures.signatures["serving_default"].preprocessing
        assert prep is not None
        self._prep = prep
        if options.runtime == "tensorflow":
            self.scores: Model = tensorflow_model(Path(options.native), options.threads, prep)
        else:
            self.scores = onnx_model(artifact.graph("int8-cpu", "image"), options.threads)

    def pixels(self, image: bytes) -> UInt8Image:
        """Decoded and resized: uint8 [height, width, 3]."""
        return load_image(image, self._prep)

    def warm_up(self, batch: int) -> None:
        """Run batches of every size once."""
        for size in range(1, batch + 1):
            self.scores(np.zeros((size, self._prep.height, self._prep.width, 3), np.uint8))


def onnx_model(graph: Path, threads: int) -> Model:
    """The graph in ONNX Runtime, with the options that Triton's model here has."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def scores(pixels: npt.NDArray[np.uint8]) -> Scores:
        (answer,) = session.run([_OUTPUT], {name: pixels})
        return np.asarray(answer, np.float32)

    return scores


def tensorflow_model(native: Path, threads: int, prep: Preprocessing) -> Model:
    """The TensorFlow model that the artifact was made from, in FP32."""
    from model.compare.runners import RowSpec, load_runner  # noqa: PLC0415 - imports TensorFlow

    run = load_runner(RowSpec(row="native", kind="tensorflow", model=native, output=_OUTPUT, threads=threads))
    mean, inverse_std = np.array(prep.mean, np.float32), 1 / np.array(prep.std, np.float32)

    def scores(pixels: npt.NDArray[np.uint8]) -> Scores:
        return run((pixels.astype(np.float32) - mean) * inverse_std)

    return scores


def images_of(document: Mapping[str, Any]) -> list[bytes]:
    """Encoded images of a request in row form."""
    return [pybase64.b64decode(instance["b64"], validate=True) for instance in document["instances"]]


def answer_of(scores: Scores) -> bytes:
    """JSON in row form: the class and all probabilities of each image."""
    rows = [
        {"classes": int(best), "probabilities": row} for best, row in zip(scores.argmax(axis=1), scores, strict=True)
    ]
    return orjson.dumps({"predictions": rows}, option=_DUMPS)
