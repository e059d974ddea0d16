"""From an encoded image to the uint8 tensor that a model's image graph takes.

Calibration, evaluation and serving all come through `load_image`: a different decoder, crop or filter flips more
predictions than INT8 quantisation does, so there is only one of each. A model that brings a preprocessing of its own
has it as `steps`, which give the floats that its TensorFlow graph gave, rounded to uint8.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any, Final, Literal, cast

import cv2
import numpy as np
import numpy.typing as npt
import simplejpeg

from artifact.geometry import Size, Window, cropped, padded, resized
from artifact.resampling import FloatPixels, resample, taps
from artifact.signature import Crop, Pad, Preprocessing, Resize

UInt8Image = npt.NDArray[np.uint8]
"""Pixels [height, width, 3] in RGB order."""

MAX_PIXELS: Final = 2**26
"""Largest width times height that is decoded: 67 million pixels, room for a 64-megapixel camera, 200 MB decoded."""

_JPEG_MAGIC: Final = b"\xff\xd8\xff"
_PNG_MAGIC: Final = b"\x89PNG\r\n\x1a\n"
_PNG_HEADER: Final = struct.Struct(">8sI4sII")
_SCALES: Final = (8, 4, 2)
"""Denominators of the DCT scales that libjpeg-turbo decodes quickly; 3/4, 5/8, ... are slower than full size."""
_INTERPOLATION: Final = {"linear": cv2.INTER_LINEAR, "area": cv2.INTER_AREA, "cubic": cv2.INTER_CUBIC}


class ImageError(ValueError):
    """The bytes are no image that can be classified; the message says why, in words for whoever sent them."""


@dataclass(frozen=True, slots=True)
class ImageHeader:
    """What an image's first bytes tell of it, before anything is decoded. `height` and `width` are in pixels."""

    kind: Literal["jpeg", "png"]
    height: int
    width: int
    four_channels: bool = False
    """A JPEG with CMYK or YCCK pixels."""


def read_header(data: bytes) -> ImageHeader:
    """Format and size of an encoded image.

    Raises:
        ImageError: not a JPEG or PNG, a broken header, no pixels, or more than MAX_PIXELS of them.
    """
    if data.startswith(_JPEG_MAGIC):
        header = _jpeg_header(data)
    elif data.startswith(_PNG_MAGIC):
        header = _png_header(data)
    elif not data:
        raise ImageError("the image is empty (0 bytes)")
    else:
        raise ImageError(f"not a JPEG or PNG image: it starts with the bytes {data[:4].hex(' ')}")
    if header.height < 1 or header.width < 1:
        raise ImageError(f"the image has no pixels: {header.width} x {header.height}")
    if header.height * header.width > MAX_PIXELS:
        raise ImageError(
            f"the image is {header.width} x {header.height} pixels; at most {MAX_PIXELS:,} pixels in all are decoded: "
            "scale it down before sending it"
        )
    return header


def load_image(data: bytes, prep: Preprocessing) -> UInt8Image:
    """Decode, then crop the central square and resize, or take the model's steps: uint8 [height, width, 3], RGB.

    Greyscale, CMYK and progressive JPEGs and all PNGs are taken; transparency is dropped, and an EXIF orientation is
    not applied, as TensorFlow's decoders do. Mean and standard deviation are left to the image graph.

    Raises:
        ImageError: what `read_header` refuses, and truncated or corrupt data.
    """
    return _prepared(_decode(data, prep), prep)


def load_floats(data: bytes, prep: Preprocessing) -> FloatPixels:
    """What the model's steps give before it is rounded: float32 [height, width, 3], 0..255 but for overshoots.

    Raises:
        ImageError: as `load_image`.
    """
    return _stepped(_decode(data, prep), prep).astype(np.float32)


def decode_scale(height: int, width: int, prep: Preprocessing) -> int:
    """Denominator of the scale, 1, 2, 4 or 8, at which a JPEG of this size is decoded.

    The smallest image of which no part has to be enlarged; always 1 for the exact decoder.
    """
    if prep.decoder == "fast":
        for scale in _SCALES:
            if _is_enough(-(-height // scale), -(-width // scale), prep):
                return scale
    return 1


def _is_enough(height: int, width: int, prep: Preprocessing) -> bool:
    """Whether a decoded image of this size is at least as large as what is made of it."""
    if not prep.steps:
        return _crop_side(min(height, width), prep) >= max(prep.height, prep.width)
    size = Size.of(height, width)
    for step in prep.steps:
        if isinstance(step, Crop) and step.of != "pixels":
            window = cropped(step, size)
            size = Size.of(window.height, window.width)
            continue
        # Anything but a resize counts pixels of the whole image, which a scaled one has fewer of.
        if not isinstance(step, Resize):
            return False
        after = resized(step, size)
        return size.height >= after.height and size.width >= after.width
    return False


def _jpeg_header(data: bytes) -> ImageHeader:
    try:
        height, width, colorspace, _ = simplejpeg.decode_jpeg_header(data)
    except ValueError as error:
        raise ImageError(f"the JPEG header cannot be read: {error}") from error
    return ImageHeader("jpeg", int(height), int(width), four_channels=colorspace in {"CMYK", "YCCK"})


def _png_header(data: bytes) -> ImageHeader:
    if len(data) < _PNG_HEADER.size:
        raise ImageError(f"the PNG ends within its header, after {len(data)} bytes")
    _, _, chunk, width, height = _PNG_HEADER.unpack_from(data)
    if chunk != b"IHDR":
        raise ImageError(f"the PNG's first chunk is {chunk!r}; it must be IHDR")
    return ImageHeader("png", int(height), int(width))


def _decode(data: bytes, prep: Preprocessing) -> UInt8Image:
    header = read_header(data)
    return _decode_png(data) if header.kind == "png" else _decode_jpeg(data, header, prep)


def _decode_jpeg(data: bytes, header: ImageHeader, prep: Preprocessing) -> UInt8Image:
    scale = decode_scale(header.height, header.width, prep)
    fast = prep.decoder == "fast"
    fast_dct, plain = fast or prep.dct == "fast", fast or prep.upsampling == "plain"
    # The decoder picks the smallest of libjpeg's scales that keeps these sizes, so naming one's exact size selects it.
    size = {"min_height": -(-header.height // scale), "min_width": -(-header.width // scale)} if scale > 1 else {}
    colorspace = "CMYK" if header.four_channels else "RGB"
    try:
        pixels = simplejpeg.decode_jpeg(data, colorspace, fastdct=fast_dct, fastupsample=plain, **size)
    except ValueError as error:
        raise ImageError(f"the JPEG is truncated or corrupt: {error}") from error
    return _rgb_of_cmyk(pixels) if header.four_channels else cast("UInt8Image", pixels)


def _rgb_of_cmyk(pixels: npt.NDArray[np.uint8]) -> UInt8Image:
    """RGB of inverted CMYK [height, width, 4]: JPEGs with four channels hold ink as 255 minus ink (Adobe's way)."""
    black = cv2.merge([pixels[..., 3]] * 3)
    return cast("UInt8Image", cv2.multiply(np.ascontiguousarray(pixels[..., :3]), black, scale=1 / 255))


def _decode_png(data: bytes) -> UInt8Image:
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        pixels: Any = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        raise ImageError(f"the PNG is truncated or corrupt: {error.err}") from error
    if pixels is None:
        raise ImageError("the PNG is truncated or corrupt")
    return cast("UInt8Image", cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB))


def _prepared(pixels: UInt8Image, prep: Preprocessing) -> UInt8Image:
    if not prep.steps:
        return _crop_and_resize(pixels, prep)
    return _to_bytes(_stepped(pixels, prep), prep)


def _stepped(pixels: npt.NDArray[Any], prep: Preprocessing) -> npt.NDArray[Any]:
    """The picture after the model's steps: uint8 as long as no filter of TensorFlow's made floats of it."""
    size = Size.of(*pixels.shape[:2])
    steps = list(prep.steps)
    while steps:
        step = steps.pop(0)
        if isinstance(step, Resize):
            size = resized(step, size)
            window = Window(0, 0, size.height, size.width)
            if steps and isinstance(steps[0], Crop):
                # Only what the crop keeps is computed: of a picture 1 pixel high there may be millions to the right.
                window = cropped(steps[0], size)
                steps.pop(0)
            pixels = _resized(pixels, step, size, window)
            if window != Window(0, 0, size.height, size.width):
                size = Size.of(window.height, window.width)
        elif isinstance(step, Crop):
            window = cropped(step, size)
            pixels = _part(pixels, window)
            size = Size.of(window.height, window.width)
        else:
            pixels = _padded(pixels, step, size)
            size = Size.of(step.height, step.width)
    if pixels.shape[:2] != (prep.height, prep.width):
        raise ImageError(
            f"the model's preprocessing makes {pixels.shape[1]} x {pixels.shape[0]} pixels of this image, and the "
            f"model takes {prep.width} x {prep.height}: send a larger image"
        )
    return pixels


def _resized(pixels: npt.NDArray[Any], step: Resize, size: Size, window: Window) -> npt.NDArray[Any]:
    """The part `window` of the picture at its new size."""
    height, width = pixels.shape[:2]
    if step.method == "fast":
        source = _source_of(window, size, _box_of(step, height, width), (height, width))
        part = np.ascontiguousarray(_part(pixels, source))
        return np.asarray(cv2.resize(part, (window.width, window.height), interpolation=cv2.INTER_LINEAR))
    rows = taps(step, 0, (height, size.height), window.top, window.top + window.height)
    columns = taps(step, 1, (width, size.width), window.left, window.left + window.width)
    return resample(pixels, rows, columns)


def _box_of(step: Resize, height: int, width: int) -> tuple[float, float, float, float]:
    """Top, left, height and width of the part of a picture that a resize reads, in pixels."""
    if step.box is None:
        return 0.0, 0.0, height, width
    top, left, bottom, right = step.box
    return top * (height - 1), left * (width - 1), (bottom - top) * (height - 1) + 1, (right - left) * (width - 1) + 1


def _source_of(window: Window, size: Size, box: tuple[float, float, float, float], shape: tuple[int, int]) -> Window:
    """The part of a picture of this shape, in whole pixels, that becomes `window` when `box` becomes `size`."""
    down, across = box[2] / size.height, box[3] / size.width
    rows = min(shape[0], max(1, round(window.height * down)))
    columns = min(shape[1], max(1, round(window.width * across)))
    top = min(max(0, round(box[0] + window.top * down)), shape[0] - rows)
    left = min(max(0, round(box[1] + window.left * across)), shape[1] - columns)
    return Window(top, left, rows, columns)


def _part(pixels: npt.NDArray[Any], window: Window) -> npt.NDArray[Any]:
    return pixels[window.top : window.top + window.height, window.left : window.left + window.width]


def _padded(pixels: npt.NDArray[Any], step: Pad, size: Size) -> npt.NDArray[Any]:
    height, width = pixels.shape[:2]
    top, left = padded(step, size)
    whole = np.full((max(step.height, height), max(step.width, width), 3), step.value, np.float32)
    whole[top : top + height, left : left + width] = pixels
    return whole


def _to_bytes(pixels: npt.NDArray[Any], prep: Preprocessing) -> UInt8Image:
    if pixels.dtype == np.uint8:
        return np.ascontiguousarray(pixels)
    whole = np.rint(pixels) if prep.to_bytes == "nearest" else np.trunc(pixels)
    return cast("UInt8Image", np.clip(whole, 0, 255).astype(np.uint8))


def _crop_side(short_side: int, prep: Preprocessing) -> int:
    return max(1, round(short_side * prep.crop_fraction))


def _crop_and_resize(pixels: UInt8Image, prep: Preprocessing) -> UInt8Image:
    height, width = pixels.shape[:2]
    side = _crop_side(min(height, width), prep)
    top, left = (height - side) // 2, (width - side) // 2
    crop = pixels[top : top + side, left : left + side]
    if crop.shape[:2] == (prep.height, prep.width):
        return np.ascontiguousarray(crop)
    resized = cv2.resize(crop, (prep.width, prep.height), interpolation=_INTERPOLATION[prep.interpolation])
    return cast("UInt8Image", resized)
