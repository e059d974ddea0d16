from __future__ import annotations

import numpy as np
import numpy.typing as npt
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from model.quantise.qdq import pair_safe_scales, quantised, weight_scales

WEIGHTS = arrays.arrays(np.float32, (4, 6), elements=st.floats(-8, 8, width=32, allow_subnormal=False))


def sums_of_pairs(integers: npt.NDArray[np.int8]) -> npt.NDArray[np.int32]:
    """What vpmaddubsw adds up in 16 bits for the uint8 value 255, for every two weights of a channel."""
    wide = integers.astype(np.int32)
    pairs = wide[:, :, None] + wide[:, None, :]
    pairs[:, np.arange(wide.shape[1]), np.arange(wide.shape[1])] = 0
    return 255 * pairs


@given(WEIGHTS)
def test_no_two_seven_bit_weights_saturate_sixteen_bits(weights: npt.NDArray[np.float32]) -> None:
    sums = sums_of_pairs(quantised(weights, pair_safe_scales(weights, 0)[:, None]))
    assert sums.max() <= 2**15 - 1
    assert sums.min() >= -(2**15)


def test_eight_bit_weights_would_saturate() -> None:
    weights = np.ones((1, 6), np.float32)
    assert sums_of_pairs(quantised(weights, weight_scales(weights, 0)[:, None])).max() > 2**15 - 1


def test_a_channel_with_one_great_weight_keeps_its_eight_bits() -> None:
    weights = np.array([[1.0, 0.001, -0.002, 0.001], [1.0, 1.0, 0.5, 0.1]], np.float32)
    lone, pair = pair_safe_scales(weights, 0) / weight_scales(weights, 0)
    assert lone < 1.01
    assert 1.9 < pair < 2.1


@given(WEIGHTS)
def test_eight_bit_weights_are_within_half_a_step(weights: npt.NDArray[np.float32]) -> None:
    scales = weight_scales(weights, 0)[:, None]
    assert (np.abs(quantised(weights, scales) * scales - weights) <= scales * 0.5001).all()


def test_scales_count_along_the_channel_axis() -> None:
    weights = np.array([[1.0, 2.0, 4.0], [-3.0, 0.5, 1.0]], np.float32)
    np.testing.assert_allclose(weight_scales(weights, 0) * 127, [4, 3], rtol=1e-6)
    np.testing.assert_allclose(weight_scales(weights, 1) * 127, [3, 2, 4], rtol=1e-6)


def test_an_empty_channel_has_a_positive_scale() -> None:
    assert (weight_scales(np.zeros((2, 3), np.float32), 0) > 0).all()
    assert (pair_safe_scales(np.zeros((2, 3), np.float32), 0) > 0).all()
