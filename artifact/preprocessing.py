"""From an encoded image to the uint8 tensor that a model's image graph takes.

Calibration, evaluation and serving all come through `load_image`: a different decoder, crop or filter flips more
predictions than INT8 quantisation does, so there is only one of each.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any, Final, Literal, cast

import cv2
import numpy as np
import numpy.typing as npt
import simplejpeg

from artifact.signature import Preprocessing

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
    """Decode, crop the central square and resize: uint8 [prep.height, prep.width, 3], RGB.

    Greyscale, CMYK and progressive JPEGs and all PNGs are taken; transparency is dropped, and an EXIF orientation is
    not applied, as TensorFlow's decoders do. Mean and standard deviation are left to the image graph.

    Raises:
        ImageError: what `read_header` refuses, and truncated or corrupt data.
    """
    header = read_header(data)
    pixels = _decode_png(data) if header.kind == "png" else _decode_jpeg(data, header, prep)
    return _crop_and_resize(pixels, prep)


def decode_scale(height: int, width: int, prep: Preprocessing) -> int:
    """Denominator of the scale, 1, 2, 4 or 8, at which a JPEG of this size is decoded.

    The smallest image whose central crop is still at least as large as the target; always 1 for the exact decoder.
    """
    if prep.decoder == "fast":
        for scale in _SCALES:
            short_side = min(-(-height // scale), -(-width // scale))
            if _crop_side(short_side, prep) >= max(prep.height, prep.width):
                return scale
    return 1


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


def _decode_jpeg(data: bytes, header: ImageHeader, prep: Preprocessing) -> UInt8Image:
    scale = decode_scale(header.height, header.width, prep)
    fast = prep.decoder == "fast"
    # The decoder picks the smallest of libjpeg's scales that keeps these sizes, so naming one's exact size selects it.
    size = {"min_height": -(-header.height // scale), "min_width": -(-header.width // scale)} if scale > 1 else {}
    colorspace = "CMYK" if header.four_channels else "RGB"
    try:
        pixels = simplejpeg.decode_jpeg(data, colorspace, fastdct=fast, fastupsample=fast, **size)
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
