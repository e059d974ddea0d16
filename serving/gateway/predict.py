"""`:predict` of TensorFlow Serving's REST API v1: JSON to tensors and back, row and column form.

Follows tensorflow_serving/util/json_tensor.cc. What an input takes and an output gives is read from the signature.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Literal

import orjson

from artifact.signature import Signature, SignatureFile, TensorSpec
from serving.gateway.batch import Batch, client_outputs
from serving.gateway.elements import array_of, bytes_of, has_boolean, is_b64, json_rows, json_values
from serving.gateway.http import HttpError, Json, bad_request
from serving.gateway.json_text import kind_of, parse_object
from serving.tensors import Array

DEFAULT_SIGNATURE: Final = "serving_default"


@dataclass(frozen=True, slots=True)
class Predict(Batch):
    """A request whose JSON is understood."""

    layout: Literal["instances", "inputs"]

    def at(self, name: str, index: int) -> str:
        """As `instances[2]`, or `inputs.x[2]` where there are several inputs."""
        return _place(self.layout, name, len(self.signature.inputs), index)


def parse(body: bytes, signatures: SignatureFile, commas: float = math.inf) -> Predict:
    """Understand a request body, which may have so many `commas` (serving.gateway.size.most_commas).

    Raises:
        HttpError: 400; the text names what is wrong, where, and what is allowed.
    """
    document = parse_object(body, commas)
    signature = _signature(document, signatures)
    row = "instances" in document
    if row == ("inputs" in document):
        raise bad_request("the request must hold either 'instances' (row form) or 'inputs' (column form)")
    layout: Literal["instances", "inputs"] = "instances" if row else "inputs"
    values = _rows(document["instances"], signature) if row else _columns(document["inputs"], signature)
    count = _count(values, layout, signature.max_batch)
    # numpy takes true for 1 among numbers. Looking for the words first spares most requests the walk. Where no input
    # takes numbers, even that is spared: on a photo's base64 it takes three times as long as parsing.
    takes_numbers = any(spec.dtype not in ("bool", "string") for spec in signature.inputs)
    has_booleans = takes_numbers and (b"true" in body or b"false" in body)
    images: dict[str, list[bytes]] = {}
    tensors: dict[str, Array] = {}
    for spec in signature.inputs:
        at = partial(_place, layout, spec.name, len(signature.inputs))
        items = values[spec.name]
        if spec.kind == "jpeg":
            images[spec.name] = [bytes_of(item, at(index)) for index, item in enumerate(items)]
        else:
            if has_booleans and spec.dtype not in ("bool", "string"):
                _refuse_booleans(items, spec, at)
            tensors[spec.name] = _tensor(items, spec, at)
    return Predict(signature, count, images, tensors, layout)


def answer(request: Predict, outputs: Mapping[str, Array]) -> bytes:
    """JSON of the answer to `request`, from the graph's outputs [count, ...] by name."""
    arrays = client_outputs(request.signature, outputs)
    document: dict[str, Any]
    if request.layout == "inputs":
        values = {name: json_values(name, array) for name, array in arrays.items()}
        document = {"outputs": values if len(values) > 1 else next(iter(values.values()))}
    else:
        rows = {name: json_rows(name, array) for name, array in arrays.items()}
        if len(rows) > 1:
            document = {"predictions": [{name: row[i] for name, row in rows.items()} for i in range(request.count)]}
        else:
            document = {"predictions": next(iter(rows.values()))}
    return orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE)


def _place(layout: str, name: str, inputs: int, index: int) -> str:
    """Where the instance `index` of the input `name`, one of so many, stands in a request."""
    if layout == "instances":
        return f"instances[{index}].{name}" if inputs > 1 else f"instances[{index}]"
    return f"inputs.{name}[{index}]" if inputs > 1 else f"inputs[{index}]"


def _signature(document: Mapping[str, Any], signatures: SignatureFile) -> Signature:
    name = document.get("signature_name", DEFAULT_SIGNATURE)
    if not isinstance(name, str):
        raise bad_request(f"'signature_name' must be a string, not {kind_of(name)}")
    signature = signatures.signatures.get(name or DEFAULT_SIGNATURE)
    if signature is None:
        known = ", ".join(sorted(signatures.signatures))
        raise bad_request(f"'signature_name': the model has no signature {name!r}; it has {known}")
    return signature


def _rows(instances: Json, signature: Signature) -> dict[str, Sequence[Any]]:
    """Values by input name: plain values where there is one input, objects with every input's name otherwise."""
    if not isinstance(instances, list):
        raise bad_request(f"'instances' must be a list, not {kind_of(instances)}")
    names = [spec.name for spec in signature.inputs]
    if not instances or not _is_named(instances[0], names):
        if instances and len(names) > 1:
            raise bad_request(f"instances[0] must be an object with the inputs {', '.join(names)}")
        for index, item in enumerate(instances):
            if isinstance(item, dict) and not is_b64(item):
                raise bad_request(f"instances[{index}]: {_unexpected(item, names)}")
        return {names[0]: instances}
    for index, item in enumerate(instances):
        if not _is_named(item, names) or item.keys() != set(names):
            raise bad_request(f"instances[{index}]: {_unexpected(item, names)}")
    return {name: [item[name] for item in instances] for name in names}


def _columns(inputs: Json, signature: Signature) -> dict[str, Sequence[Any]]:
    names = [spec.name for spec in signature.inputs]
    if not _is_named(inputs, names):
        if len(names) > 1 or (isinstance(inputs, dict) and not is_b64(inputs)):
            raise bad_request(f"inputs: {_unexpected(inputs, names)}")
        inputs = {names[0]: inputs}
    columns: dict[str, Sequence[Any]] = {}
    for name in names:
        # Columns that the signature does not have are passed over, as FillTensorMapFromInputsMap does.
        if name not in inputs:
            raise bad_request(f"inputs: {_unexpected(inputs, names)}")
        if not isinstance(inputs[name], list):
            given = kind_of(inputs[name])
            raise bad_request(f"inputs: {name} must be a list with one entry an instance, not {given}")
        columns[name] = inputs[name]
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
    """Whether an object holds inputs by name. Base64 does not, even where an input's name is `b64`."""
    if not isinstance(item, dict) or (is_b64(item) and isinstance(item["b64"], str)):
        return False
    return any(name in item for name in names)


def _unexpected(item: Json, names: Sequence[str]) -> str:
    given = f"an object with {', '.join(map(repr, item)) or 'no keys'}" if isinstance(item, dict) else kind_of(item)
    return f"expected an object with {', '.join(map(repr, names))}, got {given}"


def _tensor(items: Sequence[Any], spec: TensorSpec, at: Callable[[int], str]) -> Array:
    """Array of the spec's type and shape; where that fails, the first item at fault is named."""
    try:
        return array_of(items, spec)
    except HttpError as whole:
        shapes = set()
        for index, item in enumerate(items):
            try:
                shapes.add(array_of([item], spec).shape)
            except HttpError as error:
                raise bad_request(f"{at(index)}: {error}") from None
        if len(shapes) > 1:
            raise bad_request(f"{spec.name}: all instances must have the same shape") from None
        raise whole from None


def _refuse_booleans(items: Sequence[Any], spec: TensorSpec, at: Callable[[int], str]) -> None:
    for index, item in enumerate(items):
        if has_boolean(item):
            raise bad_request(f"{at(index)}: expected {spec.dtype}, got true or false")
