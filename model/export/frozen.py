"""A graph with its variables made constants: what the reference answers and what is converted."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from artifact.source import SAVED_MODEL
from model.errors import BuildError, uncomputed
from model.export.layout import takes_nchw, with_nhwc_kernels

SERVE_TAG: Final = "serve"
DEFAULT_SIGNATURE: Final = "serving_default"
_INIT_SIGNATURE: Final = "__saved_model_init_op"
_AT_NODE: Final = re.compile(r"^(?P<why>.+)\n\s*\[\[\{\{node (?P<name>\S+?)\}\}", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class FrozenSignature:
    """Graph definition of one signature. `inputs` and `outputs` map names to graph tensors (`node:0`)."""

    graph_def: Any
    inputs: dict[str, str]
    outputs: dict[str, str]

    @property
    def reference(self) -> str:
        """How `runner` runs it, for whoever reads what was compared."""
        if takes_nchw(self.graph_def):
            return "TensorFlow, its NCHW kernels transposed to NHWC (TensorFlow has no others for CPUs)"
        return "TensorFlow"

    def runner(self, output: str, before_softmax: bool = False, xla: bool = False) -> TensorFlowRunner:
        """A function of the inputs, in their order, to one output; with `before_softmax` to its logits.

        With `xla` it is compiled by XLA, anew for each batch size.
        """
        return TensorFlowRunner(self, output, before_softmax, xla)


class TensorFlowRunner:
    """Runs the graph natively in TensorFlow, as `FrozenSignature.reference` says."""

    def __init__(self, signature: FrozenSignature, output: str, before_softmax: bool, xla: bool) -> None:
        import tensorflow as tf  # noqa: PLC0415 - takes seconds to import

        def load() -> None:
            tf.graph_util.import_graph_def(with_nhwc_kernels(signature.graph_def), name="")

        self._tf = tf
        whole = tf.compat.v1.wrap_function(load, [])
        fetch = whole.graph.get_tensor_by_name(signature.outputs[output])
        if before_softmax:
            while fetch.op.type == "Identity":
                fetch = fetch.op.inputs[0]
            if fetch.op.type == "Softmax":
                fetch = fetch.op.inputs[0]
        feeds = [whole.graph.get_tensor_by_name(name) for name in signature.inputs.values()]
        pruned = whole.prune(feeds, fetch)
        self._function = tf.function(pruned, jit_compile=True) if xla else pruned

    def __call__(self, *inputs: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """The output for these inputs.

        Raises:
            BuildError: a node cannot compute a value that it is fed.
        """
        try:
            answer: npt.NDArray[np.float32] = self._function(*(self._tf.constant(value) for value in inputs)).numpy()
        except self._tf.errors.InvalidArgumentError as error:
            found = _AT_NODE.search(error.message)
            if found is None:
                raise
            raise uncomputed(found["name"], found["why"]) from error
        return answer


def freeze(saved_model: Path, signature: str) -> FrozenSignature:
    """Read one signature of a SavedModel of TensorFlow 1 or 2 and make its variables constants.

    Raises:
        BuildError: TensorFlow cannot read it.
    """
    import tensorflow as tf  # noqa: PLC0415 - takes seconds to import

    try:
        # Held until the end: the variables live as long as the loaded object does.
        loaded = tf.saved_model.load(str(saved_model), tags=[SERVE_TAG])
        function = loaded.signatures[signature]
        return freeze_function(function, sorted(function.structured_input_signature[1]))
    except Exception as error:
        raise BuildError(
            f"TensorFlow cannot read signature {signature!r}: {reason_of(error)}; copy the SavedModel's whole folder, "
            "or export it again"
        ) from error


def freeze_function(function: Any, input_names: Sequence[str]) -> FrozenSignature:  # noqa: ANN401 - no public type
    """Make the variables of a concrete function of tensors, which answers a dict, constants."""
    from tensorflow.python.framework.convert_to_constants import (  # noqa: PLC0415 - takes seconds to import
        convert_variables_to_constants_v2,
    )

    frozen = convert_variables_to_constants_v2(function)
    # TensorFlow flattens dicts in the sorted order of their names.
    output_names = sorted(function.structured_outputs)
    return FrozenSignature(
        frozen.graph.as_graph_def(),
        {name: tensor.name for name, tensor in zip(input_names, frozen.inputs, strict=True)},
        {name: tensor.name for name, tensor in zip(output_names, frozen.outputs, strict=True)},
    )


def signature_names(saved_model: Path) -> tuple[str, ...]:
    """Names of a SavedModel's signatures, sorted, read without loading it.

    Raises:
        BuildError: no SavedModel, or none with the tag that servers load.
    """
    from google.protobuf.message import DecodeError  # noqa: PLC0415 - comes with TensorFlow
    from tensorflow.core.protobuf import saved_model_pb2  # noqa: PLC0415 - imports TensorFlow

    document = saved_model_pb2.SavedModel()
    try:
        document.ParseFromString((saved_model / SAVED_MODEL).read_bytes())
    except DecodeError as error:
        raise BuildError(f"{SAVED_MODEL} is damaged: it is no serialised SavedModel") from error
    tags = [set(graph.meta_info_def.tags) for graph in document.meta_graphs]
    for graph, tagged in zip(document.meta_graphs, tags, strict=True):
        if tagged == {SERVE_TAG}:
            return tuple(sorted(name for name in graph.signature_def if name != _INIT_SIGNATURE))
    raise BuildError(
        f"the SavedModel has no graph with the tag {SERVE_TAG}; it has "
        f"{' and '.join('+'.join(sorted(tagged)) or 'one without tags' for tagged in tags) or 'no graph'}: export it "
        "for serving"
    )


def choose_signature(known: Sequence[str], wanted: str) -> str:
    """The signature that is asked for; if none is, the default one or the only one.

    Raises:
        BuildError: there is none, or no telling which.
    """
    if not known:
        raise BuildError("the SavedModel has no signature: export it with one (tf.saved_model.save(..., signatures=))")
    if wanted:
        if wanted not in known:
            raise BuildError(f"the SavedModel has no signature {wanted!r}; it has {', '.join(known)}")
        return wanted
    if DEFAULT_SIGNATURE in known or len(known) == 1:
        return DEFAULT_SIGNATURE if DEFAULT_SIGNATURE in known else known[0]
    raise BuildError(
        f"the SavedModel has the signatures {', '.join(known)} and none of them is {DEFAULT_SIGNATURE}: say which is "
        "meant (--signature, setting model.signature)"
    )


def read_frozen_graph(path: Path, inputs: Sequence[str], outputs: Sequence[str]) -> FrozenSignature:
    """Read a graph definition whose weights are constants, and take `inputs` and `outputs`, `node` or `node:0`.

    Raises:
        BuildError: no graph, it has variables, a tensor is not in it, or none is named; the message lists candidates.
    """
    import tensorflow as tf  # noqa: PLC0415 - takes seconds to import
    from google.protobuf.message import DecodeError  # noqa: PLC0415 - comes with TensorFlow

    graph_def = tf.compat.v1.GraphDef()
    try:
        graph_def.ParseFromString(path.read_bytes())
    except DecodeError as error:
        raise BuildError(f"{path.name} is no frozen graph: it is not a serialised GraphDef") from error
    variables = [node.name for node in graph_def.node if node.op in {"VariableV2", "VarHandleOp", "Variable"}]
    if variables:
        raise BuildError(
            f"{path.name} is not frozen: {variables[0]} is a variable; freeze it, or use the SavedModel it came from"
        )
    fed = tuple(node.name for node in graph_def.node if node.op in {"Placeholder", "PlaceholderWithDefault"})
    taken = {name.removeprefix("^").partition(":")[0] for node in graph_def.node for name in node.input}
    last = tuple(node.name for node in graph_def.node if node.name not in taken and node.op not in {"NoOp", "Const"})
    try:
        whole = imported(graph_def)
    except Exception as error:
        raise BuildError(f"TensorFlow cannot read {path.name}: {reason_of(error)}") from error
    return _begun_at_inputs(
        graph_def,
        whole,
        _named(inputs or (fed if len(fed) == 1 else ()), fed, whole, "input"),
        _named(outputs or (last if len(last) == 1 else ()), last, whole, "output"),
    )


def imported(graph_def: Any) -> Any:  # noqa: ANN401 - no public type
    """The `tf.Graph` of a graph definition."""
    import tensorflow as tf  # noqa: PLC0415 - takes seconds to import

    graph = tf.Graph()
    with graph.as_default():
        tf.graph_util.import_graph_def(graph_def, name="")
    return graph


def check_tensor(graph: Any, name: str, advice: str) -> None:  # noqa: ANN401 - no public type
    """Refuse the name of a tensor, `node` or `node:0`, that a `tf.Graph` does not have.

    Raises:
        BuildError: no such node, or no such output of it: then the message says which there are. It ends with `advice`.
    """
    node, colon, index = name.partition(":")
    found = next((operation for operation in graph.get_operations() if operation.name == node), None)
    if found is None:
        raise BuildError(f"the graph has no node {node!r}; {advice}")
    said = f"node {node!r} ({found.type})"
    outputs = [output.name for output in found.outputs]
    if not outputs:
        raise BuildError(f"{said} has no outputs, so {name!r} names no tensor; {advice}")
    if colon and not (index.isdecimal() and int(index) < len(outputs)):
        has = (
            f"has {len(outputs)} outputs, so write {outputs[0]} up to {outputs[-1]}"
            if len(outputs) > 1
            else f"has one output, so write {outputs[0]}"
        )
        raise BuildError(f"the graph has no tensor {name!r}: {said} {has}; {advice}")


def _begun_at_inputs(
    graph_def: Any,  # noqa: ANN401 - no public type
    whole: Any,  # noqa: ANN401 - likewise
    inputs: dict[str, str],
    outputs: dict[str, str],
) -> FrozenSignature:
    """A placeholder in place of every input that the graph computes: what is before it is cut off."""
    import tensorflow as tf  # noqa: PLC0415 - takes seconds to import

    nodes = {node.name: node for node in graph_def.node}
    computed = [
        tensor for tensor in inputs.values() if not nodes[tensor.partition(":")[0]].op.startswith("Placeholder")
    ]
    if not computed:
        return FrozenSignature(graph_def, inputs, outputs)
    begun = tf.Graph()
    with begun.as_default():
        fed = {}
        for number, tensor in enumerate(computed):
            old = whole.get_tensor_by_name(tensor)
            fed[tensor] = tf.compat.v1.placeholder(old.dtype, old.shape, name=f"begun_at/{number}")
        tf.graph_util.import_graph_def(graph_def, input_map=fed, name="")
    renamed = {name: fed[tensor].name if tensor in fed else tensor for name, tensor in inputs.items()}
    ends = [tensor.partition(":")[0] for tensor in (*renamed.values(), *outputs.values())]
    kept = tf.compat.v1.graph_util.extract_sub_graph(begun.as_graph_def(), ends)
    return FrozenSignature(kept, renamed, outputs)


def _named(wanted: Sequence[str], candidates: Sequence[str], graph: Any, role: str) -> dict[str, str]:  # noqa: ANN401 - no public type
    advice = f"candidates: {', '.join(candidates[:8]) or 'none'} (--{role}-names, setting model.{role}Names)"
    if not wanted:
        raise BuildError(f"the frozen graph does not say which of its tensors are its {role}s; {advice}")
    for name in wanted:
        check_tensor(graph, name, advice)
    return {
        (name.partition(":")[0] if name.endswith(":0") else name): name if ":" in name else f"{name}:0"
        for name in wanted
    }


def reason_of(error: Exception) -> str:
    """What an exception says in a line: its first, or the one at the end of TensorFlow's pages that names a node."""
    said = str(error).strip()
    if found := _AT_NODE.search(said):
        return f"{found['why']} (node {found['name']})"
    return (said.splitlines() or [type(error).__name__])[0]
