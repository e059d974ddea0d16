"""Tensors of Triton's gRPC protocol: one table of types, and raw contents to and from numpy."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from artifact.signature import DType

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class TypeNames:
    """One element type as Triton's wire, Triton's configuration, TensorFlow and numpy call it."""

    wire: str
    config: str
    tensorflow: str
    numpy: np.dtype[Any]


TYPES: Final[Mapping[DType, TypeNames]] = {
    "bool": TypeNames("BOOL", "TYPE_BOOL", "DT_BOOL", np.dtype(np.bool_)),
    "int8": TypeNames("INT8", "TYPE_INT8", "DT_INT8", np.dtype(np.int8)),
    "uint8": TypeNames("UINT8", "TYPE_UINT8", "DT_UINT8", np.dtype(np.uint8)),
    "int16": TypeNames("INT16", "TYPE_INT16", "DT_INT16", np.dtype(np.int16)),
    "int32": TypeNames("INT32", "TYPE_INT32", "DT_INT32", np.dtype(np.int32)),
    "int64": TypeNames("INT64", "TYPE_INT64", "DT_INT64", np.dtype(np.int64)),
    "float16": TypeNames("FP16", "TYPE_FP16", "DT_HALF", np.dtype(np.float16)),
    "float32": TypeNames("FP32", "TYPE_FP32", "DT_FLOAT", np.dtype(np.float32)),
    "float64": TypeNames("FP64", "TYPE_FP64", "DT_DOUBLE", np.dtype(np.float64)),
    "string": TypeNames("BYTES", "TYPE_STRING", "DT_STRING", np.dtype(np.object_)),
}
_BY_WIRE: Final = {names.wire: names.numpy for names in TYPES.values()}
_WIRE: Final = {names.numpy: names.wire for names in TYPES.values()}


def wire_type(array: Array) -> str:
    """Triton's name of an array's element type; object arrays hold bytes."""
    return _WIRE[array.dtype]


def to_raw(array: Array) -> bytes:
    """Contents in row-major order; elements of object arrays (bytes) carry their length in four bytes before them."""
    if array.dtype == np.object_:
        return b"".join(len(item).to_bytes(4, "little") + item for item in array.ravel())
    return array.tobytes()


def from_raw(raw: bytes, wire: str, shape: Iterable[int]) -> Array:
    """What `to_raw` wrote; read-only where it is numbers."""
    dtype = _BY_WIRE[wire]
    if dtype != np.object_:
        return np.frombuffer(raw, dtype).reshape(tuple(shape))
    items: list[bytes] = []
    at = 0
    while at < len(raw):
        end = at + 4 + int.from_bytes(raw[at : at + 4], "little")
        items.append(raw[at + 4 : end])
        at = end
    array = np.empty(len(items), np.object_)
    array[:] = items
    return array.reshape(tuple(shape))
