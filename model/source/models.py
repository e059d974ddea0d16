"""The source model of a build: a graph that can be converted, and what must be known to convert and serve it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, Protocol

from artifact.builtin import BUILTIN, KERAS
from artifact.manifest import Weights
from artifact.recipe import BuildRequest
from artifact.signature import Form, Preprocessing, Signature, SignatureFile, TensorSpec
from model.export.frozen import FrozenSignature
from model.export.saved_model import JPEG_INPUT
from model.graph import FloatArray

MAX_BATCH: Final = 32
"""Images of one request that are run at once, where the model itself does not say."""

Layout = Literal["nhwc", "nchw"]


class JpegOriginal(Protocol):
    """The untouched signature of a model that takes JPEGs, run in TensorFlow."""

    def __call__(self, images: Sequence[bytes]) -> FloatArray:
        """Scores float32 [N, classes] of N encoded images."""
        ...


@dataclass(frozen=True, slots=True)
class SourceModel:
    """A model to convert.

    `frozen` takes numbers only: it begins behind the decoding and preprocessing of a model that takes JPEGs.
    `inputs` and `outputs` are what clients see of its tensor form; `tensor` of each names an input or output of
    `frozen`. Without `preprocessing` there is no image form.
    """

    frozen: FrozenSignature
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    signature_names: Mapping[Form, str]
    preprocessing: Preprocessing | None = None
    layout: Layout | None = None
    """Of the input that is an image; None where none is."""
    labels: tuple[str, ...] = ()
    label_offset: int = 0
    """Subtracted from a class index to find its label: 1 where class 0 is "background"."""
    classifier: str | None = None
    """The output of `frozen` with a score a class, float [N, classes]; None: no classifier."""
    weights: Weights = "trained"
    fixed_batch: int | None = None
    """Instances that `frozen` takes in one run, no more and no fewer; None: any number."""
    original: JpegOriginal | None = None
    jpeg_input: str = JPEG_INPUT
    """Name of the image form's input, as clients see it."""
    facts: Mapping[str, str] = field(default_factory=dict)
    """What a reader of the report should know of where the model came from and how it was run, by name."""

    @property
    def graph_outputs(self) -> tuple[str, ...]:
        """Outputs that the converted graph keeps: all but the argmax of another, which serving computes."""
        return tuple(dict.fromkeys(spec.tensor for spec in self.outputs))

    def label_of(self, number: int) -> str:
        """Name of a class, by its place in the scores; empty for a negative one."""
        line = number - self.label_offset
        named = 0 <= line < len(self.labels)
        return self.labels[line] if named else f"class {number}" if number >= 0 else ""

    def signatures(self) -> SignatureFile:
        """What serving must know of the forms of its graphs."""
        max_batch = self.fixed_batch or MAX_BATCH
        signatures: dict[str, Signature] = {}
        if self.preprocessing is not None and "image" in self.signature_names:
            (image,) = self.inputs
            jpeg = TensorSpec(name=self.jpeg_input, dtype="string", shape=(-1,), kind="jpeg", tensor=image.tensor)
            signatures[self.signature_names["image"]] = Signature(
                form="image",
                inputs=(jpeg,),
                outputs=self.outputs,
                preprocessing=self.preprocessing,
                label_offset=self.label_offset,
                max_batch=max_batch,
            )
        signatures[self.signature_names["tensor"]] = Signature(
            form="tensor",
            inputs=self.inputs,
            outputs=self.outputs,
            label_offset=self.label_offset,
            max_batch=max_batch,
        )
        return SignatureFile(signatures=signatures)


def prepare_source(request: BuildRequest, folder: Path, patience_s: float = 0.0) -> SourceModel:
    """Read the model that a request names; `folder` takes what must be written to do so.

    What Cloud Storage withholds is asked for again for `patience_s`.

    Raises:
        BuildError: no such model, it cannot be read, or not converted; the message says what to do.
    """
    from model.export.saved_model import quiet_tensorflow  # noqa: PLC0415 - imports TensorFlow
    from model.source.builtin import prepare_builtin  # noqa: PLC0415 - likewise
    from model.source.custom import prepare_custom  # noqa: PLC0415 - likewise
    from model.source.keras_application import prepare_application  # noqa: PLC0415 - likewise

    quiet_tensorflow()
    if request.source.startswith(f"{BUILTIN}:"):
        return prepare_builtin(request.source, folder)
    if request.source.startswith(f"{KERAS}:"):
        return prepare_application(request.source)
    return prepare_custom(request, folder, patience_s)
