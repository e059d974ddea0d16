"""Preprocessing that a model brings itself: where its steps put pixels, and what they make of them."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import simplejpeg
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from artifact.geometry import Size, Window, cropped, padded, resized
from artifact.preprocessing import ImageError, decode_scale, load_floats, load_image
from artifact.resampling import resample, taps
from artifact.signature import Crop, Pad, Preprocessing, Resize, Step
from tests.artifact.test_preprocessing import FAST, expected, photo, png

SHORT_SIDE = Resize(to="short_side", height=256, width=256, method="bilinear", coordinates="legacy")
MIDDLE = Crop(of="pixels", height=224, width=224)


def prep(*steps: Step, height: int = 64, width: int = 64, **more: Any) -> Preprocessing:
    return Preprocessing(
        decoder="exact", steps=steps, height=height, width=width, mean=(0, 0, 0), std=(1, 1, 1), **more
    )


def line(values: list[int]) -> npt.NDArray[np.uint8]:
    """A picture one pixel high, grey."""
    return np.repeat(np.array(values, np.uint8)[None, :, None], 3, axis=2)


def widened(values: list[int], width: int, **how: Any) -> list[float]:
    step = Resize(to="size", height=1, width=width, **how)
    rows, columns = taps(step, 0, (1, 1), 0, 1), taps(step, 1, (len(values), width), 0, width)
    return [round(float(value), 3) for value in resample(line(values), rows, columns)[0, :, 0]]


def test_the_kinds_of_coordinates_place_pixels_where_tensorflow_does() -> None:
    ramp = [0, 100]
    assert widened(ramp, 4, method="bilinear") == [0, 25, 75, 100]
    assert widened(ramp, 4, method="bilinear", coordinates="legacy") == [0, 50, 100, 100]
    assert widened(ramp, 5, method="bilinear", coordinates="align_corners") == [0, 25, 50, 75, 100]
    assert widened(ramp, 3, method="bilinear", box=(0, 0.5, 0, 1)) == [50, 75, 100]
    assert widened(ramp, 3, method="bilinear", box=(0, 0, 0, 2)) == [0, 100, 0]


def test_area_averages_and_antialias_looks_at_every_pixel() -> None:
    assert widened([0, 30, 60, 90], 2, method="area", coordinates="legacy") == [15, 75]
    assert widened([0, 0, 0, 0, 80, 0, 0, 0], 2, method="bilinear") == [0, 0]
    assert widened([0, 0, 0, 0, 80, 0, 0, 0], 2, method="bilinear", antialias=True)[1] > 10


def test_a_cubic_filter_overshoots_and_bytes_do_not() -> None:
    edge = np.repeat(line([0, 0, 0, 255, 255, 255]), 6, axis=0)
    cubic = prep(Resize(to="size", height=64, width=64, method="bicubic"))
    floats = load_floats(png(edge), cubic)
    assert floats.min() < -5
    assert floats.max() > 260
    rounded = load_image(png(edge), cubic)
    assert (rounded.min(), rounded.max()) == (0, 255)
    np.testing.assert_array_equal(rounded, np.rint(np.clip(floats, 0, 255)))


def test_floats_become_bytes_by_rounding_or_as_the_model_does() -> None:
    half = Resize(to="size", height=1, width=4, method="bilinear")
    data = png(line([0, 102]))
    assert load_image(data, prep(half, height=1, width=4))[0, :, 0].tolist() == [0, 26, 76, 102]
    assert load_image(data, prep(half, height=1, width=4, to_bytes="truncate"))[0, :, 0].tolist() == [0, 25, 76, 102]


def test_a_short_side_is_computed_in_float32_as_the_official_resnet_does() -> None:
    truncated = [h for h in range(256, 700) if resized(SHORT_SIDE, Size.of(h, 900)).height == 255]
    assert truncated, "256 / height * height is below 256 in float32 for some heights"
    exactly = SHORT_SIDE.model_copy(update={"arithmetic": "integer"})
    assert all(resized(exactly, Size.of(h, 900)).height == 256 for h in truncated)
    assert resized(SHORT_SIDE, Size.of(375, 500)).width == 341
    assert resized(SHORT_SIDE, Size.of(500, 375)).height == 341


def test_a_picture_is_fitted_within_a_size() -> None:
    within = Resize(to="within", height=100, width=200, method="bilinear", rounding="nearest")
    after = [resized(within, Size.of(*size)) for size in ((400, 400), (100, 600), (50, 100))]
    assert [(size.height, size.width) for size in after] == [(100, 100), (33, 200), (100, 200)]


def test_crops_are_in_the_middle_and_say_where_half_a_pixel_goes() -> None:
    size = Size.of(257, 302)
    assert cropped(MIDDLE, size) == Window(16, 39, 224, 224)
    assert cropped(MIDDLE.model_copy(update={"offset": "ceil"}), size) == Window(17, 39, 224, 224)
    assert cropped(MIDDLE.model_copy(update={"offset": "nearest"}), size) == Window(16, 39, 224, 224)
    assert cropped(MIDDLE, Size.of(100, 300)) == Window(0, 38, 100, 224)
    square = Crop(of="short_side", fraction=0.875)
    assert cropped(square, size) == Window(16, 39, 224, 224)
    # tf.image.central_crop of 0.875: margins of 16.06 and 18.875 pixels, truncated.
    assert cropped(Crop(of="sides", fraction=0.875), size) == Window(16, 18, 225, 266)


def test_padding_reckons_with_the_side_before_it_was_rounded() -> None:
    letterbox = Resize(to="within", height=10, width=10, method="bilinear", arithmetic="divide")
    size = resized(letterbox, Size.of(45, 100))
    assert (size.height, size.exact[0]) == (4, 4.5)
    assert padded(Pad(height=10, width=10), size) == (3, 0)
    assert padded(Pad(height=10, width=10, offset="unrounded"), size) == (2, 0)


def test_a_padded_picture_has_the_colour_around_it() -> None:
    steps = (Resize(to="within", height=64, width=64, method="bilinear"), Pad(height=64, width=64, value=7))
    image = load_image(png(np.full((20, 40, 3), 200, np.uint8)), prep(*steps))
    assert (image[:16] == 7).all()
    assert (image[16:48] == 200).all()
    assert (image[48:] == 7).all()


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 90), st.integers(2, 90), st.sampled_from(["bilinear", "bicubic", "area", "nearest", "lanczos3"]))
def test_cropping_while_resizing_is_cropping_after_it(height: int, width: int, method: Any) -> None:
    pixels = np.random.default_rng(height * 100 + width).integers(0, 256, (height, width, 3)).astype(np.uint8)
    grown = resized(
        Resize(to="short_side", height=70, width=70, method=method, arithmetic="integer"), Size.of(height, width)
    )
    step = Resize(to="size", height=grown.height, width=grown.width, method=method)
    whole = load_floats(png(pixels), prep(step, height=grown.height, width=grown.width))
    window = cropped(Crop(of="pixels", height=64, width=64), grown)
    part = load_floats(png(pixels), prep(step, Crop(of="pixels", height=64, width=64)))
    inside = whole[window.top : window.top + 64, window.left : window.left + 64]
    np.testing.assert_array_equal(part, inside)


@pytest.mark.parametrize("decoder", ["exact", "fast"])
def test_a_very_thin_picture_takes_no_more_memory_than_its_crop(decoder: Any) -> None:
    method: Any = "fast" if decoder == "fast" else "bilinear"
    steps = (SHORT_SIDE.model_copy(update={"method": method}), MIDDLE)
    thin = prep(*steps, height=224, width=224).model_copy(update={"decoder": decoder})
    # As a whole, its 256 rows would be 15 million pixels long.
    assert load_image(png(np.full((1, 60000, 3), 9, np.uint8)), thin).tolist() == np.full((224, 224, 3), 9).tolist()


def test_a_picture_that_is_too_small_for_the_steps_is_refused() -> None:
    with pytest.raises(ImageError, match="makes 50 x 40 pixels of this image, and the model takes 64 x 64"):
        load_image(png(photo(40, 50)), prep(Crop(of="pixels", height=64, width=64)))


QUICK = (
    Resize(to="short_side", height=73, width=73, method="fast"),
    Crop(of="pixels", height=64, width=64),
)


@pytest.mark.parametrize(("height", "width"), [(300, 400), (1200, 900), (80, 75)])
def test_the_fast_form_of_steps_gives_the_same_picture(height: int, width: int) -> None:
    quick = prep(*QUICK).model_copy(update={"decoder": "fast"})
    image = load_image(simplejpeg.encode_jpeg(photo(height, width), 98), quick)
    assert image.dtype == np.uint8
    inner = (slice(2, -2), slice(2, -2))
    assert np.abs(image[inner] - expected(height, width, fraction=64 / 73)[inner]).mean() < 3


def test_the_fast_form_of_a_box_reads_that_box() -> None:
    box = Resize(to="size", height=64, width=64, method="fast", box=(0.25, 0.25, 0.75, 0.75))
    exact = box.model_copy(update={"method": "bilinear"})
    data = png(photo(300, 300))
    assert np.abs(load_floats(data, prep(box)) - load_floats(data, prep(exact))).mean() < 2


def test_scaled_decoding_keeps_enough_pixels_for_the_steps() -> None:
    quick = prep(*QUICK).model_copy(update={"decoder": "fast"})
    assert [decode_scale(side, side, quick) for side in (72, 144, 145, 288, 289, 576, 577)] == [1, 1, 2, 2, 4, 4, 8]
    assert decode_scale(8000, 8000, prep(*QUICK)) == 1
    counted = quick.model_copy(update={"steps": (Crop(of="pixels", height=500, width=500), *QUICK)})
    assert decode_scale(8000, 8000, counted) == 1
    shared = quick.model_copy(update={"steps": (Crop(of="sides", fraction=0.5), *QUICK)})
    assert decode_scale(292, 292, shared) == 2


def test_without_steps_pixels_are_what_opencv_makes_of_the_crop() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (300, 400, 3)).astype(np.uint8)
    crop = np.ascontiguousarray(pixels[19:281, 69:331])
    wanted = cv2.resize(crop, (64, 64), interpolation=cv2.INTER_LINEAR)
    np.testing.assert_array_equal(load_image(png(cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)), FAST), wanted)


def test_a_signature_of_an_older_artifact_is_read() -> None:
    older = (
        '{"decoder": "fast", "interpolation": "linear", "cropFraction": 0.875, "height": 224, "width": 224,'
        ' "mean": [127, 127, 127], "std": [128, 128, 128]}'
    )
    read = Preprocessing.model_validate_json(older)
    assert (read.crop_fraction, read.steps, read.to_bytes) == (0.875, (), "nearest")
    assert Preprocessing.model_validate_json(read.model_dump_json(by_alias=True)) == read


@pytest.mark.parametrize("step", [{"kind": "sharpen"}, {"kind": "crop", "of": "pixels", "depth": 3}, {"height": 3}])
def test_a_step_that_is_not_known_is_refused(step: dict[str, Any]) -> None:
    whole = prep(MIDDLE).model_dump(mode="json", by_alias=True)
    assert Preprocessing.model_validate(whole).steps == (MIDDLE,)
    with pytest.raises(ValidationError):
        Preprocessing.model_validate(whole | {"steps": [step]})
