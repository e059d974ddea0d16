"""What TensorRT made of a graph: the engine inspector's layers, and what of them should not be there.

The format is that of `IEngineInspector` in JSON with detailed profiling verbosity, which NVIDIA shows in its
developer guide ("Engine Inspector") and does not specify: what is not recognised is said, not guessed.
"""

from __future__ import annotations

import collections
import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from model.errors import BuildError

_CONVOLUTIONS: Final = frozenset({"Convolution", "Deconvolution"})
"""`ParameterType` of a convolution, whatever kernel family its `LayerType` names."""
_REFORMATS: Final = frozenset({"Reformat"})
_POINTWISE: Final = frozenset({"PointWise", "ElementWise", "Activation", "Scale", "Quantize", "Dequantize"})
_DATATYPES: Final = (
    # UInt8 before Int8, which it contains.
    ("uint8", "UInt8"),
    ("int8", "Int8"),
    ("fp8", "FP8"),
    ("bf16", "BF16"),
    ("bfloat", "BF16"),
    ("fp16", "FP16"),
    ("half", "FP16"),
    ("fp32", "FP32"),
    ("float", "FP32"),
    ("int32", "Int32"),
    ("int64", "Int64"),
    ("bool", "Bool"),
)
"""Words in `Format/Datatype`, in the order in which they are looked for."""
_PROFILE: Final = re.compile(r" \[profile (\d+)\]$")
_ONNX_LAYER: Final = re.compile(r"\[ONNX Layer: ([^\]]*)\]")


@dataclass(frozen=True, slots=True)
class EngineLayer:
    """One layer of an engine. Inputs and outputs are (tensor name, datatype)."""

    name: str
    kind: str
    """`LayerType`: `CaskConvolution`, `Reformat`, `PointWise`, `Myelin`, ..."""
    operation: str
    """`ParameterType`, which names what is computed: `Convolution`; the kind where it is missing."""
    inputs: tuple[tuple[str, str], ...]
    outputs: tuple[tuple[str, str], ...]
    weights: str
    """Datatype of the weights, or nothing."""
    tactic: str
    nodes: tuple[str, ...]
    """Names of the ONNX nodes that it computes."""
    profile: int

    @property
    def is_convolution(self) -> bool:
        """Whether a convolution is computed."""
        # `CaskConvActPool` computes a convolution with the pool behind it.
        return self.operation in _CONVOLUTIONS or "Conv" in self.kind

    @property
    def is_reformat(self) -> bool:
        """Whether it only moves or converts values."""
        return self.kind in _REFORMATS or self.operation in _REFORMATS

    @property
    def is_pointwise(self) -> bool:
        """Whether it computes on single values: an activation, a requantisation."""
        return any(word in self.kind or word in self.operation for word in _POINTWISE)

    @property
    def precision(self) -> str:
        """Datatype that its first input is read in."""
        return self.inputs[0][1] if self.inputs else "unknown"


@dataclass(frozen=True, slots=True)
class EngineSummary:
    """An engine in numbers, and what was found wrong."""

    layers: int
    convolutions: Mapping[str, str]
    """Real precision of each convolution by name: of the worst profile where they differ."""
    kinds: Mapping[str, int]
    """Layers by `kind: input types > output types`, as in `CaskConvolution: Int8+Int8 > Int8`."""
    findings: tuple[str, ...]

    def precisions(self) -> dict[str, int]:
        """Convolutions by precision, the most frequent first."""
        return dict(collections.Counter(self.convolutions.values()).most_common())

    def as_dict(self) -> dict[str, object]:
        """For a JSON file."""
        return {
            "layers": self.layers,
            "convolutionsByPrecision": self.precisions(),
            "convolutions": dict(self.convolutions),
            "kinds": dict(self.kinds),
            "findings": list(self.findings),
        }


def parse_layers(document: str) -> tuple[EngineLayer, ...]:
    """Read the inspector's JSON.

    Raises:
        BuildError: no JSON, no layers, or names only: the plan was built without detailed profiling verbosity.
    """
    try:
        layers = json.loads(document)["Layers"]
    except (ValueError, KeyError, TypeError) as error:
        raise BuildError(f"the engine inspector's answer is not understood: {type(error).__name__}: {error}") from error
    if any(isinstance(layer, str) for layer in layers):
        raise BuildError("the engine inspector tells layer names only: build with detailed profiling verbosity")
    return tuple(_layer(layer) for layer in layers)


def summarise(
    layers: Sequence[EngineLayer], *, int8: bool, nodes: Collection[str] = (), kept_float: Collection[str] = ()
) -> EngineSummary:
    """Count, and for an INT8 engine look for what costs it speed.

    `nodes` are the graph's ONNX convolutions, each of which must be found; `kept_float` those of them that are not
    quantised on purpose.
    """
    convolutions: dict[str, str] = {}
    for layer in layers:
        if layer.is_convolution:
            known = convolutions.get(layer.name)
            convolutions[layer.name] = layer.precision if known in (None, "Int8") else str(known)
    counts = collections.Counter(_kind(layer) for layer in layers)
    findings = [*_findings(layers, frozenset(kept_float)), *_missing(layers, nodes)] if int8 else []
    return EngineSummary(len(layers), convolutions, dict(counts.most_common()), tuple(dict.fromkeys(findings)))


def _findings(layers: Sequence[EngineLayer], kept_float: frozenset[str]) -> Iterator[str]:
    for profile in sorted({layer.profile for layer in layers}):
        part = [layer for layer in layers if layer.profile == profile]
        readers: dict[str, list[EngineLayer]] = collections.defaultdict(list)
        for layer in part:
            for name, _ in layer.inputs:
                readers[name].append(layer)
        for layer in part:
            if not layer.is_convolution:
                continue
            if layer.precision != "Int8" and not kept_float.intersection(layer.nodes):
                yield f"{layer.name}: a convolution in {layer.precision}, not Int8"
            yield from _behind(layer, readers)


def _behind(convolution: EngineLayer, readers: Mapping[str, Sequence[EngineLayer]]) -> Iterator[str]:
    """What stands between a convolution and its activation or the next convolution."""
    for name, datatype in convolution.outputs:
        for reader in readers.get(name, ()):
            if reader.is_reformat:
                following = [after for output, _ in reader.outputs for after in readers.get(output, ())]
                for after in following:
                    if after.is_convolution or after.is_pointwise:
                        change = f"{datatype} to {reader.outputs[0][1]}"
                        yield f"{reader.name}: a reformat ({change}) between {convolution.name} and {after.name}"
            elif reader.is_pointwise:
                yield (
                    f"{reader.name}: computed apart from {convolution.name}, which hands it {datatype}: an activation "
                    "or requantisation that is not fused"
                )


def _missing(layers: Sequence[EngineLayer], nodes: Collection[str]) -> Iterator[str]:
    places = {node: layer for layer in layers for node in layer.nodes}
    if nodes and not places:
        yield "the inspector names no ONNX nodes: whether every convolution is among its layers is not known"
        return
    for node in nodes:
        if node not in places:
            yield f"{node}: in no layer that the inspector shows"
        elif not any(layer.is_convolution and node in layer.nodes for layer in layers):
            yield f"{node}: inside {places[node].kind} {places[node].name}, where its precision is not told"


def _kind(layer: EngineLayer) -> str:
    taken, given = ("+".join(datatype for _, datatype in tensors) for tensors in (layer.inputs, layer.outputs))
    return f"{layer.kind}: {taken} > {given}"


def _layer(entry: Mapping[str, Any]) -> EngineLayer:
    name = str(entry.get("Name", ""))
    profile = _PROFILE.search(name)
    kind = str(entry.get("LayerType", "unknown"))
    weights = entry.get("Weights")
    return EngineLayer(
        name=_PROFILE.sub("", name),
        kind=kind,
        operation=str(entry.get("ParameterType", kind)),
        inputs=_tensors(entry.get("Inputs", ())),
        outputs=_tensors(entry.get("Outputs", ())),
        weights=_datatype(str(weights.get("Type", ""))) if isinstance(weights, dict) else "",
        tactic=str(entry.get("TacticName", "")),
        nodes=tuple(_ONNX_LAYER.findall(str(entry.get("Metadata", "")))),
        profile=int(profile[1]) if profile else 0,
    )


def _tensors(entries: Sequence[Mapping[str, Any]]) -> tuple[tuple[str, str], ...]:
    return tuple(
        (_PROFILE.sub("", str(entry.get("Name", ""))), _datatype(str(entry.get("Format/Datatype", ""))))
        for entry in entries
    )


def _datatype(text: str) -> str:
    lowered = text.lower()
    return next((name for word, name in _DATATYPES if word in lowered), "unknown")
