"""A signature of a SavedModel with its variables made constants: what the reference answers and what is converted."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class FrozenSignature:
    """Graph definition of one signature. `inputs` and `outputs` map the signature's names to graph tensors."""

    graph_def: Any
    inputs: dict[str, str]
    outputs: dict[str, str]

    def runner(self, output: str, before_softmax: bool = False, xla: bool = False) -> TensorFlowRunner:
        """A function of the inputs, in their order, to one output; with `before_softmax` to its logits.

        With `xla` it is compiled by XLA, anew for each batch size.
        """
        return TensorFlowRunner(self, output, before_softmax, xla)


class TensorFlowRunner:
    """Runs the graph natively in TensorFlow."""

    def __init__(self, signature: FrozenSignature, output: str, before_softmax: bool, xla: bool) -> None:
        import tensorflow as tf  # noqa: PLC0415 - takes seconds to import

        def load() -> None:
            tf.graph_util.import_graph_def(signature.graph_def, name="")

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
        """The output for these inputs."""
        answer: npt.NDArray[np.float32] = self._function(*(self._tf.constant(value) for value in inputs)).numpy()
        return answer


def freeze(saved_model: Path, signature: str) -> FrozenSignature:
    """Read one signature and make its variables constants.

    Raises:
        ValueError: the SavedModel has no such signature; the message names those it has.
    """
    import tensorflow as tf  # noqa: PLC0415 - takes seconds to import
    from tensorflow.python.framework.convert_to_constants import (  # noqa: PLC0415 - takes seconds to import
        convert_variables_to_constants_v2,
    )

    # Held until the end: the variables live as long as the loaded object does.
    loaded = tf.saved_model.load(str(saved_model))
    signatures = loaded.signatures
    if signature not in signatures:
        raise ValueError(f"{saved_model} has no signature {signature!r}; it has {', '.join(sorted(signatures))}")
    function = signatures[signature]
    frozen = convert_variables_to_constants_v2(function)
    # Both sides are flattened in the sorted order of their names.
    input_names = sorted(function.structured_input_signature[1])
    output_names = sorted(function.structured_outputs)
    return FrozenSignature(
        frozen.graph.as_graph_def(),
        {name: tensor.name for name, tensor in zip(input_names, frozen.inputs, strict=True)},
        {name: tensor.name for name, tensor in zip(output_names, frozen.outputs, strict=True)},
    )
