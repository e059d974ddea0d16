"""How figures are written, the same in tables, plots and the log."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from model.report.content import Comparison, Speed

ABSENT: Final = "-"
"""Stands where nothing was measured."""
ROW_NAMES: Final = {
    "native": "Native TensorFlow",
    "fp32": "FP32",
    "fp16": "FP16",
    "int8": "INT8",
    "int8-cpu": "INT8 (CPU graph)",
}
"""Rows in the order in which they are shown."""


def row_name(row: str) -> str:
    """A row's name for people."""
    return ROW_NAMES.get(row, row)


def in_order(rows: Iterable[str]) -> list[str]:
    """Distinct row names: the known ones in their order, then others by name."""
    known = list(ROW_NAMES)
    return sorted(set(rows), key=lambda row: (known.index(row) if row in known else len(known), row))


def rate(images_per_s: float) -> str:
    """Images per second with about three digits."""
    return f"{images_per_s:,.0f}" if images_per_s >= 100 else f"{images_per_s:.3g}"


def ratio(value: float | None) -> str:
    """A speed-up."""
    return ABSENT if value is None else f"{value:.2f} x"


def share(value: float | None) -> str:
    """A share of one, with as many digits as 1000 images tell."""
    return ABSENT if value is None else f"{value:.3f}"


def percent(value: float) -> str:
    """A share of one as per cent."""
    return f"{100 * value:.0f} %"


def milliseconds(value: float | None) -> str:
    """A duration in ms, without its unit."""
    return ABSENT if value is None else f"{value:.3g}" if value < 100 else f"{value:,.0f}"


def decibels(value: float | None) -> str:
    """A ratio in dB, without its unit."""
    return ABSENT if value is None else f"{value:.1f}"


def mib(size_bytes: int | None) -> str:
    """A size in MiB, without its unit."""
    return ABSENT if size_bytes is None else f"{size_bytes / 2**20:.1f}"


def provenance(comparison: Comparison, speed: Iterable[Speed]) -> str:
    """Where figures come from, one line: device, versions, threads, repetitions, day."""
    rows = tuple(speed)
    parts = [*dict.fromkeys(row.device for row in rows)] or [comparison.machine.device]
    parts += dict.fromkeys(row.runtime for row in rows)
    if rows:
        parts.append(f"{_values(row.threads for row in rows)} threads")
        parts.append(f"median of {_values(len(row.samples) for row in rows)} interleaved repetitions")
    return "; ".join([*parts, comparison.machine.date])


def _values(numbers: Iterable[int]) -> str:
    least, *more = sorted(set(numbers))
    return f"{least} to {more[-1]}" if more else str(least)
