"""What `python -m model inspect` tells of an artifact: its manifest, and the layers of its graphs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

from pydantic.alias_generators import to_camel

from artifact.folder import ArtifactFolder
from artifact.manifest import Manifest, graph_path
from artifact.signature import Signature
from model.compare.structure import Structure, structure_of
from model.report.content import Layer
from model.report.reading import reported_graphs

_FORMS: Final = ("image", "tensor")
_MIB: Final = 2**20


def artifact_document(folder: ArtifactFolder) -> dict[str, Any]:
    """The manifest, the signatures, and the structure of one graph a precision.

    SQNR by layer is in the report of the build, which lies beside an artifact that was built here.
    """
    known = {graph.precision: {layer.name: layer for layer in graph.layers} for graph in reported_graphs(folder.path)}
    graphs: dict[str, Any] = {}
    for precision in folder.manifest.precisions:
        name = next((graph_path(precision, form) for form in _FORMS if _has(folder, precision, form)), None)
        if name is not None:
            graphs[precision] = {"file": name, **graph_document(structure_of(folder.path / name))}
            _fill(graphs[precision]["layers"], known.get(precision, {}))
    return {
        "manifest": json.loads(folder.manifest.model_dump_json(by_alias=True)),
        "signatures": json.loads(folder.signatures.model_dump_json(by_alias=True))["signatures"],
        "labels": len(folder.labels()),
        "graphs": graphs,
    }


def graph_document(structure: Structure) -> dict[str, Any]:
    """One graph as JSON."""
    return {
        "inputs": [asdict(port) for port in structure.inputs],
        "outputs": [asdict(port) for port in structure.outputs],
        "opset": structure.opset,
        "parameters": structure.parameters,
        "macs": structure.macs,
        "sizeBytes": structure.size_bytes,
        "layers": [_layer(layer) for layer in structure.layers],
    }


def artifact_lines(folder: ArtifactFolder, document: Mapping[str, Any]) -> list[str]:
    """An artifact in words and tables."""
    manifest = folder.manifest
    lines = [
        f"artifact   {manifest.key}",
        f"runtime    {manifest.runtime}" + (", random weights" if manifest.weights == "random" else ""),
        f"archive    {manifest.archive.name}, {manifest.archive.size / _MIB:.1f} MiB",
        f"run        {manifest.run}",
        *_titled("inputs", ((name, value) for name, value in manifest.inputs.items())),
        *_titled("signatures", (_signature(name, s) for name, s in folder.signatures.signatures.items())),
        *_titled("accuracy and gates", _gates(manifest)),
        *_titled("speed", _speed(manifest)),
        *_titled("plans", ((p.folder, f"TensorRT {p.tensorrt}") for p in manifest.plans)),
        *_titled("files", ((name, f"{entry.size:>12,}") for name, entry in manifest.files.items())),
    ]
    if not manifest.plans:
        lines += ["", "plans: none"]
    for precision, graph in document["graphs"].items():
        lines += ["", f"{precision}: {graph['file']}", *graph_lines(graph)]
    return lines


def graph_lines(document: Mapping[str, Any]) -> list[str]:
    """One graph in words and a table of its layers."""
    counts: dict[str, int] = {}
    for layer in document["layers"]:
        counts[layer["precision"]] = counts.get(layer["precision"], 0) + 1
    summary = ", ".join(f"{number} {precision}" for precision, number in counts.items()) or "none"
    head = ("layer", "operator", "precision", "MACs", "SQNR dB")
    rows = [
        (
            str(layer["name"]),
            str(layer["operator"]),
            str(layer["precision"]),
            f"{layer['macs']:,}",
            "-" if layer["sqnrDb"] is None else f"{layer['sqnrDb']:.1f}",
        )
        for layer in document["layers"]
    ]
    size = f"{document['sizeBytes'] / _MIB:.1f} MiB"
    work = f"{document['parameters']:,} parameters, {document['macs']:,} MACs an image"
    return [
        *(f"  input  {_port(port)}" for port in document["inputs"]),
        *(f"  output {_port(port)}" for port in document["outputs"]),
        f"  opset {document['opset']}, {work}, {size}, layers: {summary}",
        *(f"  {line}" for line in table(head, rows)),
    ]


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns as wide as they need to be."""
    if not rows:
        return []
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    return [
        "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in (head, *rows)
    ]


def _has(folder: ArtifactFolder, precision: Any, form: Any) -> bool:  # noqa: ANN401 - literals of the manifest
    return graph_path(precision, form) in folder.manifest.files


def _fill(layers: list[dict[str, Any]], known: Mapping[str, Layer]) -> None:
    for layer in layers:
        found = known.get(layer["name"])
        layer |= {
            "sqnrDb": found.sqnr_db if found else None,
            "sensitivityDb": found.sensitivity_db if found else None,
        }


def _layer(layer: Layer) -> dict[str, Any]:
    return {to_camel(name): value for name, value in asdict(layer).items() if name != "reason"}


def _port(port: Mapping[str, Any]) -> str:
    return f"{port['name']} {port['dtype']} [{', '.join(map(str, port['shape']))}]"


def _titled(title: str, rows: Iterable[tuple[str, str]]) -> list[str]:
    found = list(rows)
    width = max((len(name) for name, _ in found), default=0)
    return ["", f"{title}:", *(f"  {name:<{width}}  {value}" for name, value in found)] if found else []


def _signature(name: str, signature: Signature) -> tuple[str, str]:
    def specs(values: Iterable[Any]) -> str:
        return ", ".join(f"{s.name} {s.dtype} {list(s.shape)} ({s.kind})" for s in values)

    return name, f"{signature.form}: {specs(signature.inputs)} -> {specs(signature.outputs)}"


def _gates(manifest: Manifest) -> Iterable[tuple[str, str]]:
    for row in manifest.accuracy:
        agreement = "" if row.agreement is None else f"agreement {row.agreement:.4f}, "
        yield row.graph, f"{agreement}SQNR {row.sqnr_db:.1f} dB on {row.evaluated_images} images"
        for gate in row.gates:
            verdict = "passed" if gate.passed else "FAILED"
            yield "", f"{gate.name}: {gate.value:.4g} (threshold {gate.threshold:g}) {verdict}"


def _speed(manifest: Manifest) -> Iterable[tuple[str, str]]:
    for row in manifest.speed:
        yield f"{row.precision}, batch {row.batch}", f"{row.images_per_s:.1f} images/s in {row.runtime}"
