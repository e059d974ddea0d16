"""The models that come with this repository, as SavedModels with the two signatures that clients know."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from artifact.builtin import BUILTIN, SMOKE
from artifact.signature import TensorSpec
from model.errors import BuildError
from model.export.frozen import freeze
from model.export.saved_model import (
    CLASSES_OUTPUT,
    JPEG_SIGNATURE,
    PROBABILITIES_OUTPUT,
    TENSOR_INPUT,
    TENSOR_SIGNATURE,
    quiet_tensorflow,
    write_saved_model,
)
from model.source import efficientnet_lite0, smoke
from model.source.models import SourceModel

_MODELS: Final = {f"{BUILTIN}:efficientnet-lite0": efficientnet_lite0, f"{BUILTIN}:{SMOKE}": smoke}


def prepare_builtin(source: str, folder: Path) -> SourceModel:
    """Write the SavedModel of a built-in model into `folder` and read it.

    Raises:
        BuildError: no such model.
    """
    if source not in _MODELS:
        raise BuildError(f"model source {source!r} is unknown; allowed: {', '.join(_MODELS)}")
    chosen = _MODELS[source]
    prep, labels = chosen.PREPROCESSING, chosen.labels()
    quiet_tensorflow()
    write_saved_model(chosen.build_keras_model(), prep, folder)
    tensor, scores = TENSOR_INPUT, PROBABILITIES_OUTPUT
    image = TensorSpec(
        name=tensor, dtype="float32", shape=(-1, prep.height, prep.width, 3), kind="tensor", tensor=tensor
    )
    return SourceModel(
        frozen=freeze(folder, TENSOR_SIGNATURE),
        inputs=(image,),
        outputs=(
            TensorSpec(name=CLASSES_OUTPUT, dtype="int64", shape=(-1,), kind="argmax", tensor=scores),
            TensorSpec(name=scores, dtype="float32", shape=(-1, len(labels)), kind="tensor", tensor=scores),
        ),
        signature_names={"image": JPEG_SIGNATURE, "tensor": TENSOR_SIGNATURE},
        preprocessing=prep,
        layout="nhwc",
        labels=labels,
        classifier=scores,
        weights="random" if chosen is smoke else "trained",
    )
