from __future__ import annotations

import collections
import io
import os
import pickle
import struct
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model.source.photos import calibration_photos, evaluation_photos
from model.source.torch_checkpoint import CheckpointError, read_checkpoint


class Tensor:
    """Pickles itself as PyTorch does: a function of torch._utils over a persistent storage."""

    def __init__(self, key: str, offset: int, size: tuple[int, ...], stride: tuple[int, ...]) -> None:
        self.key, self.offset, self.size, self.stride = key, offset, size, stride

    def __reduce__(self) -> tuple[Any, ...]:
        rebuild = sys.modules["torch._utils"]._rebuild_tensor_v2
        return rebuild, (Storage(self.key), self.offset, self.size, self.stride, False, collections.OrderedDict())


class Storage:
    def __init__(self, key: str) -> None:
        self.key = key


@pytest.fixture
def torch_names() -> Iterator[types.ModuleType]:
    """Modules with PyTorch's names, as the pickler looks them up; gone again when the file is read."""
    torch, inner = types.ModuleType("torch"), types.ModuleType("torch._utils")

    def _rebuild_tensor_v2(*_: object) -> None:
        raise AssertionError("only its name is pickled")

    _rebuild_tensor_v2.__module__, _rebuild_tensor_v2.__qualname__ = "torch._utils", "_rebuild_tensor_v2"
    inner._rebuild_tensor_v2 = _rebuild_tensor_v2  # type: ignore[attr-defined]
    torch.FloatStorage = type("FloatStorage", (), {"__module__": "torch"})  # type: ignore[attr-defined]
    sys.modules.update({"torch": torch, "torch._utils": inner})
    yield torch
    del sys.modules["torch"], sys.modules["torch._utils"]


def checkpoint(torch: types.ModuleType, state: object, values: np.ndarray[Any, np.dtype[np.float32]]) -> bytes:
    """The bytes that torch.save wrote before 1.6, with one storage of `values` named "0"."""

    class Pickler(pickle.Pickler):
        def persistent_id(self, obj: object) -> tuple[Any, ...] | None:
            if not isinstance(obj, Storage):
                return None
            return ("storage", torch.FloatStorage, obj.key, "cpu", len(values), None)

    stream = io.BytesIO()
    for header in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}):
        pickle.dump(header, stream, protocol=2)
    Pickler(stream, protocol=2).dump(state)
    pickle.dump(["0"], stream, protocol=2)
    return stream.getvalue() + struct.pack("<q", len(values)) + values.astype("<f4").tobytes()


VALUES = np.arange(12, dtype=np.float32)


def test_tensors_are_read_with_offset_and_strides(tmp_path: Path, torch_names: types.ModuleType) -> None:
    state = collections.OrderedDict(
        whole=Tensor("0", 0, (3, 4), (4, 1)), turned=Tensor("0", 0, (4, 3), (1, 4)), part=Tensor("0", 5, (2,), (3,)),
        scalar=Tensor("0", 7, (), ()),
    )  # fmt: skip
    (tmp_path / "c.pth").write_bytes(checkpoint(torch_names, state, VALUES))
    read = read_checkpoint(tmp_path / "c.pth")
    np.testing.assert_array_equal(read["whole"], VALUES.reshape(3, 4))
    np.testing.assert_array_equal(read["turned"], VALUES.reshape(3, 4).T)
    np.testing.assert_array_equal(read["part"], [5, 8])
    assert read["scalar"] == 7


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch evil",)


@pytest.mark.parametrize("place", ["state", "header"])
def test_a_checkpoint_that_runs_code_is_refused(
    tmp_path: Path, torch_names: types.ModuleType, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    monkeypatch.chdir(tmp_path)
    content = checkpoint(torch_names, {"evil": Evil()}, VALUES) if place == "state" else pickle.dumps(Evil(), 2)
    (tmp_path / "c.pth").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"wants posix\.system"):
        read_checkpoint(tmp_path / "c.pth")
    assert not (tmp_path / "evil").exists()


@pytest.mark.parametrize(
    "tensor", [(0, (13,), (1,)), (11, (2,), (1,)), (0, (4, 4), (4, 1)), (-1, (2,), (1,)), (5, (2,), (-1,))]
)
def test_a_tensor_outside_its_storage_is_refused(
    tmp_path: Path, torch_names: types.ModuleType, tensor: tuple[int, tuple[int, ...], tuple[int, ...]]
) -> None:
    (tmp_path / "c.pth").write_bytes(checkpoint(torch_names, {"t": Tensor("0", *tensor)}, VALUES))
    with pytest.raises(CheckpointError, match="outside its storage"):
        read_checkpoint(tmp_path / "c.pth")


@pytest.mark.parametrize("keep", [0, 5, 60, -4])
def test_a_truncated_checkpoint_is_refused(tmp_path: Path, torch_names: types.ModuleType, keep: int) -> None:
    content = checkpoint(torch_names, {"t": Tensor("0", 0, (12,), (1,))}, VALUES)
    (tmp_path / "c.pth").write_bytes(content[:keep])
    with pytest.raises(CheckpointError):
        read_checkpoint(tmp_path / "c.pth")


def test_another_format_is_refused(tmp_path: Path) -> None:
    (tmp_path / "zip.pth").write_bytes(b"PK\x03\x04" + b"\0" * 100)
    (tmp_path / "other.pth").write_bytes(pickle.dumps(1))
    for name in ("zip.pth", "other.pth"):
        with pytest.raises(CheckpointError):
            read_checkpoint(tmp_path / name)


def test_the_packaged_photos_are_there_and_apart() -> None:
    calibration, evaluation = calibration_photos(), evaluation_photos()
    assert len(calibration) == 100
    assert len(evaluation) == 20
    assert all(0 <= photo.label < 1000 for photo in evaluation)
    contents = {path.read_bytes() for path in calibration}
    assert not [photo for photo in evaluation if photo.path.read_bytes() in contents]
