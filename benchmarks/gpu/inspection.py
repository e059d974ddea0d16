"""What TensorRT made of a graph: counts from the JSON that its engine inspector writes."""

from __future__ import annotations

from collections import Counter
from typing import Any

Layer = dict[str, Any]


def summary(layers: list[Layer]) -> dict[str, Any]:
    """Layers by type, convolutions by the types of their input and output, and what converts between convolutions."""
    convolutions = [layer for layer in layers if is_convolution(layer)]
    makers = {tensor["Name"]: layer for layer in layers for tensor in layer.get("Outputs", ())}
    takers: dict[str, list[Layer]] = {}
    for layer in layers:
        for tensor in layer.get("Inputs", ()):
            takers.setdefault(tensor["Name"], []).append(layer)
    return {
        "layers": len(layers),
        "by_type": dict(Counter(str(layer.get("LayerType", "?")) for layer in layers).most_common()),
        "convolutions": dict(Counter(_types(layer) for layer in convolutions).most_common()),
        "reformats": sum(layer.get("LayerType") == "Reformat" for layer in layers),
        "reformats_between_convolutions": [
            str(layer["Name"])
            for layer in layers
            if layer.get("LayerType") == "Reformat"
            and any(is_convolution(makers[t["Name"]]) for t in layer["Inputs"] if t["Name"] in makers)
            and any(is_convolution(taker) for t in layer["Outputs"] for taker in takers.get(t["Name"], ()))
        ],
    }


def is_convolution(layer: Layer) -> bool:
    """Whether the layer is a convolution, with whatever is fused into it."""
    return any("Conv" in str(layer.get(kind, "")) for kind in ("LayerType", "ParameterType"))


def _types(layer: Layer) -> str:
    takes, gives = ("+".join(_type(t) for t in layer.get(side, ())) for side in ("Inputs", "Outputs"))
    return f"{takes} -> {gives}"


def _type(tensor: dict[str, Any]) -> str:
    text = str(tensor.get("Format/Datatype", "?"))
    known = {"Int8": "int8", "FP16": "fp16", "FP32": "fp32", "Half": "fp16", "Int32": "int32", "UInt8": "uint8"}
    return next((name for word, name in known.items() if word in text), text)
