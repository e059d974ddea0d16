"""`signature.json`: what a model takes and answers, so that serving hard-codes nothing about it."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

SIGNATURE_FILE = "signature.json"

DType = Literal["bool", "int8", "uint8", "int16", "int32", "int64", "float16", "float32", "float64", "string"]
Form = Literal["image", "tensor"]
"""Which graph of the archive a signature runs on: uint8 images after decoding, or the model's own tensors."""


class _Schema(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, alias_generator=to_camel, populate_by_name=True)


class Preprocessing(_Schema):
    """From an encoded image to the uint8 tensor [height, width, 3] that the image graph takes.

    The image graph itself subtracts `mean` and divides by `std` (both on the 0..255 scale, in RGB order): they are
    here for readers and for the float reference.
    """

    decoder: Literal["fast", "exact"]
    """`fast`: libjpeg's fast DCT, scaled decoding of large images; `exact`: full accurate decoding."""
    interpolation: Literal["linear", "area", "cubic"]
    crop_fraction: float = Field(gt=0, le=1)
    """Side of the central square crop as a fraction of the image's short side."""
    height: int = Field(gt=0)
    width: int = Field(gt=0)
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


class TensorSpec(_Schema):
    """One input or output as clients see it. Shapes start with the batch dimension, -1."""

    name: str
    dtype: DType
    shape: tuple[int, ...]
    kind: Literal["jpeg", "tensor", "argmax"]
    """`jpeg`: encoded images (dtype string); `argmax`: int64 index of the greatest value of the output `tensor`."""
    tensor: str
    """Name of the graph's input or output that carries it."""


class Signature(_Schema):
    """One signature of a model."""

    form: Form
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    preprocessing: Preprocessing | None = None
    """Set exactly where an input's kind is `jpeg`."""
    label_offset: int = 0
    """Subtracted from a class index to find its line in labels.txt (1 for 1001-class models)."""
    max_batch: int = Field(gt=0)


class SignatureFile(_Schema):
    """The whole of signature.json. `serving_default` is the signature used when a request names none."""

    version: Literal[1] = 1
    signatures: dict[str, Signature]
