from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from artifact.recipe import CalibrationMethod
from model.build.stages.calibrate import tensors_to_calibrate
from model.errors import BuildError
from model.quantise.ranges import asymmetric_range, quantised_distribution, symmetric_range
from model.quantise.statistics import HALF_BINS, Histogram, collect, collect_groups, merge
from tests.model.nets import NetBuilder, images, mobile_net

METHODS: tuple[CalibrationMethod, ...] = ("max", "percentile", "mse", "entropy")
RANDOM = np.random.default_rng(0)
NORMAL = RANDOM.normal(0, 1, 200_000).astype(np.float32)


def error(values: npt.NDArray[np.float32], low: float, high: float, levels: int) -> float:
    """Mean squared error of rounding to `levels` steps over [low, high] and saturating."""
    step = (high - low) / levels
    zero = np.round(-low / step)
    quantised = np.clip(np.round(values / step) + zero, 0, levels)
    return float((((quantised - zero) * step - values) ** 2).mean())


def test_a_histogram_counts_what_numpy_counts() -> None:
    values = RANDOM.uniform(-3, 5, 10_000).astype(np.float32)
    histogram = Histogram.of(values)
    assert (histogram.low, histogram.high) == (values.min(), values.max())
    expected, _ = np.histogram(values, 2 * HALF_BINS, (-histogram.extent, histogram.extent))
    assert np.abs(histogram.counts - expected).sum() <= 20  # values on a bin's edge
    assert histogram.counts.sum() == values.size
    assert histogram.magnitudes().sum() == values.size
    assert (np.abs(histogram.centres).max()) < histogram.extent


def test_magnitudes_fold_both_sides() -> None:
    one, other = Histogram.of(np.abs(NORMAL)), Histogram.of(-np.abs(NORMAL))
    assert np.abs(one.magnitudes() - other.magnitudes()).sum() < 0.001 * NORMAL.size  # on a bin's edge


@pytest.mark.parametrize("method", METHODS)
def test_a_uniform_tensor_keeps_its_whole_range(method: CalibrationMethod) -> None:
    values = RANDOM.uniform(-1, 1, 200_000).astype(np.float32)
    symmetric, asymmetric = (
        symmetric_range(Histogram.of(values), method),
        asymmetric_range(Histogram.of(values), method),
    )
    for found in (symmetric, asymmetric):
        assert found.high == pytest.approx(1, abs=0.02)
        assert found.low == pytest.approx(-1, abs=0.02)


def test_max_covers_everything() -> None:
    histogram = Histogram.of(np.array([-0.5, 0.25, 7.0], np.float32))
    assert (symmetric_range(histogram, "max").low, symmetric_range(histogram, "max").high) == (-7, 7)
    assert (asymmetric_range(histogram, "max").low, asymmetric_range(histogram, "max").high) == (-0.5, 7)


def test_percentile_leaves_out_one_in_ten_thousand() -> None:
    found = symmetric_range(Histogram.of(NORMAL), "percentile").high
    assert (np.abs(NORMAL) > found).mean() == pytest.approx(1e-4, abs=3e-5)
    both = asymmetric_range(Histogram.of(NORMAL), "percentile")
    assert ((both.high < NORMAL) | (both.low > NORMAL)).mean() == pytest.approx(1e-4, abs=3e-5)


@pytest.mark.parametrize("outlier", [4, 8, 20])
def test_mse_finds_the_least_error_that_a_search_over_values_finds(outlier: float) -> None:
    values = np.concatenate([NORMAL, [np.float32(outlier)] * 5])
    found = symmetric_range(Histogram.of(values), "mse").high
    best = min(error(values, -t, t, 254) for t in np.linspace(0.5, outlier, 300))
    assert error(values, -found, found, 254) <= 1.03 * best
    assert found <= outlier


def test_mse_draws_in_both_ends_apart() -> None:
    values = np.concatenate([np.tile(np.abs(NORMAL) - 0.5, 20), [np.float32(30)]]).astype(np.float32)
    found = asymmetric_range(Histogram.of(values), "mse")
    assert found.low == pytest.approx(-0.5, abs=0.05)
    assert 2.5 < found.high < 29
    whole = asymmetric_range(Histogram.of(values), "max")
    assert error(values, found.low, found.high, 255) < 0.5 * error(values, whole.low, whole.high, 255)


def test_entropy_spreads_each_level_over_its_occupied_bins_as_published() -> None:
    """The example of Migacz's slides: eight bins, two levels."""
    found = quantised_distribution(np.array([1, 0, 2, 3, 5, 3, 1, 7], np.float64), 2)
    assert found.tolist() == [2, 0, 2, 2, 4, 4, 4, 4]


def test_entropy_clips_a_lone_outlier() -> None:
    values = np.concatenate([NORMAL, [np.float32(40)]])
    found = symmetric_range(Histogram.of(values), "entropy").high
    assert 2.5 < found < 10


@pytest.mark.parametrize("method", METHODS)
def test_rectified_values_need_nothing_below_zero(method: CalibrationMethod) -> None:
    found = asymmetric_range(Histogram.of(np.clip(NORMAL, 0, 6)), method)
    assert found.low == 0
    assert 1 < found.high <= 6


@pytest.mark.parametrize("method", METHODS)
@given(st.lists(st.floats(-100, 100, width=32), min_size=1, max_size=40))
def test_every_range_holds_zero_and_has_a_width(method: CalibrationMethod, values: list[float]) -> None:
    histogram = Histogram.of(np.array(values, np.float32))
    for found in (symmetric_range(histogram, method), asymmetric_range(histogram, method)):
        assert found.low <= 0 <= found.high
        assert found.high > found.low
        assert found.high <= max(histogram.extent, 1e-8) * 1.001
        assert found.low >= -max(histogram.extent, 1e-8) * 1.001


def test_statistics_do_not_depend_on_the_batches() -> None:
    model, tensors = mobile_net(), ("planes_out", "expand_act_out", "residual_out")
    data = images(12)
    whole = collect(model, tensors, lambda: [data], threads=1)
    parts = collect(model, tensors, lambda: [data[:5], data[5:11], data[11:]], threads=1)
    for name in tensors:
        assert whole[name].high == pytest.approx(parts[name].high, rel=1e-5)
        assert np.abs(whole[name].counts - parts[name].counts).sum() < 0.01 * whole[name].counts.sum()


def test_groups_add_up_to_the_whole_set() -> None:
    model, tensors = mobile_net(), ("planes_out", "expand_act_out", "residual_out")
    data = [images(4, seed) for seed in range(3)]
    groups = collect_groups(model, tensors, lambda: ((number % 2, (batch,)) for number, batch in enumerate(data)))
    whole = collect(model, tensors, lambda: data)
    for name in tensors:
        merged = merge([groups[0][name], groups[1][name]])
        assert (merged.low, merged.high) == (whole[name].low, whole[name].high)
        np.testing.assert_array_equal(merged.counts, whole[name].counts)
        for method in METHODS:
            assert symmetric_range(merged, method) == symmetric_range(whole[name], method)
            assert asymmetric_range(merged, method) == asymmetric_range(whole[name], method)


def test_the_graphs_input_may_be_all_that_is_looked_at() -> None:
    batch = images(4)
    found = collect(mobile_net(), ["image"], lambda: [batch])["image"]
    assert (found.low, found.high) == (batch.min(), batch.max())


def test_a_model_without_layers_is_refused() -> None:
    assert "image" in tensors_to_calibrate(mobile_net())
    net = NetBuilder()
    with pytest.raises(BuildError, match="nothing to quantise: no convolution"):
        tensors_to_calibrate(net.model(net.node("Neg", "negative", "image"), 16, 16, 3))


def test_a_group_knows_only_its_own_extremes() -> None:
    quiet, loud = images(4) * 0.1, images(4)
    groups = collect_groups(mobile_net(), ["planes_out"], lambda: [(0, (quiet,)), (1, (loud,))])
    assert symmetric_range(groups[0]["planes_out"], "max").high == pytest.approx(np.abs(quiet).max())
    assert symmetric_range(groups[1]["planes_out"], "max").high == pytest.approx(np.abs(loud).max())


def test_progress_reaches_one() -> None:
    seen: list[float] = []
    collect(mobile_net(), ["planes_out"], lambda: [images(3), images(5)], seen.append)
    assert seen == [3 / 8, 1.0]


def test_an_empty_set_and_broken_numbers_are_errors() -> None:
    with pytest.raises(ValueError, match="calibration set is empty"):
        collect(mobile_net(), ["planes_out"], list)
    with pytest.raises(ValueError, match="stem_out holds NaN or infinity"):
        collect(mobile_net(), ["stem_out"], lambda: [np.full((1, 16, 16, 3), np.nan, np.float32)])
    with pytest.raises(ValueError, match="stem_out holds NaN or infinity"):
        collect(mobile_net(), ["stem_out"], lambda: [images(1), np.full((1, 16, 16, 3), np.nan, np.float32)])
