from __future__ import annotations

import struct
import zlib
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import simplejpeg
from hypothesis import given, settings
from hypothesis import strategies as st

from artifact.preprocessing import MAX_PIXELS, ImageError, decode_scale, load_image, read_header
from artifact.signature import Preprocessing

FAST = Preprocessing(
    decoder="fast", interpolation="linear", crop_fraction=0.875, height=64, width=64, mean=(0, 0, 0), std=(1, 1, 1)
)
EXACT = FAST.model_copy(update={"decoder": "exact", "interpolation": "area"})


def photo(height: int = 300, width: int = 400) -> npt.NDArray[np.uint8]:
    """Red grows to the right, green downwards, blue is 60: smooth, so that every filter agrees."""
    pixels = np.full((height, width, 3), 60, np.uint8)
    pixels[..., 0] = np.linspace(0, 255, width)[None, :]
    pixels[..., 1] = np.linspace(0, 255, height)[:, None]
    return pixels


def expected(height: int, width: int, size: int = 64, fraction: float = 0.875) -> npt.NDArray[np.float64]:
    """The central crop of `photo`, computed from its formula."""
    side = round(min(height, width) * fraction)
    steps = (np.arange(size) + 0.5) * side / size - 0.5
    red = ((width - side) // 2 + steps) * 255 / (width - 1)
    green = ((height - side) // 2 + steps) * 255 / (height - 1)
    result = np.full((size, size, 3), 60.0)
    result[..., 0], result[..., 1] = red[None, :], green[:, None]
    return result


def png(pixels: npt.NDArray[Any]) -> bytes:
    return bytes(cv2.imencode(".png", pixels)[1])


def progressive(pixels: npt.NDArray[np.uint8]) -> bytes:
    flags = [cv2.IMWRITE_JPEG_PROGRESSIVE, 1, cv2.IMWRITE_JPEG_QUALITY, 95]
    return bytes(cv2.imencode(".jpg", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), flags)[1])


def cmyk(pixels: npt.NDArray[np.uint8]) -> bytes:
    """Inverted, as Adobe writes it: RGB with no black is stored as it is."""
    no_black = np.full(pixels.shape[:2], 255, np.uint8)
    return bytes(simplejpeg.encode_jpeg(np.dstack([pixels, no_black]), 95, "CMYK"))


@pytest.mark.parametrize("prep", [FAST, EXACT], ids=["fast", "exact"])
@pytest.mark.parametrize(("height", "width"), [(300, 400), (1200, 900), (64, 64), (40, 50)])
def test_a_photo_is_cropped_in_the_middle_and_resized(prep: Preprocessing, height: int, width: int) -> None:
    image = load_image(simplejpeg.encode_jpeg(photo(height, width), 98), prep)
    assert image.shape == (64, 64, 3)
    assert image.dtype == np.uint8
    assert image.flags.c_contiguous
    inner = (slice(2, -2), slice(2, -2))
    assert np.abs(image[inner] - expected(height, width)[inner]).mean() < 3


@pytest.mark.parametrize("encode", [progressive, cmyk, lambda p: png(cv2.cvtColor(p, cv2.COLOR_RGB2BGR))])
def test_other_encodings_give_the_same_picture(encode: Any) -> None:
    image = load_image(encode(photo()), EXACT)
    assert np.abs(image.astype(float) - expected(300, 400)).mean() < 3


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_greyscale_becomes_three_equal_channels(suffix: str) -> None:
    image = load_image(bytes(cv2.imencode(suffix, photo()[..., 0])[1]), EXACT)
    assert (image == image[..., :1]).all()
    assert np.abs(image[..., 0] - expected(300, 400)[..., 0]).mean() < 3


def test_a_png_with_transparency_or_16_bits_is_taken() -> None:
    bgr = cv2.cvtColor(photo(), cv2.COLOR_RGB2BGR)
    plain = load_image(png(bgr), EXACT)
    alpha = np.dstack([bgr, np.full(bgr.shape[:2], 7, np.uint8)])
    assert (load_image(png(alpha), EXACT) == plain).all()
    deep = bgr.astype(np.uint16) * 257
    assert np.abs(load_image(png(deep), EXACT).astype(int) - plain).max() <= 1


def test_an_exif_orientation_is_not_applied() -> None:
    plain = simplejpeg.encode_jpeg(photo(), 95)
    tiff = b"II*\0\x08\0\0\0" + struct.pack("<HHHIHHI", 1, 0x0112, 3, 1, 6, 0, 0)
    exif = b"Exif\0\0" + tiff
    turned = plain[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + plain[2:]
    assert (load_image(turned, EXACT) == load_image(plain, EXACT)).all()
    lossless = png(photo())
    chunk = struct.pack(">I", len(tiff)) + b"eXIf" + tiff + struct.pack(">I", zlib.crc32(b"eXIf" + tiff))
    turned = lossless[:33] + chunk + lossless[33:]
    assert (load_image(turned, EXACT) == load_image(lossless, EXACT)).all()


@given(st.integers(1, 9000), st.integers(1, 9000), st.sampled_from([0.5, 0.875, 1.0]), st.sampled_from([32, 224, 299]))
def test_a_scaled_decode_never_leaves_a_crop_below_the_target(h: int, w: int, fraction: float, size: int) -> None:
    prep = FAST.model_copy(update={"crop_fraction": fraction, "height": size, "width": size})
    scale = decode_scale(h, w, prep)
    assert scale in {1, 2, 4, 8}
    if scale > 1:
        assert round(-(-min(h, w) // scale) * fraction) >= size
    if scale < 8:
        assert round(-(-min(h, w) // (2 * scale)) * fraction) < size


def test_the_exact_decoder_never_scales() -> None:
    assert decode_scale(8000, 8000, EXACT) == 1
    assert decode_scale(8000, 8000, FAST) == 8


@pytest.mark.parametrize(("height", "width"), [(601, 803), (1203, 1601), (2400, 3200)])
def test_the_scaled_picture_is_the_same_picture(height: int, width: int) -> None:
    data = simplejpeg.encode_jpeg(photo(height, width), 95)
    assert decode_scale(height, width, FAST) > 1
    assert np.abs(load_image(data, FAST).astype(float) - load_image(data, EXACT)).mean() < 2


def bomb_png(height: int, width: int) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunk = b"IHDR" + header
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))


def bomb_jpeg(height: int, width: int) -> bytes:
    data = bytearray(simplejpeg.encode_jpeg(photo(16, 16), 50))
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 9] = struct.pack(">HH", height, width)
    return bytes(data)


@pytest.mark.parametrize("data", [bomb_png(60000, 60000), bomb_jpeg(60000, 60000)], ids=["png", "jpeg"])
def test_a_bomb_is_refused_from_its_header(data: bytes) -> None:
    with pytest.raises(ImageError, match="60000 x 60000 pixels; at most 67,108,864"):
        read_header(data)


def test_the_limit_itself_is_allowed() -> None:
    assert read_header(bomb_png(1, MAX_PIXELS)).width == MAX_PIXELS
    with pytest.raises(ImageError):
        read_header(bomb_png(1, MAX_PIXELS + 1))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "empty"),
        (b"GIF89a......", "not a JPEG or PNG image: it starts with the bytes 47 49 46 38"),
        (b"\xff\xd8\xff", "header"),
        (b"\x89PNG\r\n\x1a\n\0\0", "ends within its header"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 30, "first chunk"),
        (bomb_png(0, 10), "no pixels"),
        (bomb_png(10, 10), "PNG is truncated or corrupt"),
    ],
)
def test_what_is_no_image_says_why(data: bytes, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        load_image(data, FAST)


@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_a_truncated_image_is_refused(share: float) -> None:
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (200, 200, 3)).astype(np.uint8)
    for data in (simplejpeg.encode_jpeg(noise, 90), png(noise)):
        with pytest.raises(ImageError, match="truncated or corrupt"):
            load_image(data[: int(len(data) * share)], FAST)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_garbled_bytes_end_in_an_image_or_an_image_error(data: st.DataObject) -> None:
    original = data.draw(st.sampled_from(SEEDS))
    garbled = bytearray(original)
    for _ in range(data.draw(st.integers(1, 8))):
        garbled[data.draw(st.integers(0, len(garbled) - 1))] = data.draw(st.integers(0, 255))
    try:
        image = load_image(bytes(garbled), FAST)
    except ImageError:
        return
    assert image.shape == (64, 64, 3)


SEEDS = [
    simplejpeg.encode_jpeg(photo(80, 90), 80),
    progressive(photo(80, 90)),
    cmyk(photo(80, 90)),
    png(photo(80, 90)),
]
