"""The images that both machines judge graphs on: integer windows of photos, so that no decoder or filter can differ."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

SIDE: Final = 224
PHOTO_SIDE: Final = 256
PER_PHOTO: Final = 26


def windows(photos: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """[photos x PER_PHOTO, SIDE, SIDE, 3] of uint8 [photos, PHOTO_SIDE, PHOTO_SIDE, 3].

    Of each photo the centre, then windows at random places, half of them mirrored. Seeded.
    """
    random = np.random.RandomState(0)
    room = PHOTO_SIDE - SIDE
    cut = []
    for photo in photos:
        for number in range(PER_PHOTO):
            top, left = (room // 2, room // 2) if number == 0 else random.randint(room + 1, size=2)
            window = photo[top : top + SIDE, left : left + SIDE]
            cut.append(window[:, ::-1] if number and random.randint(2) else window)
    return np.ascontiguousarray(np.stack(cut))
