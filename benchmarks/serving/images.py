"""Generated images: of every kind that is taken, and damaged in every way that must be noticed."""

from __future__ import annotations

import random
import struct
import zlib
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import simplejpeg

Pixels = npt.NDArray[np.uint8]


def picture(rng: random.Random) -> Pixels:
    """A soft gradient with some noise, RGB [height, width, 3]: any size from 1 x 1."""
    height, width = (rng.choice((1, 2, rng.randint(3, 64), rng.randint(65, 400))) for _ in range(2))
    corners = np.array([[[rng.randrange(256) for _ in range(3)] for _ in range(2)] for _ in range(2)], np.float32)
    noise = np.random.default_rng(rng.randrange(2**32)).normal(0, 12, (height, width, 3))
    smooth: npt.NDArray[Any] = cv2.resize(corners, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.clip(smooth + noise, 0, 255).astype(np.uint8)


def encode(pixels: Pixels, kind: str, quality: int = 85) -> bytes:
    """An image file of one of KINDS."""
    match kind:
        case "jpeg":
            return bytes(simplejpeg.encode_jpeg(np.ascontiguousarray(pixels), quality))
        case "grey jpeg":
            grey = np.ascontiguousarray(pixels.mean(2, keepdims=True).astype(np.uint8))
            return bytes(simplejpeg.encode_jpeg(grey, quality, "GRAY", "Gray"))
        case "cmyk jpeg":
            ink = np.ascontiguousarray(np.concatenate([pixels, np.full((*pixels.shape[:2], 1), 255, np.uint8)], 2))
            return bytes(simplejpeg.encode_jpeg(ink, quality, "CMYK"))
        case "progressive jpeg":
            flags = [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_PROGRESSIVE, 1]
            return cv2.imencode(".jpg", pixels[..., ::-1], flags)[1].tobytes()
        case _:
            return cv2.imencode(".png", pixels[..., ::-1])[1].tobytes()


KINDS = ("jpeg", "jpeg", "jpeg", "grey jpeg", "cmyk jpeg", "progressive jpeg", "png")


def truncated(image: bytes, rng: random.Random) -> bytes:
    """Cut off somewhere before the end of its data."""
    return image[: rng.randrange(1, max(2, len(image) * 9 // 10))]


def corrupted(image: bytes, rng: random.Random) -> bytes:
    """Some bytes replaced. Whether it can still be decoded is for the decoder to say."""
    damaged = bytearray(image)
    for _ in range(rng.randint(1, 20)):
        damaged[rng.randrange(len(damaged))] = rng.randrange(256)
    return bytes(damaged)


def jpeg_bomb(rng: random.Random) -> bytes:
    """A small JPEG whose header claims up to 65535 x 65535 pixels."""
    bomb = bytearray(encode(np.zeros((8, 8, 3), np.uint8), "jpeg"))
    frame = bomb.index(b"\xff\xc0")
    bomb[frame + 5 : frame + 9] = struct.pack(">HH", rng.randint(20000, 65535), rng.randint(20000, 65535))
    return bytes(bomb)


def png_bomb(rng: random.Random) -> bytes:
    """A small, valid PNG that would be some gigabytes of zeros."""
    side = rng.randint(20000, 2**31 - 1)
    rows = zlib.compress(bytes(2**20))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in (
            (b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)),
            (b"IDAT", rows),
            (b"IEND", b""),
        )
    )


def no_image(rng: random.Random) -> bytes:
    """Bytes of something else."""
    return rng.choice((b"", b"GIF89a" + bytes(20), b"BM" + bytes(60), b"%PDF-1.7", rng.randbytes(rng.randint(1, 400))))
