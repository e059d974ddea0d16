"""What a VM must answer, computed from the artifact in this process: the same decoder and graph, no server."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from artifact.folder import ArtifactFolder
from artifact.preprocessing import ImageError, load_image
from artifact.signature import Form, Signature

Scores = npt.NDArray[np.float32]


class Reference:
    """A classifier's artifact whose `probabilities` and `classes` are known."""

    def __init__(self, folder: Path) -> None:
        artifact = ArtifactFolder(folder)
        signatures = artifact.signatures.signatures
        self.image: Signature = signatures["serving_default"]
        """Signature that takes encoded images."""
        self.tensor: Signature = signatures["tensor"]
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        # Errors only: it warns of every constant that it folds away.
        options.log_severity_level = 3
        forms: tuple[Form, ...] = ("image", "tensor")
        self._sessions = {
            form: ort.InferenceSession(artifact.graph("int8-cpu", form), options, providers=["CPUExecutionProvider"])
            for form in forms
        }

    @property
    def pixels(self) -> tuple[int, ...]:
        """Shape of one instance of the tensor form."""
        return self.tensor.inputs[0].shape[1:]

    def of_image(self, data: bytes) -> Scores | None:
        """Scores float32 [classes] of an encoded image, or None if it must be refused."""
        assert self.image.preprocessing is not None
        try:
            pixels = load_image(data, self.image.preprocessing)
        except ImageError:
            return None
        return self._run("image", pixels[np.newaxis])

    def of_tensor(self, instance: npt.NDArray[np.float32]) -> Scores:
        """Scores float32 [classes] of one instance of the tensor form."""
        return self._run("tensor", instance[np.newaxis])

    def _run(self, form: Form, batch: npt.NDArray[Any]) -> Scores:
        session = self._sessions[form]
        (scores,) = session.run(["probabilities"], {session.get_inputs()[0].name: batch})
        return np.asarray(scores[0], np.float32)


def wrong(document: Any, expected: Sequence[Scores]) -> str:  # noqa: ANN401 - any JSON
    """What is wrong with an answer in row or column form, or nothing."""
    try:
        rows = document["predictions"] if "predictions" in document else _rows(document["outputs"])
        if len(rows) != len(expected):
            return f"{len(rows)} answers for {len(expected)} instances"
        for index, (row, scores) in enumerate(zip(rows, expected, strict=True)):
            given = np.asarray(row["probabilities"], np.float32)
            if given.shape != scores.shape or not np.allclose(given, scores, atol=1e-4):
                return f"instance {index}: other probabilities than the reference's"
            if given[row["classes"]] != given.max():
                return f"instance {index}: class {row['classes']} is not the most probable one"
    except (KeyError, TypeError, ValueError, IndexError) as error:
        return f"not an answer: {error!r}"
    return ""


def _rows(columns: Any) -> list[dict[str, Any]]:  # noqa: ANN401 - any JSON
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
