"""The gate on encoded photos: whose class is the original's, and which are not."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from model.evaluate.jpeg_gate import jpeg_gate

NAMES = [f"{number}.jpg" for number in range(40)]


def scores(classes: list[int], margin: float = 4.0) -> npt.NDArray[np.float32]:
    """Logits of three classes, `margin` for the first."""
    return (np.eye(3, dtype=np.float32) * np.float32(margin))[classes]


@pytest.mark.parametrize(("flipped", "passed"), [(0, True), (2, True), (3, False)])
def test_one_photo_in_twenty_may_change_its_class(flipped: int, passed: bool) -> None:
    served = scores([1] * flipped + [0] * (40 - flipped))
    gate = jpeg_gate(scores([0] * 40), served, NAMES)
    assert gate.agreement == pytest.approx(1 - flipped / 40)
    assert (gate.result.passed, gate.result.threshold) == (passed, 0.95)
    assert [flip.photo for flip in gate.flips] == NAMES[:flipped]


def test_changed_photos_are_listed_with_both_classes_the_widest_margin_first() -> None:
    original = scores([0] * 40)
    original[7], original[9] = (1.0, 0.0, 0.0), (0.0, 0.0, 5.0)
    served = scores([0] * 40)
    served[7] = (0.0, 1.0, 0.0)
    gate = jpeg_gate(original, served, NAMES)
    assert [(flip.photo, flip.original, flip.answer) for flip in gate.flips] == [("9.jpg", 2, 0), ("7.jpg", 0, 1)]
    seven = np.exp([1.0, 0.0, 0.0]) / np.exp([1.0, 0.0, 0.0]).sum()
    assert gate.flips[1].margin == pytest.approx(seven[0] - seven[1])
