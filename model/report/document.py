"""report.json: everything that a report holds, with the figures that follow from it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from pydantic import BaseModel
from pydantic.alias_generators import to_camel

from model.report.content import BuildReport, Comparison, Speed, speed_up

_DIGITS = 6
"""Significant digits of a float: more than any clock or gate here tells."""


def build_document(report: BuildReport) -> dict[str, Any]:
    """The content of a build's report.json."""
    return {
        "manifest": _plain(report.manifest),
        "comparison": comparison_document(report.comparison),
        "graphs": _plain(report.graphs),
        "seconds": _plain(report.seconds),
        "cached": sorted(report.cached),
        "peakGib": round(report.peak_gib, 2),
        "sources": _plain(report.sources),
    }


def comparison_document(comparison: Comparison) -> dict[str, Any]:
    """The content of a comparison's report.json."""
    return {**_plain(comparison), "speed": [speed_document(comparison, row) for row in comparison.speed]}


def speed_document(comparison: Comparison, row: Speed) -> dict[str, Any]:
    """One row with its repetitions and what is computed from them; single calls are in `calls_document`."""
    row_alone = {name: value for name, value in _plain(row).items() if name != "calls"}
    computed = {
        "imagesPerS": row.images_per_s,
        "spread": row.spread,
        "repetitions": len(row.samples),
        "steps": len(row.calls),
        "p50Ms": row.p50_ms,
        "p99Ms": row.p99_ms,
        "speedUpOverNative": speed_up(comparison.speed, row),
    }
    return {**row_alone, **_plain(computed)}


def calls_document(comparison: Comparison) -> dict[str, Any]:
    """Milliseconds of every call of every row, in the order of `comparison.speed`."""
    return {
        "calls": [
            {"row": row.row, "batch": row.batch, "preprocessing": row.preprocessing, "ms": _plain(row.calls)}
            for row in comparison.speed
        ]
    }


def text_of(document: Mapping[str, Any]) -> str:
    """The document as JSON text: indented, but a list of numbers on one line."""
    return _indented(document, 0) + "\n"


def _indented(value: Any, depth: int) -> str:  # noqa: ANN401 - any JSON value
    pad, end = "  " * (depth + 1), "  " * depth
    if isinstance(value, Mapping) and value:
        items = (f"{pad}{json.dumps(key)}: {_indented(item, depth + 1)}" for key, item in value.items())
        return "{\n" + ",\n".join(items) + f"\n{end}}}"
    if isinstance(value, list) and any(isinstance(item, Mapping | list) for item in value):
        return "[\n" + ",\n".join(f"{pad}{_indented(item, depth + 1)}" for item in value) + f"\n{end}]"
    return json.dumps(value, allow_nan=False, ensure_ascii=False)


def _plain(value: Any) -> Any:  # noqa: ANN401 - any value that a report holds
    if isinstance(value, BaseModel):
        return _plain(value.model_dump(mode="json", by_alias=True))
    if is_dataclass(value):
        return {to_camel(field.name): _plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        # JSON has no infinity: two equal answers have no noise at all.
        return float(f"{value:.{_DIGITS}g}") if math.isfinite(value) else None
    return value
