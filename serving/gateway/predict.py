"""`:predict` of TensorFlow Serving's REST API v1: JSON to tensors and back, row and column form.

Follows tensorflow_serving/util/json_tensor.cc. What an input takes and an output gives is read from the signature.
"""

from __future__ import annotations

import binascii
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import orjson
import pybase64

from artifact.signature import DType, Signature, SignatureFile, TensorSpec
from serving.gateway.http import HttpError, Json, bad_request
from serving.tensors import TYPES, Array

DEFAULT_SIGNATURE: Final = "serving_default"
_BYTES_SUFFIX: Final = "_bytes"
"""String outputs so named are answered as base64 objects (REST API, "Encoding binary values")."""


@dataclass(frozen=True, slots=True)
class Predict:
    """A request whose JSON is understood.

    `images` holds encoded images by input name, `tensors` arrays [count, ...] in the signature's types.
    """

    signature: Signature
    layout: Literal["instances", "inputs"]
    count: int
    images: dict[str, list[bytes]]
    tensors: dict[str, Array]


def parse(body: bytes, signatures: SignatureFile) -> Predict:
    """Understand a request body.

    Raises:
        HttpError: 400; the text names what is wrong, where, and what is allowed.
    """
    document = _document(body)
    signature = _signature(document, signatures)
    row = "instances" in document
    if row == ("inputs" in document):
        raise bad_request("the request must hold either 'instances' (row form) or 'inputs' (column form)")
    layout: Literal["instances", "inputs"] = "instances" if row else "inputs"
    values = _rows(document["instances"], signature) if row else _columns(document["inputs"], signature)
    count = _count(values, layout, signature.max_batch)
    # numpy takes true for 1 among numbers. Looking for the words first spares most requests the walk.
    has_booleans = b"true" in body or b"false" in body
    images: dict[str, list[bytes]] = {}
    tensors: dict[str, Array] = {}
    for spec in signature.inputs:
        where = _Where(layout, spec.name, named=len(signature.inputs) > 1)
        items = values[spec.name]
        if spec.kind == "jpeg":
            images[spec.name] = [_bytes_of(item, where.at(index)) for index, item in enumerate(items)]
        else:
            if has_booleans and spec.dtype not in ("bool", "string"):
                _refuse_booleans(items, spec, where)
            tensors[spec.name] = _tensor(items, spec, where)
    return Predict(signature, layout, count, images, tensors)


def answer(request: Predict, outputs: Mapping[str, Array]) -> bytes:
    """JSON of the answer to `request`, from the graph's outputs [count, ...] by name."""
    arrays = {spec.name: _output(spec, outputs[spec.tensor]) for spec in request.signature.outputs}
    values = {name: _values(name, array) for name, array in arrays.items()}
    lone = next(iter(values.values())) if len(values) == 1 else None
    if request.layout == "inputs":
        document: dict[str, Any] = {"outputs": values if lone is None else lone}
    elif lone is not None:
        document = {"predictions": lone}
    else:
        document = {"predictions": [{name: v[i] for name, v in values.items()} for i in range(request.count)]}
    if any(a.dtype.kind == "f" and not np.isfinite(a).all() for a in arrays.values()):
        # NaN and Infinity are no JSON, but TensorFlow Serving writes them, and orjson would write null.
        return json.dumps(document, default=lambda array: array.tolist()).encode() + b"\n"
    return orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE)


@dataclass(frozen=True, slots=True)
class _Where:
    """Names a place in the request."""

    layout: Literal["instances", "inputs"]
    name: str
    named: bool

    def at(self, index: int) -> str:
        if self.layout == "instances":
            return f"instances[{index}].{self.name}" if self.named else f"instances[{index}]"
        return f"inputs.{self.name}[{index}]" if self.named else f"inputs[{index}]"


def _document(body: bytes) -> dict[str, Any]:
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        document = _lenient(body, error)
    if not isinstance(document, dict):
        raise bad_request(f"the request must be a JSON object, not {_kind(document)}")
    return document


def _lenient(body: bytes, error: ValueError) -> Json:
    """NaN and Infinity are accepted by TensorFlow Serving (and by Python's parser), but by no strict one."""
    if not body:
        raise bad_request("JSON parse error: the document is empty")
    if b"NaN" in body or b"Infinity" in body:
        try:
            return json.loads(body)
        except (ValueError, RecursionError):
            pass
    raise bad_request(f"JSON parse error: {error}")


def _signature(document: Mapping[str, Any], signatures: SignatureFile) -> Signature:
    name = document.get("signature_name", DEFAULT_SIGNATURE)
    if not isinstance(name, str):
        raise bad_request(f"'signature_name' must be a string, not {_kind(name)}")
    signature = signatures.signatures.get(name or DEFAULT_SIGNATURE)
    if signature is None:
        known = ", ".join(sorted(signatures.signatures))
        raise bad_request(f"'signature_name': the model has no signature {name!r}; it has {known}")
    return signature


def _rows(instances: Json, signature: Signature) -> dict[str, Sequence[Any]]:
    """Values by input name: plain values where there is one input, objects with every input's name otherwise."""
    if not isinstance(instances, list):
        raise bad_request(f"'instances' must be a list, not {_kind(instances)}")
    names = [spec.name for spec in signature.inputs]
    if not instances or not _is_named(instances[0], names):
        if instances and len(names) > 1:
            raise bad_request(f"instances[0] must be an object with the inputs {', '.join(names)}")
        for index, item in enumerate(instances):
            if isinstance(item, dict) and not _is_b64(item):
                raise bad_request(f"instances[{index}]: {_unexpected(item, names)}")
        return {names[0]: instances}
    for index, item in enumerate(instances):
        if not isinstance(item, dict) or item.keys() != set(names):
            raise bad_request(f"instances[{index}]: {_unexpected(item, names)}")
    return {name: [item[name] for item in instances] for name in names}


def _columns(inputs: Json, signature: Signature) -> dict[str, Sequence[Any]]:
    names = [spec.name for spec in signature.inputs]
    if not _is_named(inputs, names):
        if len(names) > 1 or (isinstance(inputs, dict) and not _is_b64(inputs)):
            raise bad_request(f"inputs: {_unexpected(inputs, names)}")
        inputs = {names[0]: inputs}
    elif inputs.keys() != set(names):
        raise bad_request(f"inputs: {_unexpected(inputs, names)}")
    for name, value in inputs.items():
        if not isinstance(value, list):
            raise bad_request(f"inputs: {name} must be a list with one entry an instance, not {_kind(value)}")
    columns: dict[str, Sequence[Any]] = inputs
    return columns


def _count(values: Mapping[str, Sequence[Any]], layout: str, max_batch: int) -> int:
    """How many instances there are, checked before any of them is looked at."""
    counts = {name: len(items) for name, items in values.items()}
    count = next(iter(counts.values()))
    if any(other != count for other in counts.values()):
        raise bad_request(f"{layout}: all inputs must have the same number of rows, not {counts}")
    if count == 0:
        raise bad_request(f"{layout}: at least one instance is needed, none given")
    if count > max_batch:
        raise bad_request(f"{layout}: {count} instances given, at most {max_batch} are taken in one request")
    return count


def _is_named(item: Json, names: Sequence[str]) -> bool:
    return isinstance(item, dict) and (not _is_b64(item) or "b64" in names) and any(name in item for name in names)


def _is_b64(item: Json) -> bool:
    return isinstance(item, dict) and item.keys() == {"b64"}


def _unexpected(item: Json, names: Sequence[str]) -> str:
    given = f"an object with {', '.join(map(repr, item)) or 'no keys'}" if isinstance(item, dict) else _kind(item)
    return f"expected an object with {', '.join(map(repr, names))}, got {given}"


def _bytes_of(item: Json, where: str) -> bytes:
    """A string value: a base64 object, or JSON text."""
    if isinstance(item, str):
        return item.encode()
    if not _is_b64(item) or not isinstance(item["b64"], str):
        raise bad_request(f'{where}: expected {{"b64": "<base64>"}}, got {_kind(item)}')
    try:
        return pybase64.b64decode(item["b64"], validate=True)
    except (binascii.Error, ValueError) as error:
        raise bad_request(f"{where}: invalid base64: {error}") from error


def _tensor(items: Sequence[Any], spec: TensorSpec, where: _Where) -> Array:
    """Array of the spec's type and shape; where that fails, the first item at fault is named."""
    try:
        return _array(items, spec)
    except HttpError as whole:
        shapes = set()
        for index, item in enumerate(items):
            try:
                shapes.add(_array([item], spec).shape)
            except HttpError as error:
                raise bad_request(f"{where.at(index)}: {error}") from None
        if len(shapes) > 1:
            raise bad_request(f"{where.name}: all instances must have the same shape") from None
        raise whole from None


def _refuse_booleans(items: Sequence[Any], spec: TensorSpec, where: _Where) -> None:
    for index, item in enumerate(items):
        level = [item]
        while level:
            value = level.pop()
            if isinstance(value, bool):
                raise bad_request(f"{where.at(index)}: expected {spec.dtype}, got true or false")
            if isinstance(value, list):
                level.extend(value)


def _array(items: Sequence[Any], spec: TensorSpec) -> Array:
    target = TYPES[spec.dtype].numpy
    if spec.dtype == "string":
        array = _strings(items, len(spec.shape))
    else:
        try:
            given = np.array(items)
        except (ValueError, OverflowError, RecursionError) as error:
            raise bad_request(f"expected a regular nested list of {spec.dtype}: {error}") from error
        array = _cast(given, spec.dtype, target)
    allowed = spec.shape[1:]
    shape = array.shape[1:]
    if len(shape) != len(allowed) or any(a not in (-1, s) for a, s in zip(allowed, shape, strict=True)):
        raise bad_request(f"expected shape {list(allowed)}, got {list(shape)}")
    return array


def _cast(given: Array, dtype: DType, target: np.dtype[Any]) -> Array:
    kinds = {"b": "b", "i": "iu", "u": "iu", "f": "iuf"}[target.kind]
    if given.dtype.kind not in kinds and given.size:
        kind = {"b": "true or false", "U": "text", "O": "objects or null", "f": "numbers with a fraction"}
        raise bad_request(f"expected {dtype}, got {kind.get(given.dtype.kind, 'numbers out of range')}")
    if target.kind in "iu" and given.size:
        limits = np.iinfo(target)
        if given.min() < limits.min or given.max() > limits.max:
            raise bad_request(f"expected {dtype} from {limits.min} to {limits.max}, got numbers out of range")
    with np.errstate(over="ignore"):
        array = given.astype(target)
    if target.kind == "f" and not np.array_equal(np.isinf(array), np.isinf(given)):
        raise bad_request(f"expected {dtype}, got numbers out of range")
    return array


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
    array[:] = [_bytes_of(item, "string") for item in level]
    return array.reshape(shape)


def _output(spec: TensorSpec, array: Array) -> Array:
    if spec.kind == "argmax":
        index: Array = np.argmax(array, axis=-1)
        return index
    # Triton has no scalars: one value an instance comes as [count, 1].
    return array.reshape(len(array)) if len(spec.shape) == 1 else array


def _values(name: str, array: Array) -> Json:
    """What the JSON encoder takes, indexable by instance."""
    if array.dtype != np.object_:
        return array
    if name.endswith(_BYTES_SUFFIX):
        return np.vectorize(_base64_object, otypes=[np.object_])(array).tolist()
    return np.vectorize(lambda item: item.decode(errors="replace"), otypes=[np.object_])(array).tolist()


def _base64_object(item: bytes) -> dict[str, str]:
    return {"b64": pybase64.b64encode(item).decode()}


def _kind(value: Json) -> str:
    if value is None:
        return "null"
    names = {dict: "an object", list: "a list", str: "a string", bool: "true or false", int: "a number"}
    return names.get(type(value), "a number")
