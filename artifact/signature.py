"""`signature.json`: what a model takes and answers, so that serving hard-codes nothing about it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

SIGNATURE_FILE = "signature.json"

DType = Literal["bool", "int8", "uint8", "int16", "int32", "int64", "float16", "float32", "float64", "string"]
Form = Literal["image", "tensor"]
"""Which graph of the archive a signature runs on: uint8 images after decoding, or the model's own tensors."""
MAX_SIDE = 4096
"""Longest side in pixels of a picture that a model may take: one of 4096 x 4096 is 200 MB of floats already."""


class _Schema(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, alias_generator=to_camel, populate_by_name=True)


class Resize(_Schema):
    """Resize a picture to floats, as TensorFlow's kernels of the same name do.

    Sizes that keep the aspect ratio come from side * scale: see `artifact.geometry`.
    """

    kind: Literal["resize"] = "resize"
    to: Literal["size", "short_side", "within"]
    """`size`: height x width whatever the aspect ratio. With the aspect ratio kept, `short_side`: the shorter side
    becomes `height` (and `width` says the same); `within`: the greatest that fits into height x width."""
    height: int = Field(gt=0)
    width: int = Field(gt=0)
    arithmetic: Literal["multiply", "divide", "integer"] = "multiply"
    """How a side is scaled: by a float32 factor, by division by its float32 inverse, or exactly."""
    rounding: Literal["truncate", "nearest", "ceil"] = "truncate"
    """Of the scaled sides to whole pixels."""
    method: Literal[
        "fast", "nearest", "bilinear", "bicubic", "area", "lanczos3", "lanczos5", "gaussian", "mitchellcubic"
    ]
    """`fast` is OpenCV's linear filter on 8-bit pixels, the others are TensorFlow's."""
    coordinates: Literal["half_pixel", "legacy", "align_corners"] = "half_pixel"
    """Which source coordinate pixel i has: (i + 0.5) * scale - 0.5 in TensorFlow 2, i * scale in TensorFlow 1, or
    i * scale with both corner pixels kept."""
    antialias: bool = False
    """Widen the filter where the picture shrinks."""
    box: tuple[float, float, float, float] | None = None
    """Top, left, bottom and right of the part that is read, as `tf.image.crop_and_resize` takes them: 0 is the first
    pixel's centre and 1 the last one's. `coordinates` says nothing then."""


class Crop(_Schema):
    """Cut the middle out of a picture."""

    kind: Literal["crop"] = "crop"
    of: Literal["pixels", "short_side", "sides"]
    """`pixels`: height x width of them, or as many as there are; `short_side`: a square, `fraction` of the shorter
    side; `sides`: `fraction` of each side, as `tf.image.central_crop` rounds it."""
    height: int = Field(default=0, ge=0)
    width: int = Field(default=0, ge=0)
    fraction: float = Field(default=1.0, gt=0, le=1)
    rounding: Literal["truncate", "nearest", "ceil"] = "truncate"
    offset: Literal["floor", "ceil", "nearest"] = "floor"
    """Which way half a pixel goes where the margins cannot be equal."""


class Pad(_Schema):
    """Put a picture in the middle of a larger one of one colour."""

    kind: Literal["pad"] = "pad"
    height: int = Field(gt=0)
    width: int = Field(gt=0)
    value: float = 0.0
    offset: Literal["floor", "ceil", "unrounded"] = "floor"
    """As of Crop; `unrounded` reckons with the sides before the last Resize rounded them, as
    `tf.image.resize_with_pad` does."""


Step = Annotated[Resize | Crop | Pad, Field(discriminator="kind")]


class Preprocessing(_Schema):
    """From an encoded image to the uint8 tensor [height, width, 3] that the image graph takes.

    The image graph itself subtracts `mean` and divides by `std` (both on the 0..255 scale, in RGB order): they are
    here for readers and for the float reference.
    """

    decoder: Literal["fast", "exact"]
    """`fast`: libjpeg's fast DCT, scaled decoding of large images; `exact`: full decoding."""
    dct: Literal["accurate", "fast"] = "accurate"
    """Of the exact decoder. TensorFlow's decode_jpeg takes libjpeg's fast integer DCT unless told otherwise."""
    upsampling: Literal["smooth", "plain"] = "smooth"
    """Of the exact decoder: how colour at half resolution is enlarged; `smooth` is TensorFlow's fancy_upscaling."""
    interpolation: Literal["linear", "area", "cubic"] = "linear"
    crop_fraction: float = Field(default=1.0, gt=0, le=1)
    """Side of the central square crop as a fraction of the image's short side."""
    steps: tuple[Step, ...] = ()
    """What a model's own graph does between decoding and normalising, in its order. Where there are steps,
    `interpolation` and `crop_fraction` say nothing; they must end in a picture of height x width."""
    to_bytes: Literal["nearest", "truncate"] = "nearest"
    """How the steps' floats become uint8."""
    height: int = Field(gt=0, le=MAX_SIDE)
    width: int = Field(gt=0, le=MAX_SIDE)
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


class TensorSpec(_Schema):
    """One input or output as clients see it.

    Shapes start with the batch dimension: -1, or the one size that the graph runs, to which serving pads.
    """

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
    """Most instances of one request."""


class SignatureFile(_Schema):
    """The whole of signature.json. `serving_default` is the signature used when a request names none."""

    version: Literal[1] = 1
    signatures: dict[str, Signature]
