"""Read a PyTorch checkpoint of the format before 1.6 with NumPy alone.

The file is five things in a row: three pickles (magic number, protocol version, system information), the pickled
state dict whose tensors name their storages, the pickled list of storage keys, and each storage's length and raw bytes
(torch/serialization.py, `_legacy_load`).
"""

from __future__ import annotations

import collections
import pickle
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
import numpy.typing as npt

_MAGIC: Final = 0x1950A86A20F9469CFC6C
_PROTOCOL: Final = 1001
_DTYPES: Final = {
    "FloatStorage": np.dtype("<f4"),
    "DoubleStorage": np.dtype("<f8"),
    "HalfStorage": np.dtype("<f2"),
    "LongStorage": np.dtype("<i8"),
    "IntStorage": np.dtype("<i4"),
}


class CheckpointError(ValueError):
    """The file is no checkpoint of this format, or holds something that a checkpoint of plain tensors does not."""


@dataclass(slots=True)
class _Storage:
    dtype: np.dtype[Any]
    length: int
    values: npt.NDArray[Any] = field(default_factory=lambda: np.empty(0))


@dataclass(frozen=True, slots=True)
class _Tensor:
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def array(self) -> npt.NDArray[Any]:
        extent = 1 + sum((size - 1) * stride for size, stride in zip(self.shape, self.strides, strict=True))
        if self.offset < 0 or min(self.strides, default=0) < 0 or self.offset + extent > self.storage.length:
            raise CheckpointError(f"a tensor of shape {self.shape} reaches outside its storage")
        strides = [stride * self.storage.dtype.itemsize for stride in self.strides]
        window = self.storage.values[self.offset :]
        return np.lib.stride_tricks.as_strided(window, self.shape, strides).copy()


class _Unpickler(pickle.Unpickler):
    """Makes tensors, ordered dicts and nothing else: a checkpoint is somebody else's code until it is refused."""

    def __init__(self, stream: IO[bytes]) -> None:
        super().__init__(stream)
        self.storages: dict[str, _Storage] = {}

    def find_class(self, module: str, name: str) -> Any:  # noqa: ANN401 - the pickle protocol's own type
        allowed: dict[tuple[str, str], Callable[..., Any]] = {
            ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
            ("collections", "OrderedDict"): collections.OrderedDict,
        }
        if (module, name) in allowed:
            return allowed[module, name]
        if module == "torch" and name in _DTYPES:
            return _DTYPES[name]
        raise CheckpointError(f"the checkpoint wants {module}.{name}, which no checkpoint of plain tensors needs")

    def persistent_load(self, pid: Any) -> _Storage:  # noqa: ANN401 - the pickle protocol's own type
        _, dtype, key, _, length = pid[:5]
        return self.storages.setdefault(key, _Storage(dtype, length))


def _rebuild_tensor(
    storage: _Storage, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *_: object
) -> _Tensor:
    return _Tensor(storage, offset, tuple(shape), tuple(strides))


def read_checkpoint(path: Path) -> dict[str, npt.NDArray[Any]]:
    """The state dict: parameter name -> array in PyTorch's layout.

    Raises:
        CheckpointError: another format, truncated, or naming anything but tensors.
    """
    try:
        with path.open("rb") as stream:
            return _read(stream)
    except (pickle.UnpicklingError, EOFError, struct.error, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path} is no PyTorch checkpoint of the format before 1.6: {error}") from error


def _read(stream: IO[bytes]) -> dict[str, npt.NDArray[Any]]:
    if _Unpickler(stream).load() != _MAGIC or _Unpickler(stream).load() != _PROTOCOL:
        raise CheckpointError(f"{stream.name} does not start as a PyTorch checkpoint of the format before 1.6 does")
    _Unpickler(stream).load()
    unpickler = _Unpickler(stream)
    tensors: dict[str, _Tensor] = unpickler.load()
    for key in _Unpickler(stream).load():
        storage = unpickler.storages[key]
        (length,) = struct.unpack("<q", stream.read(8))
        content = stream.read(storage.length * storage.dtype.itemsize)
        storage.values = np.frombuffer(content, storage.dtype)
        if length != storage.length or len(storage.values) != storage.length:
            raise CheckpointError(
                f"{stream.name} is truncated: storage {key} has {len(storage.values)} of {length} values"
            )
    return {name: tensor.array() for name, tensor in tensors.items()}
