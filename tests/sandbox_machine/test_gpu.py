from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.machine.gpu import utilisation

COUNTS = st.dictionaries(st.sampled_from(["a", "b", "c"]), st.floats(0, 1e6), max_size=3)
GPU_OF = {"a": 0, "b": 1, "c": 1}


def test_images_times_time_per_image_over_wall_time() -> None:
    busy = utilisation({"a": 100.0}, {"a": 600.0, "b": 250.0}, GPU_OF, 2, ms_per_image=2.0, window_s=2.0)
    assert busy == [50.0, 25.0]


def test_models_on_one_gpu_add_up_and_saturate() -> None:
    busy = utilisation({}, {"b": 400.0, "c": 200.0}, GPU_OF, 2, ms_per_image=2.0, window_s=2.0)
    assert busy == [0.0, 60.0]
    assert utilisation({}, {"b": 5000.0}, GPU_OF, 2, ms_per_image=2.0, window_s=2.0) == [0.0, 100.0]


def test_counter_that_was_reset_counts_from_zero() -> None:
    assert utilisation({"a": 10_000.0}, {"a": 500.0}, GPU_OF, 1, ms_per_image=2.0, window_s=2.0) == [50.0]


def test_no_triton_is_idle_and_unknown_models_count_nowhere() -> None:
    assert utilisation({"a": 100.0}, {}, GPU_OF, 2, ms_per_image=2.0, window_s=2.0) == [0.0, 0.0]
    assert utilisation({}, {"x": 100.0}, GPU_OF, 2, ms_per_image=2.0, window_s=2.0) == [0.0, 0.0]


@given(before=COUNTS, after=COUNTS, gpus=st.integers(0, 4), window_s=st.floats(0.1, 100))
def test_always_a_percentage_for_every_gpu(
    before: dict[str, float], after: dict[str, float], gpus: int, window_s: float
) -> None:
    busy = utilisation(before, after, GPU_OF, gpus, ms_per_image=2.0, window_s=window_s)
    assert len(busy) == gpus
    assert all(0.0 <= percent <= 100.0 for percent in busy)


@pytest.mark.parametrize("scale", [0.5, 2.0])
def test_follows_the_setting(scale: float) -> None:
    assert utilisation({}, {"a": 100.0}, GPU_OF, 1, ms_per_image=scale, window_s=1.0) == [10.0 * scale]
