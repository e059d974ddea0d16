"""Plots as SVG: the same bytes for the same figures, and readable on light and dark pages."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from model.report.content import Comparison, QuantisedGraph, Speed, speed_up
from model.report.text import in_order, rate, row_name

_INK, _FAINT = "#010101", "#020202"
"""Drawn in, then replaced by the page's own colours."""
_ROW_COLOURS: Final = {
    "native": "#8a8f98",
    "fp32": "#4c83c3",
    "fp16": "#8f6bc1",
    "int8": "#1f9d6b",
    "int8-cpu": "#1f9d6b",
}
_GRAPH_COLOURS: Final = {"int8": "#4c83c3", "int8-cpu": "#d98324"}
_OTHER: Final = "#c2577a"
_THEME: Final = (
    "svg{--ink:#1c2024;--faint:#c9cdd3}@media(prefers-color-scheme:dark){svg{--ink:#e8eaed;--faint:#4a5058}}"
)
_SALT: Final = "tensorrt-fleet"
"""matplotlib makes identifiers from it: without a fixed one they differ from run to run."""


def speed_plot(comparison: Comparison, speed: Sequence[Speed], name: str = "speed") -> str:
    """Throughput by batch size, a bar a row, with the range of the repetitions and the speed-up over native."""
    batches = sorted({row.batch for row in speed})
    rows = in_order(row.row for row in speed)
    found = {(row.row, row.batch): row for row in speed}
    with _style():
        figure, axes = _figure(0.5 + 0.26 * (len(rows) + 0.8) * len(batches))
        positions, names = [], []
        for group, batch in enumerate(batches):
            for number, row in enumerate(rows):
                measured = found.get((row, batch))
                if measured is None:
                    continue
                place = group * (len(rows) + 0.8) + number
                positions.append(place)
                names.append(f"{row_name(row)}, batch {batch}")
                low, high = min(measured.samples), max(measured.samples)
                middle = measured.images_per_s
                # A row with a note is not to be read like the others.
                axes.barh(place, middle, 0.82, color=_ROW_COLOURS.get(row, _OTHER), alpha=0.5 if measured.note else 1.0)
                axes.errorbar(middle, place, xerr=[[middle - low], [high - middle]], color=_INK, capsize=2, lw=1)
                gain = speed_up(comparison.speed, measured)
                more = f"  {gain:.1f} x" if gain is not None and row != "native" else ""
                axes.annotate(
                    f"{rate(middle)}{more}", (high, place), (5, 0), textcoords="offset points", va="center", fontsize=8
                )
        axes.set_yticks(positions, names)
        axes.invert_yaxis()
        axes.set_xlabel("images per second (bars: median; lines: least to greatest repetition)")
        axes.margins(x=0.16)
        axes.grid(axis="x")
        return _svg(figure, name, "Images per second of each row at each batch size")


def layer_plot(graphs: Sequence[QuantisedGraph], name: str = "layers") -> str:
    """SQNR of every layer's output in the whole quantised graph, in the graph's order."""
    series = {g.precision: [(n, x.sqnr_db) for n, x in enumerate(g.layers, 1) if x.sqnr_db is not None] for g in graphs}
    return _dots(series, name, "SQNR of the layer's output, dB", "SQNR by layer: how much noise has gathered there")


def sensitivity_plot(graphs: Sequence[QuantisedGraph], name: str = "sensitivity") -> str:
    """SQNR of the model's output with one layer quantised at a time."""
    series = {
        g.precision: [(n, x.sensitivity_db) for n, x in enumerate(g.layers, 1) if x.sensitivity_db is not None]
        for g in graphs
    }
    return _dots(
        series, name, "SQNR of the output, dB", "Sensitivity: SQNR of the output with this layer alone in INT8"
    )


def standalone(svg: str) -> str:
    """An inline plot as a file of its own, for a document that shows it as an image."""
    opening, rest = svg.split(">", 1)
    size = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', opening)
    # Inline a plot is as wide as its page; a file needs a size of its own.
    sized = f'{opening} width="{size[1]}" height="{size[2]}"' if size else opening
    return f'<?xml version="1.0" encoding="utf-8"?>\n{sized}><style>{_THEME}</style>{rest}\n'


def _dots(series: Mapping[str, Sequence[tuple[int, float]]], name: str, unit: str, title: str) -> str:
    drawn = {graph: points for graph, points in series.items() if points}
    if not drawn:
        return ""
    with _style():
        figure, axes = _figure(2.9)
        for graph, points in drawn.items():
            colour = _GRAPH_COLOURS.get(graph, _OTHER)
            numbers, values = zip(*points, strict=True)
            axes.plot(numbers, values, "o-", color=colour, ms=3.2, lw=1, label=row_name(graph))
        axes.set_xlabel("layer, in the graph's order")
        axes.set_ylabel(unit)
        axes.grid(axis="y")
        if len(drawn) > 1:
            figure.legend(loc="outside upper right", ncols=len(drawn), frameon=False)
        return _svg(figure, name, title)


def _style() -> Any:  # noqa: ANN401 - a context manager of matplotlib
    import matplotlib as mpl  # noqa: PLC0415 - takes a second, and a log line needs none of it

    # Any, as matplotlib types its hundreds of keys one by one.
    settings: dict[Any, Any] = {
        "svg.hashsalt": _SALT,
        "svg.fonttype": "none",
        "font.family": "sans-serif",
        "font.size": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.axisbelow": True,
    }
    settings |= dict.fromkeys(("text.color", "axes.labelcolor", "xtick.labelcolor", "ytick.labelcolor"), _INK)
    settings |= dict.fromkeys(("axes.edgecolor", "xtick.color", "ytick.color", "grid.color"), _FAINT)
    return mpl.rc_context(settings)


def _figure(height: float) -> tuple[Any, Any]:
    from matplotlib.figure import Figure  # noqa: PLC0415 - see _style

    figure = Figure(figsize=(6.6, height), layout="constrained")
    return figure, figure.subplots()


def _svg(figure: Any, name: str, title: str) -> str:  # noqa: ANN401 - matplotlib's figure
    stream = io.StringIO()
    figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    drawn = stream.getvalue()
    drawn = drawn[drawn.index("<svg") :].strip()
    # Several plots share one page, so their identifiers must differ.
    drawn = re.sub(r'\bid="', f'id="{name}-', drawn)
    drawn = re.sub(r'(url\(#|href="#)', rf"\g<1>{name}-", drawn)
    drawn = re.sub(r"<metadata>.*?</metadata>\s*", "", drawn, flags=re.DOTALL)
    drawn = drawn.replace(_INK, "var(--ink)").replace(_FAINT, "var(--faint)")
    drawn = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", drawn, count=1)
    drawn = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", drawn, count=1)
    return re.sub(r"<svg ", f'<svg role="img" aria-label="{title}" ', drawn, count=1)
