"""Which graph of an artifact a signature runs on, and what goes into and comes out of it."""

from __future__ import annotations

from dataclasses import dataclass

from artifact.errors import ArtifactError
from artifact.signature import DType, Form, SignatureFile, TensorSpec


@dataclass(frozen=True, slots=True)
class GraphTensor:
    """An input or output of a graph. `shape` is that of one instance: without the batch dimension."""

    name: str
    dtype: DType
    shape: tuple[int, ...]

    @property
    def wire_shape(self) -> tuple[int, ...]:
        """Shape of one instance as Triton takes it, which has no scalars."""
        return self.shape or (1,)


@dataclass(frozen=True, slots=True)
class Graph:
    """What runs in Triton for one input form."""

    form: Form
    inputs: tuple[GraphTensor, ...]
    outputs: tuple[GraphTensor, ...]
    max_batch: int
    fixed_batch: int | None = None
    """Instances that it takes in one run, no more and no fewer; None: 1 to `max_batch`."""


def graphs(signatures: SignatureFile) -> tuple[Graph, ...]:
    """The graphs that an artifact's signatures use, by form.

    Raises:
        ArtifactError: a signature contradicts itself or another one.
    """
    forms = sorted({signature.form for signature in signatures.signatures.values()})
    return tuple(_graph(signatures, form) for form in forms)


def _graph(signatures: SignatureFile, form: Form) -> Graph:
    inputs: dict[str, GraphTensor] = {}
    outputs: dict[str, GraphTensor] = {}
    max_batch = 0
    batches: set[int] = set()
    for name, signature in signatures.signatures.items():
        if signature.form != form:
            continue
        max_batch = max(max_batch, signature.max_batch)
        # Only tensors tell: a client sends as many images as it likes.
        batches |= {spec.shape[0] for spec in (*signature.inputs, *signature.outputs) if spec.kind == "tensor"}
        for spec in signature.inputs:
            if spec.kind == "jpeg":
                prep = signature.preprocessing
                if prep is None:
                    raise ArtifactError(f"signature {name}: input {spec.name} takes images but has no preprocessing")
                _add(inputs, GraphTensor(spec.tensor, "uint8", (prep.height, prep.width, 3)), name)
            else:
                _add(inputs, _tensor(spec), name)
        for spec in signature.outputs:
            if spec.kind == "tensor":
                _add(outputs, _tensor(spec), name)
        for spec in signature.outputs:
            if spec.kind == "argmax" and spec.tensor not in outputs:
                raise ArtifactError(f"signature {name}: output {spec.name} is the argmax of {spec.tensor}, no output")
    fixed = batches - {-1}
    if len(fixed) > 1 or fixed - {max_batch}:
        raise ArtifactError(f"form {form}: tensors are of batch {sorted(fixed)}, and at most {max_batch} are taken")
    return Graph(form, tuple(inputs.values()), tuple(outputs.values()), max_batch, next(iter(fixed), None))


def _tensor(spec: TensorSpec) -> GraphTensor:
    return GraphTensor(spec.tensor, spec.dtype, spec.shape[1:])


def _add(known: dict[str, GraphTensor], tensor: GraphTensor, signature: str) -> None:
    other = known.setdefault(tensor.name, tensor)
    if other != tensor:
        raise ArtifactError(f"signature {signature}: {tensor} contradicts {other} of another signature")
