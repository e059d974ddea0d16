"""Files of one run: figures and samples for programs, a page with plots for people."""

from __future__ import annotations

import html
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from artifact.folder import ArtifactFolder
from benchmarks.model.goals import Verdict, verdicts
from model.report.content import Comparison
from model.report.document import calls_document, comparison_document, text_of
from model.report.page import comparison_sections, document_page, paragraph, section, table
from model.report.plots import layer_plot, sensitivity_plot, speed_plot, standalone

AS_GOOD: Final = 0.002
"""Agreements this near, one image of 520, are the same."""
QUICK: Final = "This was a quick try: its figures mean nothing."


@dataclass(frozen=True, slots=True)
class GridRow:
    """One graph beside quantize_static's grid, or of it."""

    name: str
    agreement: float
    sqnr_db: float
    size_bytes: int
    samples: Mapping[int, tuple[float, ...]]
    """Images per second of each repetition, by batch size."""

    def images_per_s(self, batch: int) -> float:
        """Median of the repetitions."""
        return statistics.median(self.samples[batch])


def rival(grid: Sequence[GridRow]) -> GridRow:
    """The fastest of the most accurate graphs: one that is fast and answers wrongly is none to be measured with."""
    best = max(row.agreement for row in grid)
    return max((row for row in grid if row.agreement >= best - AS_GOOD), key=lambda row: row.images_per_s(1))


@dataclass(frozen=True, slots=True)
class Results:
    """Everything that a run has measured."""

    artifact: ArtifactFolder
    comparison: Comparison
    figures: Mapping[str, float]
    grid: Sequence[GridRow]
    memory: Sequence[Mapping[str, Any]]
    weight_bits: int
    seconds: float
    quick: bool

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        """Every goal beside what was measured."""
        return verdicts(self.figures)


def write(results: Results, out: Path, docs: Path) -> list[Path]:
    """Write all files; return their paths."""
    rows = [row for row in results.comparison.speed if not row.preprocessing]
    graphs = results.comparison.graphs
    files = {
        out / "model.json": text_of(_document(results)),
        out / "model-samples.json": text_of(_samples(results)),
        docs / "model.html": _page(results),
        docs / "model-speed.svg": standalone(speed_plot(results.comparison, rows)),
        docs / "model-layers.svg": standalone(layer_plot(graphs)),
        docs / "model-sensitivity.svg": standalone(sensitivity_plot(graphs)),
    }
    for path, content in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
    return list(files)


def sentence(verdict: Verdict) -> str:
    """A goal and what was measured, in words."""
    goal, said = verdict.goal, "met" if verdict.met else "MISSED"
    reason = f": {goal.why_missed}" if goal.why_missed and not verdict.met else ""
    aim = f"{goal.compared} {_figure(verdict.target, goal.unit)}"
    return f"{said}: {goal.said}: {_figure(verdict.measured, goal.unit)} ({aim}){reason}"


def _document(results: Results) -> dict[str, Any]:
    machine = results.comparison.machine
    return {
        "date": machine.date,
        "device": machine.device,
        "quick": results.quick,
        **{name: round(value, 4) for name, value in results.figures.items()},
        "cpu_weight_bits": results.weight_bits,
        "artifact_key": results.artifact.manifest.key,
        "benchmark_seconds": round(results.seconds),
        "versions": dict(machine.versions),
        "goals": [
            {
                "goal": verdict.goal.said,
                "figure": verdict.goal.figure,
                "measured": round(verdict.measured, 4),
                "compared": verdict.goal.compared,
                "target": round(verdict.target, 4),
                "met": verdict.met,
                "why_missed": "" if verdict.met else verdict.goal.why_missed,
            }
            for verdict in results.verdicts
        ],
        "static_grid": [
            {
                "graph": row.name,
                "agreement": round(row.agreement, 4),
                "sqnr_db": round(row.sqnr_db, 2),
                **{f"images_per_s_b{batch}": round(row.images_per_s(batch), 1) for batch in row.samples},
            }
            for row in results.grid
        ],
    }


def _samples(results: Results) -> dict[str, Any]:
    """What the figures come from: every call of the comparison, every repetition of the grid."""
    return {
        "comparison": comparison_document(results.comparison),
        **calls_document(results.comparison),
        "grid": [
            {"graph": row.name, "samples": {str(batch): list(samples) for batch, samples in row.samples.items()}}
            for row in results.grid
        ],
        "calibration": [dict(entry) for entry in results.memory],
    }


def _page(results: Results) -> str:
    machine, manifest = results.comparison.machine, results.artifact.manifest
    facts = (
        f"EfficientNet-Lite0 with its ImageNet weights, measured {machine.date} on {machine.device}: artifact "
        f"{manifest.key}, CPU graph with {results.weight_bits}-bit weights. The whole run took {results.seconds:.0f} s."
    )
    return document_page(
        "What INT8 brings",
        [
            paragraph(facts),
            f'<p class="bad">{QUICK}</p>' if results.quick else "",
            _goals(results.verdicts),
            *comparison_sections(results.comparison),
            _grid(results.grid),
            _memory(results.memory),
        ],
    )


def _goals(found: Sequence[Verdict]) -> str:
    rows = [
        (
            html.escape(verdict.goal.said),
            html.escape(f"{verdict.goal.compared} {_figure(verdict.target, verdict.goal.unit)}"),
            html.escape(_figure(verdict.measured, verdict.goal.unit)),
            '<span class="ok">met</span>' if verdict.met else '<span class="bad">missed</span>',
            "" if verdict.met else html.escape(verdict.goal.why_missed),
        )
        for verdict in found
    ]
    return section("Goals", table(("goal", "aimed at", "measured", "", "why"), rows))


def _grid(rows: Sequence[GridRow]) -> str:
    said = (
        "ONNX Runtime's own quantiser with several of its settings, on the same calibration photos. Every graph is "
        "judged on the same 520 images (20 photos, each 26 ways cut) against FP32, and timed in turns with the others, "
        "in tensor form."
    )
    batches = sorted(rows[0].samples)
    head = ("graph", "agreement", "SQNR, dB", *(f"images/s, batch {batch}" for batch in batches))
    cells = [
        (
            html.escape(row.name),
            f"{row.agreement:.3f}",
            f"{row.sqnr_db:.1f}",
            *(f"{row.images_per_s(batch):.0f}" for batch in batches),
        )
        for row in rows
    ]
    return section("Next to quantize_static", paragraph(said), table(head, cells))


def _memory(entries: Sequence[Mapping[str, Any]]) -> str:
    rows = [(str(entry["images"]), f"{entry['mib']:,.0f}", f"{entry['seconds']:.0f}") for entry in entries]
    said = "Each in a fresh process, which held at most so much (VmHWM). The set is read from disk as it is needed."
    return section("Memory of a calibration", paragraph(said), table(("images", "MiB", "seconds"), rows))


def _figure(value: float, unit: str) -> str:
    digits = 0 if abs(value) >= 100 else 3 if not unit else 2
    return f"{value:.{digits}f}{unit}"
