"""A SavedModel signature that takes JPEGs, as a model to convert and serve."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from artifact.recipe import BuildRequest
from artifact.signature import Form
from model.errors import BuildError
from model.export.frozen import FrozenSignature, check_tensor, imported
from model.export.saved_model import TENSOR_SIGNATURE
from model.source.custom import describe
from model.source.jpeg.cut import Cut, cut_jpeg_signature
from model.source.jpeg.original import FrozenOriginal
from model.source.jpeg.per_image import NotRecognisedError
from model.source.jpeg.surgery import begin_at
from model.source.jpeg.view import attribute, node_name, tensor_name
from model.source.models import SourceModel

_DT_STRING: Final = 7


def takes_strings(frozen: FrozenSignature) -> bool:
    """Whether a signature has one input, of strings."""
    fed = {tensor.partition(":")[0] for tensor in frozen.inputs.values()}
    types = [attribute(node, "dtype").type for node in frozen.graph_def.node if node.name in fed]
    return types == [_DT_STRING]


def describe_jpeg(name: str, frozen: FrozenSignature, request: BuildRequest, labels: tuple[str, ...]) -> SourceModel:
    """The model behind the preprocessing of the signature `name`, which serving answers under its own names.

    With `request.input_names` the graph is cut at that tensor, and what is before it is not looked at: the request says
    how a photo becomes it, or the model is one of numbers.

    Raises:
        BuildError: the preprocessing is not understood, or what `describe` refuses.
    """
    if request.input_names:
        if request.preprocess:
            raise BuildError(
                "model.preprocess is for a preprocessing that is read from the graph, and model.inputNames cuts it "
                "off: leave one of them out"
            )
        behind, facts = _begun_at(request.input_names, frozen)
        if request.preprocessing is None:
            return describe(name, behind, request, labels)
        _check_one_string_an_image(frozen)
        described = describe(TENSOR_SIGNATURE, behind, request, labels)
    else:
        if request.preprocessing is not None:
            raise BuildError(
                f"the signature {name!r} takes JPEGs and brings its own preprocessing: leave model.preprocessing out, "
                "or name the tensor at which the model begins (--input-names, setting model.inputNames)"
            )
        _check_one_string_an_image(frozen)
        cut = cut_jpeg_signature(frozen, request.preprocess, _plain(request.output_names))
        asked = request.model_copy(update={"preprocessing": cut.preprocessing})
        described = describe(TENSOR_SIGNATURE, cut.frozen, asked, labels, cut.fixed_batch)
        facts = _facts(cut)
    tensor = TENSOR_SIGNATURE if name != TENSOR_SIGNATURE else f"{TENSOR_SIGNATURE}_float"
    forms: dict[Form, str] = {"image": name, "tensor": tensor}
    return replace(
        described,
        signature_names=forms,
        jpeg_input=next(iter(frozen.inputs)),
        original=_original(frozen, described),
        facts={**described.facts, **facts},
    )


def _check_one_string_an_image(frozen: FrozenSignature) -> None:
    ((name, tensor),) = frozen.inputs.items()
    (fed,) = (node for node in frozen.graph_def.node if node.name == node_name(tensor))
    sizes = [None if dim.size < 0 else dim.size for dim in attribute(fed, "shape").shape.dim]
    if len(sizes) > 1:
        raise BuildError(
            f"input {name} has shape {sizes}, and one string is one image: export the signature with "
            f"tf.TensorSpec([None], tf.string, name={name!r})"
        )


def _facts(cut: Cut) -> dict[str, str]:
    """What was read, for whoever follows the build."""
    steps = [
        f"{step.kind} {' '.join(f'{name}={value}' for name, value in step.model_dump(exclude_defaults=True).items())}"
        for step in cut.preprocessing.steps
    ]
    off = cut.difference
    return {
        "cut at": cut.at,
        "preprocessing": f"{cut.preprocessing.decoder} decoding; {'; '.join(steps) or 'no steps'}",
        "pixels": f"exact ones are at most {off.floats:.1g} of 255 from TensorFlow's, and {off.bytes:.2g} as bytes",
    }


def _begun_at(names: tuple[str, ...], frozen: FrozenSignature) -> tuple[FrozenSignature, dict[str, str]]:
    """The graph from a named tensor on, and where that is."""
    if len(names) > 1:
        raise BuildError(f"{len(names)} inputs are named; a model that takes JPEGs is cut at one tensor")
    tensor = tensor_name(names[0])
    advice = "leave model.inputNames (--input-names) out, and the error lists tensors to cut at"
    check_tensor(imported(frozen.graph_def), tensor, advice)
    try:
        return begin_at(frozen, tensor), {"cut at": f"{tensor}, as asked for"}
    except NotRecognisedError as error:
        raise BuildError(f"the graph cannot be cut at {tensor}: {error}") from error


def _plain(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name.removesuffix(":0") for name in names)


def _original(frozen: FrozenSignature, described: SourceModel) -> FrozenOriginal | None:
    """What the classifier's scores are compared with; the output's name there is the client's."""
    scores = [spec for spec in described.outputs if spec.kind == "tensor" and spec.tensor == described.classifier]
    return FrozenOriginal(frozen, scores[0].name) if scores else None
