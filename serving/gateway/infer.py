"""`infer` of the Open Inference Protocol v2, in JSON and with the binary data extension: bytes to tensors and back.

Follows KServe's "Open Inference Protocol" (REST) and Triton's extensions "binary tensor data" and "classification". The
protocol has no signatures: the request parameter `signature_name` picks one, and without it the names of the inputs do.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

import numpy as np
import orjson

from artifact.signature import Signature, SignatureFile, TensorSpec
from serving.gateway.batch import Batch, client_outputs
from serving.gateway.elements import bytes_of, check_shape, has_boolean, numeric, texts
from serving.gateway.http import Answer, Headers, HttpError, Json, bad_request, header
from serving.gateway.json_text import kind_of, numbers, parse_object
from serving.gateway.predict import DEFAULT_SIGNATURE
from serving.tensors import TYPES, Array, from_raw, to_raw, wire_type

JSON_LENGTH_HEADER: Final = b"inference-header-content-length"
"""Length of the JSON before the binary data; 0: the body is the only input's data, without any JSON."""
_BINARY: Final[Headers] = ((b"content-type", b"application/octet-stream"),)
_LENGTH: Final = re.compile(rb"[0-9]{1,18}")
_LENGTH_BYTES: Final = 4
"""Before each element of a BYTES tensor stands its length, little-endian."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """How one output is to be answered."""

    name: str
    binary: bool
    classes: int = 0
    """Above 0: not the tensor, but so many of its greatest values, as `value:index:label`."""


@dataclass(frozen=True, slots=True)
class Infer(Batch):
    """A request that is understood."""

    request_id: str
    wanted: tuple[Wanted, ...]

    def at(self, name: str, index: int) -> str:
        """As `image_bytes[2]`."""
        return f"{name}[{index}]"


def parse(body: bytes, json_length: int | None, signatures: SignatureFile, commas: float = math.inf) -> Infer:
    """Understand a request body; `json_length` is what JSON_LENGTH_HEADER says, if it is there.

    Its JSON may have so many `commas` (serving.gateway.size.most_commas).

    Raises:
        HttpError: 400; the text names what is wrong, where, and what is allowed.
    """
    if json_length == 0:
        return _raw(body, signatures)
    length = len(body) if json_length is None else json_length
    if length > len(body):
        raise bad_request(f"{JSON_LENGTH_HEADER.decode()} is {length}, but the body has only {len(body)} bytes")
    text = body[:length] if length < len(body) else body
    document = parse_object(text, commas)
    parameters = _parameters(document, "the request")
    given = _named_entries(document.get("inputs"), "inputs")
    name, signature = _signature(parameters, given, signatures)
    specs = {spec.name: spec for spec in signature.inputs}
    if given.keys() != specs.keys():
        raise bad_request(f"signature {name} takes the inputs {_names(specs)}, not {_names(given)}")
    binary = _BinaryData(body, length)
    # As in predict.parse: looking for the words first spares most requests the walk.
    has_booleans = b"true" in text or b"false" in text
    values = {entry: _input(fields, specs[entry], binary, has_booleans=has_booleans) for entry, fields in given.items()}
    if binary.left:
        raise bad_request(f"{binary.left} bytes follow the last input's binary data")
    wanted = _wanted(document.get("outputs"), signature, default_binary=parameters.get("binary_data_output") is True)
    request_id = document.get("id", "")
    if not isinstance(request_id, str):
        raise bad_request(f"'id' must be a string, not {kind_of(request_id)}")
    return _request(signature, values, request_id, wanted)


def answer(request: Infer, outputs: Mapping[str, Array], head: Mapping[str, str], labels: Sequence[str]) -> Answer:
    """The answer to `request`, from the graph's outputs [count, ...] by name; `head` are its fields about the model."""
    arrays = client_outputs(request.signature, outputs)
    entries: list[dict[str, Any]] = []
    tail: list[bytes] = []
    for wanted in request.wanted:
        array = arrays[wanted.name]
        if wanted.classes:
            array = _best(array, wanted.classes, labels, request.signature.label_offset)
        entry: dict[str, Any] = {"name": wanted.name, "datatype": wire_type(array), "shape": array.shape}
        if wanted.binary:
            raw = to_raw(array)
            entry["parameters"] = {"binary_data_size": len(raw)}
            tail.append(raw)
        else:
            entry["data"] = texts(array.ravel()) if array.dtype == np.object_ else numbers(array.ravel())
        entries.append(entry)
    document: dict[str, Any] = {**head, "outputs": entries}
    if request.request_id:
        document["id"] = request.request_id
    text = orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)
    if not tail:
        return Answer(HTTPStatus.OK, text)
    return Answer(HTTPStatus.OK, b"".join([text, *tail]), (*_BINARY, (JSON_LENGTH_HEADER, str(len(text)).encode())))


def json_length(headers: Headers) -> int | None:
    """What JSON_LENGTH_HEADER says; None where it is not there.

    Raises:
        HttpError: 400, it is no length.
    """
    value = header(headers, JSON_LENGTH_HEADER)
    if value is None:
        return None
    if not _LENGTH.fullmatch(value.strip()):
        raise bad_request(f"{JSON_LENGTH_HEADER.decode()} must be a number of bytes, not {value.decode('latin-1')!r}")
    return int(value)


def default_signature(signatures: SignatureFile) -> tuple[str, Signature]:
    """The signature, and its name, of requests that name none: serving_default, or the first where there is none."""
    known = signatures.signatures
    name = DEFAULT_SIGNATURE if DEFAULT_SIGNATURE in known else next(iter(known))
    return name, known[name]


class _BinaryData:
    """What stands behind the JSON, in the order of the inputs that say so."""

    def __init__(self, body: bytes, start: int) -> None:
        self._body = body
        self._at = start

    @property
    def left(self) -> int:
        return len(self._body) - self._at

    def take(self, size: Json) -> bytes:
        if not _is_size(size) or size > self.left:
            raise bad_request(f"binary_data_size is {size!r}; {self.left} bytes of binary data are left")
        self._at += size
        return self._body[self._at - size : self._at]


def _raw(body: bytes, signatures: SignatureFile) -> Infer:
    """A body that is the data of one instance of the default signature's only input, answered in binary as Triton does.

    So a JPEG can be sent as it is.
    """
    _, signature = default_signature(signatures)
    if len(signature.inputs) != 1:
        text = "a body without JSON is taken only where the default signature has one input, not"
        raise bad_request(f"{text} {_names({spec.name: spec for spec in signature.inputs})}")
    (spec,) = signature.inputs
    shape = (1, *spec.shape[1:])
    if spec.dtype == "string" and math.prod(shape) == 1:
        array = np.empty(1, np.object_)
        array[0] = body
        array = array.reshape(shape)
    elif -1 in shape or spec.dtype == "string":
        raise bad_request(f"{spec.name}: a body without JSON does not tell the shape; {list(spec.shape)} is open")
    else:
        try:
            array = _from_raw(body, spec, shape)
        except HttpError as error:
            raise bad_request(f"{spec.name}: {error}") from None
    return _request(signature, {spec.name: array}, "", _wanted(None, signature, default_binary=True))


def _request(signature: Signature, values: Mapping[str, Array], request_id: str, wanted: tuple[Wanted, ...]) -> Infer:
    counts = {name: len(array) for name, array in values.items()}
    count = next(iter(counts.values()))
    if any(other != count for other in counts.values()):
        raise bad_request(f"all inputs must have the same first dimension, not {counts}")
    if not 0 < count <= signature.max_batch:
        raise bad_request(f"{count} instances given; 1 to {signature.max_batch} are taken in one request")
    jpegs = {spec.name for spec in signature.inputs if spec.kind == "jpeg"}
    images = {name: array.tolist() for name, array in values.items() if name in jpegs}
    tensors = {name: array for name, array in values.items() if name not in jpegs}
    return Infer(signature, count, images, tensors, request_id, wanted)


def _signature(
    parameters: Mapping[str, Any], given: Mapping[str, Any], signatures: SignatureFile
) -> tuple[str, Signature]:
    known = signatures.signatures
    chosen = parameters.get("signature_name")
    if chosen is not None:
        if not isinstance(chosen, str) or chosen not in known:
            raise bad_request(f"signature_name: the model has no signature {chosen!r}; it has {', '.join(known)}")
        return chosen, known[chosen]
    fitting = [name for name, one in known.items() if {spec.name for spec in one.inputs} == given.keys()]
    if DEFAULT_SIGNATURE in fitting or not fitting:
        return default_signature(signatures)
    if len(fitting) > 1:
        text = f"the inputs {_names(given)} fit the signatures {', '.join(fitting)}"
        raise bad_request(f"{text}: name one in the request parameter signature_name")
    return fitting[0], known[fitting[0]]


def _input(fields: Mapping[str, Any], spec: TensorSpec, binary: _BinaryData, *, has_booleans: bool) -> Array:
    """The array of one input, of the signature's type and shape."""
    name = spec.name
    if fields.get("datatype") != TYPES[spec.dtype].wire:
        raise bad_request(f"{name}: datatype must be {TYPES[spec.dtype].wire}, not {fields.get('datatype')!r}")
    shape = fields.get("shape")
    if not isinstance(shape, list) or not shape or not all(_is_size(size) for size in shape):
        raise bad_request(f"{name}: shape must be a list of sizes, not {shape!r}")
    if len(spec.shape) == 1 and len(shape) == 2 and shape[1] == 1:  # as Triton takes scalars
        shape = shape[:1]
    parameters = _parameters(fields, name)
    if "shared_memory_region" in parameters:
        raise bad_request(f"{name}: shared memory is not offered; send the data in the body")
    try:
        check_shape(shape, spec)
        if "binary_data_size" in parameters:
            return _from_raw(binary.take(parameters["binary_data_size"]), spec, shape)
        data = fields.get("data")
        if has_booleans and spec.dtype not in ("bool", "string") and has_boolean(data):
            raise bad_request(f"expected {spec.dtype}, got true or false")
        return _from_json(data, spec, shape)
    except HttpError as error:
        raise bad_request(f"{name}: {error}") from None


def _is_size(size: Json) -> bool:
    return isinstance(size, int) and not isinstance(size, bool) and size >= 0


def _from_json(data: Json, spec: TensorSpec, shape: Sequence[int]) -> Array:
    """Elements in row-major order, nested or not, as the protocol allows."""
    if not isinstance(data, list):
        raise bad_request(f"data must be a list, not {kind_of(data)}")
    if spec.dtype == "string":
        flat = [bytes_of(item, f"element {index}") for index, item in enumerate(_leaves(data))]
        array = np.empty(len(flat), np.object_)
        array[:] = flat
    else:
        array = numeric(data, spec.dtype)
    if array.size != math.prod(shape):
        raise bad_request(f"shape {list(shape)} holds {math.prod(shape)} elements, but data has {array.size}")
    return array.reshape(shape)


def _leaves(data: list[Any]) -> Iterator[Any]:
    level = data
    while any(isinstance(item, list) for item in level):
        level = [leaf for item in level for leaf in (item if isinstance(item, list) else [item])]
    yield from level


def _from_raw(raw: bytes, spec: TensorSpec, shape: Sequence[int]) -> Array:
    count = math.prod(shape)
    if spec.dtype != "string":
        expected = count * TYPES[spec.dtype].numpy.itemsize
        if len(raw) != expected:
            raise bad_request(f"shape {list(shape)} takes {expected} bytes of binary data, not {len(raw)}")
        return from_raw(raw, TYPES[spec.dtype].wire, shape)
    at = found = 0
    while at + _LENGTH_BYTES <= len(raw) and found < count:
        at += _LENGTH_BYTES + int.from_bytes(raw[at : at + _LENGTH_BYTES], "little")
        found += 1
    if at != len(raw) or found != count:
        text = f"shape {list(shape)} takes {count} elements, each with its length in four bytes before it;"
        raise bad_request(f"{text} the binary data of {len(raw)} bytes does not divide into these")
    return from_raw(raw, "BYTES", shape)


def _wanted(entries: Json, signature: Signature, *, default_binary: bool) -> tuple[Wanted, ...]:
    known = {spec.name: spec for spec in signature.outputs}
    if entries is None or entries == []:
        return tuple(Wanted(name, default_binary) for name in known)
    wanted = []
    for name, fields in _named_entries(entries, "outputs").items():
        if name not in known:
            raise bad_request(f"outputs: there is no {name!r}; the signature has {_names(known)}")
        parameters = _parameters(fields, name)
        if "shared_memory_region" in parameters:
            raise bad_request(f"{name}: shared memory is not offered; take the data from the body")
        classes = parameters.get("classification", 0)
        if not _is_size(classes) or (classes and len(known[name].shape) != 2):
            raise bad_request(f"{name}: classification must be a number of classes, of an output [batch, classes]")
        wanted.append(Wanted(name, parameters.get("binary_data", default_binary) is True, classes))
    return tuple(wanted)


def _best(array: Array, classes: int, labels: Sequence[str], label_offset: int) -> Array:
    """The greatest values of each row [count, n], as bytes `value:index:label` [count, classes]."""
    order = np.argsort(-array, axis=-1, kind="stable")[:, :classes]
    best = np.empty(order.shape, np.object_)
    for row, indices in enumerate(order):
        best[row] = [_class(array[row, index], int(index), labels, label_offset) for index in indices]
    return best


def _class(value: Any, index: int, labels: Sequence[str], label_offset: int) -> bytes:  # noqa: ANN401 - of any type
    line = index - label_offset
    label = f":{labels[line]}" if 0 <= line < len(labels) else ""
    return f"{value:f}:{index}{label}".encode()


def _parameters(fields: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    parameters = fields.get("parameters", {})
    if not isinstance(parameters, dict):
        raise bad_request(f"{where}: 'parameters' must be an object, not {kind_of(parameters)}")
    return parameters


def _named_entries(entries: Json, key: str) -> dict[str, dict[str, Any]]:
    if not isinstance(entries, list) or not entries:
        raise bad_request(f"'{key}' must be a list of objects with a name")
    named: dict[str, dict[str, Any]] = {}
    for index, entry in enumerate(entries):
        name = entry.get("name") if isinstance(entry, dict) else None
        if not isinstance(name, str):
            raise bad_request(f"{key}[{index}] must be an object with a name")
        if name in named:
            raise bad_request(f"{key}: {name!r} is there twice")
        named[name] = entry
    return named


def _names(named: Mapping[str, object]) -> str:
    return ", ".join(named)
