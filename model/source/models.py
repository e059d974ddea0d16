"""The source model of a build: a SavedModel on disk and what must be known to convert and serve it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from artifact.builtin import BUILTIN, SMOKE
from artifact.manifest import Weights
from artifact.signature import Preprocessing, Signature, SignatureFile, TensorSpec
from model.errors import BuildError
from model.export.saved_model import (
    CLASSES_OUTPUT,
    JPEG_INPUT,
    JPEG_SIGNATURE,
    PROBABILITIES_OUTPUT,
    TENSOR_INPUT,
    TENSOR_SIGNATURE,
    quiet_tensorflow,
    write_saved_model,
)

MAX_BATCH: Final = 32
"""Images of one request that are run at once."""


@dataclass(frozen=True, slots=True)
class SourceModel:
    """A classifier to convert. `outputs` are those outputs of `signature` that the graph keeps."""

    saved_model: Path
    signature: str
    outputs: tuple[str, ...]
    preprocessing: Preprocessing
    labels: tuple[str, ...]
    weights: Weights

    def signatures(self) -> SignatureFile:
        """What serving must know of the two forms of its graphs."""
        prep = self.preprocessing
        outputs = (
            TensorSpec(name=CLASSES_OUTPUT, dtype="int64", shape=(-1,), kind="argmax", tensor=PROBABILITIES_OUTPUT),
            TensorSpec(
                name=PROBABILITIES_OUTPUT,
                dtype="float32",
                shape=(-1, len(self.labels)),
                kind="tensor",
                tensor=PROBABILITIES_OUTPUT,
            ),
        )
        jpeg = TensorSpec(name=JPEG_INPUT, dtype="string", shape=(-1,), kind="jpeg", tensor=TENSOR_INPUT)
        shape = (-1, prep.height, prep.width, 3)
        tensor = TensorSpec(name=TENSOR_INPUT, dtype="float32", shape=shape, kind="tensor", tensor=TENSOR_INPUT)
        signatures: Mapping[str, Signature] = {
            JPEG_SIGNATURE: Signature(
                form="image", inputs=(jpeg,), outputs=outputs, preprocessing=prep, max_batch=MAX_BATCH
            ),
            TENSOR_SIGNATURE: Signature(form="tensor", inputs=(tensor,), outputs=outputs, max_batch=MAX_BATCH),
        }
        return SignatureFile(signatures=dict(signatures))


def prepare_source(source: str, folder: Path) -> SourceModel:
    """Write the SavedModel that the `model.source` setting names into `folder`.

    Raises:
        BuildError: no such model, or its weights cannot be read.
    """
    from model.source import efficientnet_lite0, smoke  # noqa: PLC0415 - they need NumPy only to be built

    models = {f"{BUILTIN}:efficientnet-lite0": efficientnet_lite0, f"{BUILTIN}:{SMOKE}": smoke}
    if source not in models:
        raise BuildError(f"model source {source!r} is unknown; allowed: {', '.join(models)}")
    chosen = models[source]
    quiet_tensorflow()
    write_saved_model(chosen.build_keras_model(), chosen.PREPROCESSING, folder)
    return SourceModel(
        saved_model=folder,
        signature=TENSOR_SIGNATURE,
        outputs=(PROBABILITIES_OUTPUT,),
        preprocessing=chosen.PREPROCESSING,
        labels=chosen.labels(),
        weights="random" if chosen is smoke else "trained",
    )
