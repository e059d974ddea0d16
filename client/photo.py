"""An image for load when a person names none."""

from __future__ import annotations

import numpy as np
import simplejpeg

WIDTH, HEIGHT = 500, 375
"""The usual size of an ImageNet photo."""


def synthetic_jpeg() -> bytes:
    """A JPEG of coloured noise over gradients, about as costly to decode as a photo of its size. It shows nothing."""
    noise = np.random.default_rng(0).integers(0, 48, size=(HEIGHT, WIDTH, 3))
    rows = np.linspace(0, 160, HEIGHT)[:, None, None]
    columns = np.linspace(0, 40, WIDTH)[None, :, None]
    pixels = np.ascontiguousarray((noise + rows + columns).astype(np.uint8))
    return bytes(simplejpeg.encode_jpeg(pixels, quality=85, colorspace="RGB"))
