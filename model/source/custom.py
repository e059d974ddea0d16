"""A model of one's own: which numbers it takes and answers, read from its graph."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast, get_args

from artifact.recipe import BuildRequest
from artifact.signature import DType, Form, Preprocessing, TensorSpec
from artifact.source import SAVED_MODEL, saved_model_folder
from model.errors import BuildError
from model.export.branches import with_decided_branches, with_defaults
from model.export.checks import check_convertible
from model.export.frozen import (
    DEFAULT_SIGNATURE,
    FrozenSignature,
    choose_signature,
    freeze,
    imported,
    read_frozen_graph,
    signature_names,
)
from model.source.fetch import fetch
from model.source.labels import read_labels
from model.source.models import Layout, SourceModel

IMAGE_SIGNATURE: Final = "image"
"""Name of the signature that takes photos, beside that of the model itself."""
BACKGROUND_CLASSES: Final = 1001
"""ImageNet's 1000 classes behind one for "background", as TensorFlow's own models have them."""
_RANK_OF_IMAGES: Final = 4
_COLOURS: Final = (1, 3)


@dataclass(frozen=True, slots=True)
class _Tensor:
    """An input or output: the name that clients use, the graph's tensor, and its static shape (None: unknown)."""

    name: str
    tensor: Any
    dtype: DType
    shape: tuple[int | None, ...]


def prepare_custom(request: BuildRequest, folder: Path, patience_s: float) -> SourceModel:
    """Fetch and read a SavedModel or a frozen graph; see `model.source.models.prepare_source`."""
    from model.source.jpeg.source import describe_jpeg, takes_strings  # noqa: PLC0415 - it imports this module

    place = fetch(request.source, folder / "source", patience_s)
    saved_model = saved_model_folder(place) if place.is_dir() else None
    if place.is_dir() and saved_model is None:
        raise BuildError(f"{request.source} is no SavedModel: it holds no {SAVED_MODEL}, nor does its one subfolder")
    labels = read_labels(request.labels, folder / "labels", saved_model, patience_s)
    if saved_model is None:
        if request.signature:
            raise BuildError("a frozen graph has no signatures: leave model.signature out, name its tensors instead")
        frozen = read_frozen_graph(place, request.input_names, request.output_names)
        if takes_strings(frozen):
            # Its names are those of the graph, which has been read: none is a place to cut at.
            asked = request.model_copy(update={"input_names": (), "output_names": ()})
            return describe_jpeg(DEFAULT_SIGNATURE, frozen, asked, labels)
        return describe(DEFAULT_SIGNATURE, frozen, request, labels)
    name = choose_signature(signature_names(saved_model), request.signature)
    frozen = freeze(saved_model, name)
    if takes_strings(frozen):
        return describe_jpeg(name, frozen, request, labels)
    if request.input_names:
        raise BuildError(
            "a SavedModel's signature says its inputs: leave model.inputNames out, it is for frozen graphs and for "
            "signatures that take JPEGs"
        )
    if request.preprocess:
        raise BuildError(f"signature {name!r} takes no JPEGs: leave model.preprocess out, or set model.preprocessing")
    return describe(name, frozen, request, labels)


def describe(
    name: str,
    frozen: FrozenSignature,
    request: BuildRequest,
    labels: tuple[str, ...],
    fixed_batch: int | None = None,
) -> SourceModel:
    """What must be known of the signature `name`, whose inputs are all numbers, to convert and serve it.

    `fixed_batch` is the one batch that the graph can run where its inputs do not say so.

    Raises:
        BuildError: an input or output that cannot be converted or served, or settings that contradict the graph.
    """
    answered = _kept(frozen.outputs, request.output_names)
    graph_def = with_defaults(_with_fixed_images(frozen, request.preprocessing), frozen.inputs.values())
    graph = imported(with_decided_branches(graph_def, (*frozen.inputs.values(), *answered.values())))
    _check_types(graph, frozen.inputs, "input")
    _check_types(graph, answered, "output")
    check_convertible(FrozenSignature(graph.as_graph_def(), frozen.inputs, answered))
    inputs = [_tensor(graph, *item, role="input") for item in frozen.inputs.items()]
    outputs = [_tensor(graph, *item, role="output") for item in answered.items()]
    batch = _batch(inputs) or fixed_batch
    for tensor in (*inputs, *outputs):
        _check_shape(tensor, batch, is_input=tensor in inputs)
    names = _graph_names(inputs, outputs)
    argmaxes = {tensor.name: scores for tensor in outputs if (scores := _scores_of(tensor, outputs)) is not None}
    kept = [tensor for tensor in outputs if tensor.name not in argmaxes]
    converted = FrozenSignature(
        graph.as_graph_def(),
        {names["input", tensor.name]: tensor.tensor.name for tensor in inputs},
        {names["output", tensor.name]: tensor.tensor.name for tensor in kept},
    )
    classifier = _classifier(kept, argmaxes, labels, request.label_offset)
    layout = _layout(inputs)
    _check_preprocessing(request.preprocessing, inputs, layout)
    image_name = IMAGE_SIGNATURE if name != IMAGE_SIGNATURE else f"{IMAGE_SIGNATURE}_bytes"
    signature_names: dict[Form, str] = {"tensor": name}
    if request.preprocessing is not None:
        signature_names["image"] = image_name
    return SourceModel(
        frozen=converted,
        inputs=tuple(_spec(tensor, names["input", tensor.name], batch) for tensor in inputs),
        outputs=tuple(
            TensorSpec(
                name=tensor.name,
                dtype="int64",
                shape=(batch or -1,),
                kind="argmax",
                tensor=names["output", argmaxes[tensor.name]],
            )
            if tensor.name in argmaxes
            else _spec(tensor, names["output", tensor.name], batch)
            for tensor in outputs
        ),
        signature_names=signature_names,
        preprocessing=request.preprocessing,
        layout=layout,
        labels=labels,
        label_offset=_label_offset(classifier, labels, request.label_offset),
        classifier=names["output", classifier.name] if classifier else None,
        fixed_batch=batch,
        facts={"reference": converted.reference},
    )


def _with_fixed_images(frozen: FrozenSignature, preprocessing: Preprocessing | None) -> Any:  # noqa: ANN401 - TensorFlow has no public types
    """The graph with the height and width that photos will have where its one input leaves them open."""
    graph_def = frozen.graph_def
    if preprocessing is None or len(frozen.inputs) != 1:
        return graph_def
    (fed,) = (tensor.partition(":")[0] for tensor in frozen.inputs.values())
    (position,) = (number for number, node in enumerate(graph_def.node) if node.name == fed)
    shape = graph_def.node[position].attr["shape"].shape
    dims = [dim.size for dim in shape.dim]
    size = [preprocessing.height, preprocessing.width]
    if shape.unknown_rank:
        dims = [-1, *size, 3]
    elif len(dims) == _RANK_OF_IMAGES and dims[1:3] == [-1, -1]:
        dims[1:3] = size
    elif len(dims) == _RANK_OF_IMAGES and dims[2:4] == [-1, -1]:
        dims[2:4] = size
    else:
        return graph_def
    fixed = type(graph_def)()
    fixed.CopyFrom(graph_def)
    attribute = fixed.node[position].attr["shape"].shape
    attribute.Clear()
    for dim in dims:
        attribute.dim.add(size=dim)
    for node in fixed.node:
        # Shapes that the exporter inferred are older than the one just set.
        node.attr.pop("_output_shapes", None)
    return fixed


def _kept(outputs: Mapping[str, str], wanted: tuple[str, ...]) -> dict[str, str]:
    if unknown := [name for name in wanted if name not in outputs and name.removesuffix(":0") not in outputs]:
        raise BuildError(f"the model has no output {unknown[0]!r}; it has {', '.join(outputs)}")
    chosen = {name.removesuffix(":0") for name in wanted} | set(wanted)
    return {name: tensor for name, tensor in outputs.items() if not wanted or name in chosen}


def _check_types(graph: Any, tensors: Mapping[str, str], role: str) -> None:  # noqa: ANN401 - likewise
    for name, tensor in tensors.items():
        _check_type(name, graph.get_tensor_by_name(tensor).dtype.base_dtype.name, role)


def _check_type(name: str, dtype: str, role: str) -> None:
    if dtype == "string":
        raise BuildError(
            f"{role} {name} is of strings: "
            + (
                "name a signature that takes numbers (--signature, setting model.signature)"
                if role == "input"
                else "leave it out (--output-names, setting model.outputNames)"
            )
        )
    if dtype not in get_args(DType):
        raise BuildError(f"{role} {name} is of type {dtype}; allowed: {', '.join(get_args(DType)[:-1])}")


def _tensor(graph: Any, name: str, tensor: str, *, role: str) -> _Tensor:  # noqa: ANN401 - likewise
    found = graph.get_tensor_by_name(tensor)
    if found.shape.rank is None:
        dtype = found.dtype.base_dtype.name
        example, otherwise = (
            (
                f"tf.function(input_signature=[tf.TensorSpec([None, 224, 224, 3], tf.{dtype}, name={name!r})])",
                "set model.preprocessing, whose height and width images then have",
            )
            if role == "input"
            else ("tf.ensure_shape(scores, [None, 1000])", "leave it out (--output-names, setting model.outputNames)")
        )
        raise BuildError(
            f"{role} {name} has a shape of unknown rank, and an engine is built for one shape: export the model with "
            f"all sizes but the batch, for example {example}, or {otherwise}"
        )
    return _Tensor(name, found, found.dtype.base_dtype.name, tuple(found.shape.as_list()))


def _batch(inputs: Iterable[_Tensor]) -> int | None:
    batches: dict[int | None, str] = {}
    for tensor in inputs:
        if not tensor.shape:
            raise BuildError(
                f"input {tensor.name} is a scalar without a batch dimension: make it a constant of the model"
            )
        batches.setdefault(tensor.shape[0], tensor.name)
    if not batches:
        raise BuildError("the signature has no inputs: name another one (--signature, setting model.signature)")
    if len(batches) > 1:
        told = ", ".join(f"{name}: {size or 'any'}" for size, name in batches.items())
        raise BuildError(f"the inputs disagree on their first dimension, the batch ({told}): export them with one")
    return next(iter(batches))


def _check_shape(tensor: _Tensor, batch: int | None, *, is_input: bool) -> None:
    shape = ["?" if size is None else size for size in tensor.shape]
    said = f"{'input' if is_input else 'output'} {tensor.name} (node {tensor.tensor.op.name}, {tensor.tensor.op.type})"
    if not tensor.shape or tensor.shape[0] not in (batch, None):
        raise BuildError(
            f"{said} has shape {shape} without the batch as first dimension: each row of a request needs its own "
            "answer, so let the model answer one row an instance, or leave it out (setting model.outputNames)"
        )
    if any(size is None for size in tensor.shape[1:]):
        remedy = (
            "export the model with fixed sizes, or set model.preprocessing, whose height and width images then have"
            if is_input
            else "export the model with fixed sizes, or leave it out (--output-names, setting model.outputNames)"
        )
        raise BuildError(
            f"{said} has shape {shape}: only the batch may vary, as an engine is built for one size; {remedy}"
        )


def _graph_names(inputs: Iterable[_Tensor], outputs: Iterable[_Tensor]) -> dict[tuple[str, str], str]:
    """Names in the converted graph, by role and name: of letters that every server takes, and all different."""
    taken: set[str] = set()
    names = {}
    for role, tensors in (("input", inputs), ("output", outputs)):
        for tensor in tensors:
            name = plain = re.sub(r"[^A-Za-z0-9_.-]", "_", tensor.name)
            number = 1
            while name in taken:
                number += 1
                name = f"{plain}_{number}"
            taken.add(name)
            names[role, tensor.name] = name
    return names


def _spec(tensor: _Tensor, graph_name: str, batch: int | None) -> TensorSpec:
    sizes = cast("tuple[int, ...]", tensor.shape[1:])
    shape = (batch or -1, *sizes)
    return TensorSpec(name=tensor.name, dtype=tensor.dtype, shape=shape, kind="tensor", tensor=graph_name)


def _past_identities(tensor: Any, *more: str) -> Any:  # noqa: ANN401 - likewise
    while tensor.op.type in ("Identity", *more):
        tensor = tensor.op.inputs[0]
    return tensor


def _scores_of(tensor: _Tensor, outputs: Iterable[_Tensor]) -> str | None:
    """The output whose greatest value's index this output is, if it is that of one."""
    found = _past_identities(tensor.tensor, "Cast", "Reshape", "Squeeze")
    if tensor.dtype not in ("int32", "int64") or found.op.type != "ArgMax" or tensor.shape[1:] not in ((), (1,)):
        return None
    # A softmax changes no order.
    taken = _past_identities(found.op.inputs[0], "Softmax")
    for output in outputs:
        is_scores = output.dtype == "float32" and len(output.shape) == 2
        if is_scores and _past_identities(output.tensor, "Softmax") is taken:
            return output.name
    return None


def _classifier(
    outputs: Iterable[_Tensor], argmaxes: Mapping[str, str], labels: tuple[str, ...], offset: int | None
) -> _Tensor | None:
    """The output with a score a class: that of a softmax, one whose argmax is answered, or the only one with labels."""
    rows = [output for output in outputs if output.dtype == "float32" and len(output.shape) == 2]
    rows = [output for output in rows if cast("int", output.shape[1]) > 1]
    for output in rows:
        if _past_identities(output.tensor).op.type == "Softmax":
            return output
    for output in rows:
        if output.name in argmaxes.values():
            return output
    if labels or offset is not None:
        sizes = (len(labels), len(labels) + (1 if offset is None else offset))
        fitting = [output for output in rows if output.shape[1] in sizes]
        return fitting[0] if len(fitting) == 1 else None
    return None


def _layout(inputs: list[_Tensor]) -> Layout | None:
    if len(inputs) != 1 or len(inputs[0].shape) != _RANK_OF_IMAGES or inputs[0].dtype not in ("float32", "uint8"):
        return None
    _, first, _, last = inputs[0].shape
    if last in _COLOURS:
        return "nhwc"
    return "nchw" if first in _COLOURS else None


def _check_preprocessing(preprocessing: Preprocessing | None, inputs: list[_Tensor], layout: Layout | None) -> None:
    if preprocessing is None:
        return
    shape = [size or "any" for size in inputs[0].shape]
    if layout is None:
        told = ", ".join(f"{tensor.name} {['any', *tensor.shape[1:]]}" for tensor in inputs)
        raise BuildError(
            f"model.preprocessing says how photos become the model's input, and that is no image ({told}): leave it out"
        )
    sizes = inputs[0].shape[1:3] if layout == "nhwc" else inputs[0].shape[2:4]
    colours = inputs[0].shape[3 if layout == "nhwc" else 1]
    if sizes != (preprocessing.height, preprocessing.width) or colours != max(_COLOURS):
        raise BuildError(
            f"model.preprocessing makes images of {preprocessing.height} x {preprocessing.width} pixels in 3 colours; "
            f"input {inputs[0].name} has shape {shape} ({layout.upper()}): set height and width to the model's"
        )
    if inputs[0].dtype == "uint8" and (any(preprocessing.mean) or set(preprocessing.std) != {1.0}):
        raise BuildError(
            f"input {inputs[0].name} takes pixels as uint8, so model.preprocessing must leave them as they are: "
            "mean [0, 0, 0] and std [1, 1, 1]"
        )


def _label_offset(classifier: _Tensor | None, labels: tuple[str, ...], wanted: int | None) -> int:
    if classifier is None:
        return wanted or 0
    classes = cast("int", classifier.shape[1])
    if not labels:
        return int(classes == BACKGROUND_CLASSES) if wanted is None else wanted
    offsets = (0, 1) if wanted is None else (wanted,)
    for offset in offsets:
        if len(labels) + offset == classes:
            return offset
    raise BuildError(
        f"output {classifier.name} has {classes} classes, the labels have {len(labels)} lines and the first class that "
        f"they name is {' or '.join(map(str, offsets))}: give one line a class, or set model.labelOffset"
    )
