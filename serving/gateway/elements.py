"""JSON values as arrays of a signature's types, and arrays as JSON values: what both protocols share.

Follows FillTensorProto and AddValueToTensor of tensorflow_serving/util/json_tensor.cc.
"""

from __future__ import annotations

import binascii
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import pybase64

from artifact.signature import DType, TensorSpec
from serving.gateway.http import Json, bad_request
from serving.gateway.json_text import kind_of, numbers
from serving.tensors import TYPES, Array

_WHITESPACE: Final = b" \t\n\v\f\r"
_BYTES_SUFFIX: Final = "_bytes"
"""String outputs so named are answered as base64 objects (REST API, "Encoding binary values")."""


def is_b64(item: Json) -> bool:
    """Whether a value is `{"b64": ...}` and nothing else."""
    return isinstance(item, dict) and item.keys() == {"b64"}


def bytes_of(item: Json, where: str) -> bytes:
    """A string value: a base64 object, or JSON text.

    Like absl::Base64Unescape, with which TensorFlow Serving decodes, it takes base64 in lines and without its padding.

    Raises:
        HttpError: 400, it is neither.
    """
    if isinstance(item, str):
        return item.encode()
    if not is_b64(item) or not isinstance(item["b64"], str):
        raise bad_request(f'{where}: expected {{"b64": "<base64>"}}, got {kind_of(item)}')
    text: str = item["b64"]
    try:
        return pybase64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        # Few are wrapped or unpadded, and so the others need not be looked through.
        packed = text.encode().translate(None, _WHITESPACE)
        padding = b"" if b"=" in packed else b"=" * (-len(packed) % 4)
        try:
            return pybase64.b64decode(packed + padding, validate=True)
        except (binascii.Error, ValueError) as error:
            raise bad_request(f"{where}: invalid base64: {error}") from error


def array_of(items: Sequence[Any], spec: TensorSpec) -> Array:
    """Array [n, ...] of `spec`'s type and shape from n nested lists.

    Raises:
        HttpError: 400, ragged, or of another type or shape.
    """
    array = _strings(items, len(spec.shape)) if spec.dtype == "string" else numeric(items, spec.dtype)
    check_shape(array.shape, spec)
    return array


def numeric(items: Sequence[Any], dtype: DType) -> Array:
    """Array of nested lists of numbers or truth values, each of which `dtype` can hold.

    Raises:
        HttpError: 400, ragged, or of another type.
    """
    try:
        given = np.array(items)
    except (ValueError, OverflowError, RecursionError) as error:
        raise bad_request(f"expected a regular nested list of {dtype}: {error}") from error
    return _cast(given, items, dtype)


def check_shape(shape: Sequence[int], spec: TensorSpec) -> None:
    """Refuse what `spec` does not allow behind the batch dimension.

    Raises:
        HttpError: 400.
    """
    allowed, given = spec.shape[1:], shape[1:]
    if len(given) != len(allowed) or any(a not in (-1, s) for a, s in zip(allowed, given, strict=True)):
        raise bad_request(f"expected shape {list(allowed)}, got {list(given)}")


def has_boolean(item: Json) -> bool:
    """Whether nested lists hold true or false, which numpy takes for 1 and 0 among numbers."""
    level = [item]
    while level:
        value = level.pop()
        if isinstance(value, bool):
            return True
        if isinstance(value, list):
            level.extend(value)
    return False


def json_values(name: str, array: Array) -> Json:
    """What orjson takes for the output `name` of a signature."""
    if array.dtype != np.object_:
        return numbers(array)
    if name.endswith(_BYTES_SUFFIX):
        return np.vectorize(_base64_object, otypes=[np.object_])(array).tolist()
    return texts(array)


def json_rows(name: str, array: Array) -> Json:
    """`json_values` of each instance: an array [n, ...] as n values."""
    if array.dtype.kind == "f":
        return array if np.isfinite(array).all() else [numbers(row) for row in array]
    return json_values(name, array)


def texts(array: Array) -> Json:
    """An object array of UTF-8 as nested lists of strings; bytes that are none become U+FFFD."""
    return np.vectorize(lambda item: item.decode(errors="replace"), otypes=[np.object_])(array).tolist()


def _base64_object(item: bytes) -> dict[str, str]:
    return {"b64": pybase64.b64encode(item).decode()}


def _cast(given: Array, items: Sequence[Any], dtype: DType) -> Array:
    target = TYPES[dtype].numpy
    kinds = {"b": "b", "i": "iu", "u": "iu", "f": "iuf"}[target.kind]
    if given.dtype.kind not in kinds and given.size:
        kind = {"b": "true or false", "U": "text", "O": "objects or null", "f": "numbers with a fraction"}
        raise bad_request(f"expected {dtype}, got {kind.get(given.dtype.kind, 'numbers')}")
    if target.kind in "iu" and given.size:
        limits = np.iinfo(target)
        if given.min() < limits.min or given.max() > limits.max:
            raise bad_request(f"expected {dtype} from {limits.min} to {limits.max}, got numbers out of range")
    if target.kind == "f":
        _refuse_lossy_integers(given, items, dtype)
    with np.errstate(over="ignore"):
        array = given.astype(target)
    if target.kind == "f" and not np.array_equal(np.isinf(array), np.isinf(given)):
        raise bad_request(f"expected {dtype}, got numbers out of range")
    return array


def _refuse_lossy_integers(given: Array, items: Sequence[Any], dtype: DType) -> None:
    """Whole numbers that the type cannot tell from their neighbours (IsLosslessDecimal of json_tensor.cc)."""
    greatest = 2 ** (np.finfo(TYPES[dtype].numpy).nmant + 1) - 1
    finite = given[np.isfinite(given)] if given.dtype.kind == "f" else given
    if finite.size and (finite.max() > greatest or finite.min() < -greatest) and _has_integer(items, greatest):
        raise bad_request(f"expected {dtype}, got whole numbers beyond {greatest}, which it cannot hold exactly")


def _has_integer(items: Sequence[Any], greatest: int) -> bool:
    level = list(items)
    while level:
        value = level.pop()
        if isinstance(value, list):
            level.extend(value)
        elif isinstance(value, int) and abs(value) > greatest:
            return True
    return False


def _strings(items: Sequence[Any], rank: int) -> Array:
    """Object array [n, ...] of bytes, from lists nested `rank` deep."""
    level: list[Any] = list(items)
    shape = [len(level)]
    for _ in range(rank - 1):
        widths = {len(item) if isinstance(item, list) else -1 for item in level}
        if len(widths) != 1 or -1 in widths:
            raise bad_request(f"expected strings in lists nested {rank} deep")
        shape.append(widths.pop())
        level = [item for inner in level for item in inner]
    array = np.empty(len(level), np.object_)
    array[:] = [bytes_of(item, "string") for item in level]
    return array.reshape(shape)
