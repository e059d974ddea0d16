from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from artifact.signature import Preprocessing, TensorSpec
from model.errors import BuildError
from model.source.calibration import PhotoFiles, TensorRows, calibration_set, decode
from model.source.models import SourceModel
from tests.model.tiny import colour_jpeg

PREPROCESSING = Preprocessing(decoder="fast", height=8, width=8, mean=(0,) * 3, std=(1,) * 3)
ROWS = np.arange(35, dtype=np.float32).reshape(7, 5)
FLAGS = np.arange(7, dtype=np.int32)


def spec(name: str, dtype: Any, *shape: int) -> TensorSpec:
    return TensorSpec(name=name, dtype=dtype, shape=(-1, *shape), kind="tensor", tensor=name)


def model(*inputs: TensorSpec, preprocessing: Preprocessing | None = None) -> SourceModel:
    return cast("SourceModel", SimpleNamespace(inputs=inputs, preprocessing=preprocessing))


TWO = model(spec("x", "float32", 5), spec("flag", "int32"))
IMAGES = model(spec("image", "float32", 8, 8, 3), preprocessing=PREPROCESSING)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    (folder / "b.JPG").write_bytes(colour_jpeg("red"))
    (folder / "more" / "a.jpeg").write_bytes(colour_jpeg("blue"))
    (folder / "._b.jpg").write_bytes(b"of a Mac")
    (folder / "notes.txt").write_text("no photo")
    return folder


def test_photos_of_a_folder_or_tar_come_in_the_order_of_their_names(tmp_path: Path, photos: Path) -> None:
    found = calibration_set(str(photos), IMAGES, tmp_path / "work")
    assert isinstance(found, PhotoFiles)
    assert [path.name for path in found.paths] == ["b.JPG", "a.jpeg"]
    assert decode(found.paths[0], PREPROCESSING)[0, 0, 0] > 250
    with tarfile.open(tmp_path / "photos.tar.gz", "w:gz") as tar:
        tar.add(photos, "photos")
    packed = calibration_set(str(tmp_path / "photos.tar.gz"), IMAGES, tmp_path / "work")
    assert isinstance(packed, PhotoFiles)
    assert [path.read_bytes() for path in packed.paths] == [path.read_bytes() for path in found.paths]


def test_a_broken_photo_is_named(photos: Path) -> None:
    (photos / "c.jpg").write_bytes(colour_jpeg("red")[:200])
    with pytest.raises(BuildError, match=r"calibration photo c\.jpg: .*; repair it or take it out"):
        decode(photos / "c.jpg", PREPROCESSING)


def test_a_folder_without_photos_says_what_photos_are_called(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(BuildError, match=r"empty holds no photos: their names must end in \.jpg, \.jpeg, \.png"):
        calibration_set(str(tmp_path / "empty"), IMAGES, tmp_path / "work")


def test_photos_need_to_know_how_they_become_the_input(tmp_path: Path) -> None:
    said = r"set model\.preprocessing .* an \.npz file of its inputs \(x \['rows', 5\], flag \['rows'\]\)"
    with pytest.raises(BuildError, match=said):
        calibration_set("builtin", TWO, tmp_path)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_rows_of_tensors_are_read_in_the_order_of_the_inputs(tmp_path: Path, save: Any) -> None:
    save(tmp_path / "rows.npz", flag=FLAGS, x=ROWS, other=np.zeros(1))
    found = calibration_set(str(tmp_path / "rows.npz"), TWO, tmp_path / "work")
    assert isinstance(found, TensorRows)
    assert len(found) == 7
    batches = list(found.batches(3))
    assert [len(x) for x, _ in batches] == [3, 3, 1]
    np.testing.assert_array_equal(np.concatenate([x for x, _ in batches]), ROWS)
    np.testing.assert_array_equal(np.concatenate([flag for _, flag in batches]), FLAGS)
    np.testing.assert_array_equal(found.rows(2, 4)[0], ROWS[2:4])


def test_the_only_array_of_a_model_with_one_input_may_have_any_name(tmp_path: Path) -> None:
    np.savez(tmp_path / "rows.npz", ROWS)
    found = calibration_set(str(tmp_path / "rows.npz"), model(spec("x", "float32", 5)), tmp_path / "work")
    assert isinstance(found, TensorRows)
    np.testing.assert_array_equal(found.rows(0, 9)[0], ROWS)


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"x": ROWS}, r"rows\.npz has no array 'flag'; it has x: save one for each input"),
        ({"x": ROWS.astype(np.float64), "flag": FLAGS}, r"float64 \[7, 5\]; input x takes float32 \['rows', 5\]"),
        ({"x": ROWS[:, :4].copy(), "flag": FLAGS}, r"float32 \[7, 4\]; input x takes float32 \['rows', 5\]"),
        ({"x": ROWS, "flag": FLAGS[:3]}, r"different numbers of rows: \{'x': 7, 'flag': 3\}"),
        ({"x": ROWS[:0], "flag": FLAGS[:0]}, r"\[0, 5\]; .* at least one row"),
        ({"x": np.asfortranarray(ROWS), "flag": FLAGS}, r"'x' is in Fortran order: save numpy\.ascontiguousarray"),
        ({"x": np.array([{}]), "flag": FLAGS}, r"object \[1\]; input x takes float32"),
    ],
)
def test_arrays_that_do_not_suit_the_model_are_refused(tmp_path: Path, arrays: dict[str, Any], said: str) -> None:
    np.savez(tmp_path / "rows.npz", **arrays)
    with pytest.raises(BuildError, match=said):
        calibration_set(str(tmp_path / "rows.npz"), TWO, tmp_path / "work")


def test_a_damaged_file_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "rows.npz").write_bytes(b"PK")
    with pytest.raises(BuildError, match=r"rows\.npz is no readable \.npz file"):
        calibration_set(str(tmp_path / "rows.npz"), TWO, tmp_path / "work")


def test_an_array_that_ends_too_early_is_refused_as_its_rows_are_missing(tmp_path: Path) -> None:
    whole = io.BytesIO()
    np.save(whole, ROWS)
    with zipfile.ZipFile(tmp_path / "rows.npz", "w") as archive:
        archive.writestr("x.npy", whole.getvalue()[:-20])
    with pytest.raises(BuildError, match=r"array x in rows\.npz is cut off: it holds 120 bytes, \[7, 5\] are 140"):
        calibration_set(str(tmp_path / "rows.npz"), model(spec("x", "float32", 5)), tmp_path / "work")
