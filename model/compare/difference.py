"""What `python -m model compare` tells: how one artifact differs from another."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from artifact.folder import ArtifactFolder
from artifact.manifest import Accuracy, Manifest
from model.compare.description import table


def difference(before: ArtifactFolder, after: ArtifactFolder) -> dict[str, Any]:
    """All that differs between two artifacts; an empty list or object stands where nothing does."""
    first, second = before.manifest, after.manifest
    return {
        "keys": [first.key, second.key],
        "same": first.key == second.key and first.archive.sha256 == second.archive.sha256,
        "inputs": _changed(_flat(first.inputs), _flat(second.inputs)),
        "tools": _changed(first.tools, second.tools),
        "signatures": _changed(_signatures(before), _signatures(after)),
        "labels": [len(before.labels()), len(after.labels())] if before.labels() != after.labels() else [],
        "accuracy": list(_accuracy(first, second)),
        "speed": list(_speed(first, second)),
        "archiveBytes": [first.archive.size, second.archive.size],
        "files": list(_files(first, second)),
    }


def difference_lines(document: Mapping[str, Any]) -> list[str]:
    """The difference in words and tables."""
    first, second = document["keys"]
    if document["same"]:
        return [f"{first}: the same artifact, byte for byte"]
    lines = [f"A {first}", f"B {second}"]
    for title in ("inputs", "tools", "signatures"):
        rows = [(name, _short(a), _short(b)) for name, (a, b) in document[title].items()]
        lines += _section(title, ("", "A", "B"), rows)
    if document["labels"]:
        a, b = document["labels"]
        lines += ["", f"labels differ: {a} in A, {b} in B"]
    accuracy = [
        (row["graph"], row["measure"], _number(row["a"]), _number(row["b"]), _signed(row["change"]))
        for row in document["accuracy"]
    ]
    lines += _section("accuracy", ("graph", "measure", "A", "B", "B - A"), accuracy)
    speed = [
        (row["row"], str(row["batch"]), _number(row["a"]), _number(row["b"]),
         "-" if row["ratio"] is None else f"{row['ratio']:.2f} x")
        for row in document["speed"]
    ]  # fmt: skip
    lines += _section("images per second, on each build's own machine", ("row", "batch", "A", "B", "B / A"), speed)
    a, b = document["archiveBytes"]
    files = [(row["file"], _number(row["a"]), _number(row["b"])) for row in document["files"]]
    files += [("archive", f"{a:,}", f"{b:,}")] if files else []
    return lines + (_section("bytes of files that differ", ("file", "A", "B"), files) or ["", "no file differs"])


def _flat(inputs: Mapping[str, str]) -> dict[str, str]:
    """Inputs of the key, with those that are JSON objects taken apart."""
    flat: dict[str, str] = {}
    for name, value in inputs.items():
        try:
            inner = json.loads(value)
        except json.JSONDecodeError:
            inner = None
        if isinstance(inner, dict):
            flat |= {f"{name}.{part}": json.dumps(content) for part, content in inner.items()}
        else:
            flat[name] = value
    return flat


def _changed(first: Mapping[str, str], second: Mapping[str, str]) -> dict[str, list[str | None]]:
    names = sorted({*first, *second})
    return {name: [first.get(name), second.get(name)] for name in names if first.get(name) != second.get(name)}


def _signatures(folder: ArtifactFolder) -> dict[str, str]:
    signatures = folder.signatures.signatures
    return {name: signature.model_dump_json(by_alias=True) for name, signature in signatures.items()}


def _accuracy(first: Manifest, second: Manifest) -> Iterator[dict[str, Any]]:
    rows = [{row.graph: row for row in manifest.accuracy} for manifest in (first, second)]
    for graph in dict.fromkeys((*rows[0], *rows[1])):
        measured = [_measures(row[graph]) if graph in row else {} for row in rows]
        for name in dict.fromkeys((*measured[0], *measured[1])):
            a, b = (values.get(name) for values in measured)
            change = None if a is None or b is None else b - a
            yield {"graph": graph, "measure": name, "a": a, "b": b, "change": change}


def _measures(row: Accuracy) -> dict[str, float]:
    named = {"agreement": row.agreement, "SQNR dB": row.sqnr_db, "top-1": row.top1, "top-5": row.top5}
    return {name: value for name, value in named.items() if value is not None}


def _speed(first: Manifest, second: Manifest) -> Iterator[dict[str, Any]]:
    rates = [{(row.precision, row.batch): row.images_per_s for row in manifest.speed} for manifest in (first, second)]
    for row, batch in dict.fromkeys((*rates[0], *rates[1])):
        a, b = (rate.get((row, batch)) for rate in rates)
        yield {"row": row, "batch": batch, "a": a, "b": b, "ratio": None if not a or b is None else b / a}


def _files(first: Manifest, second: Manifest) -> Iterator[dict[str, Any]]:
    for name in sorted({*first.files, *second.files}):
        a, b = first.files.get(name), second.files.get(name)
        if a != b:
            yield {"file": name, "a": a.size if a else None, "b": b.size if b else None}


def _section(title: str, head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> list[str]:
    return ["", f"{title}:", *(f"  {line}" for line in table(head, rows))] if rows else []


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def _signed(value: float | None) -> str:
    return "-" if value is None else f"{value:+.4f}"


def _short(value: str | None) -> str:
    """A digest need not be read to its end."""
    if value is None:
        return "-"
    return value if len(value) <= 60 else f"{value[:57]}..."
