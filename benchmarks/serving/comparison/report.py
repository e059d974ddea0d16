"""Files of one run: figures and samples for programs, a page with plots for people."""

from __future__ import annotations

import html
import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks.serving import page, vm
from benchmarks.serving.comparison.ceiling import Setting
from benchmarks.serving.comparison.cells import Cell
from benchmarks.serving.comparison.contenders import OURS, PEERS, PeerSetting
from benchmarks.serving.comparison.goals import Verdict, verdicts
from benchmarks.serving.comparison.measuring import CEILING, Sample, Samples
from benchmarks.serving.comparison.overhead import Overhead
from benchmarks.serving.comparison.plots import bars
from benchmarks.serving.comparison.statistics import Ratio, paired
from model.report.page import document_page, paragraph, section, table

PeerGrid = dict[tuple[PeerSetting, str], Sample]
"""By setting and cell."""
CeilingGrid = dict[tuple[Setting, str], Sample]
DOCS: Final = vm.ROOT / "docs" / "reports"
QUICK: Final = "This was a quick try: its figures mean nothing."
_ROUNDED: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """Everything that a run has measured."""

    date: str
    machine: str
    bits: int
    """Of the CPU graph's weights."""
    quick: bool
    cells: Mapping[str, Cell]
    samples: Samples
    peer_grid: PeerGrid
    ceiling_grid: CeilingGrid
    profile: Mapping[str, float]
    """Milliseconds of processor time an image of our VM, by part, 16 at a time."""
    overhead: Overhead
    overload: Mapping[str, Any] | None

    def rates(self, cell: str, contender: str) -> list[float]:
        """Images a second, round by round."""
        return [sample.images_per_s for sample in self.samples[cell, contender]]

    def cpu_ms(self, cell: str, contender: str) -> list[float]:
        """Processor time an image, round by round."""
        return [sample.cpu_ms for sample in self.samples[cell, contender]]

    def p50_ms(self, cell: str, contender: str) -> list[float]:
        """Median latency, round by round."""
        return [sample.p50_ms for sample in self.samples[cell, contender] if sample.p50_ms is not None]

    def over(self, cell: str, peer: str) -> Ratio:
        """Our throughput over a peer's."""
        return paired(self.rates(cell, OURS), self.rates(cell, peer))

    def figures(self) -> dict[str, float | None]:
        """By the names that goals have."""
        figures: dict[str, float | None] = {}
        for cell in self.cells:
            if (cell, CEILING) in self.samples:
                cpu = paired(self.cpu_ms(cell, CEILING), self.cpu_ms(cell, OURS))
                figures[f"ceiling_ratio_{cell}"] = cpu.median
                figures[f"ceiling_wall_ratio_{cell}"] = paired(self.rates(cell, OURS), self.rates(cell, CEILING)).median
            figures[f"best_peer_ratio_{cell}"] = min(self.over(cell, peer).median for peer in PEERS)
            figures[f"best_peer_lower95_{cell}"] = min(self.over(cell, peer).lower_95 for peer in PEERS)
            figures[f"cpu_ms_per_image_{cell}"] = statistics.median(self.cpu_ms(cell, OURS))
            figures[f"images_per_s_{cell}"] = statistics.median(self.rates(cell, OURS))
        figures["p50_c1_vs_best_peer"] = max(
            paired(self.p50_ms("c1", OURS), self.p50_ms("c1", p)).median for p in PEERS
        )
        figures["gateway_overhead_p50_ms"] = self.overhead.gateway_ms
        figures["decoding_p50_ms"] = self.overhead.decoding_ms
        for cell, feeding in self.overhead.feeding.items():
            figures[f"feeding_cpu_ms_per_image_{cell}"] = feeding.cpu_ms
        figures["overload_goodput_ratio"] = self.overload["overload_goodput_ratio"] if self.overload else None
        return {name: value if value is None else round(value, _ROUNDED) for name, value in figures.items()}

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        """Every goal beside what was measured."""
        return verdicts(self.figures())


def best_setting(grid: PeerGrid, peer: str, cell: str) -> PeerSetting:
    """The one with the most images a second in a cell."""
    settings = [setting for setting, name in grid if name == cell and setting.peer == peer]
    return max(settings, key=lambda setting: grid[setting, cell].images_per_s)


def best_ceiling(grid: CeilingGrid, cell: str) -> Setting:
    """The one with the most images a second for a cell's photos."""
    settings = [setting for setting, name in grid if name == cell]
    return max(settings, key=lambda setting: grid[setting, cell].images_per_s)


def sentences(results: Results) -> list[str]:
    """Every goal in a line."""
    return [verdict.said for verdict in results.verdicts]


def write(results: Results, seconds: float) -> list[Path]:
    """Write all files; return their paths. What a quick run says is written apart from what counts."""
    out, docs = (page.OUT / "quick",) * 2 if results.quick else (page.OUT, DOCS)
    files = {
        out / "serving.json": json.dumps(_document(results, seconds), indent=2) + "\n",
        out / "serving-samples.json": json.dumps(_samples(results), indent=1) + "\n",
        docs / "serving.html": _page(results, seconds),
    }
    for path, content in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
    return list(files)


def _document(results: Results, seconds: float) -> dict[str, Any]:
    return {
        "date": results.date,
        "machine": results.machine,
        "quick": results.quick,
        **results.figures(),
        "cpu_weight_bits": results.bits,
        "benchmark_seconds": round(seconds),
        "goals": [
            {
                "figure": verdict.goal.figure,
                "goal": verdict.goal.said,
                "measured": verdict.measured,
                "compared": verdict.goal.compared,
                "target": verdict.goal.target,
                "met": verdict.met,
            }
            for verdict in results.verdicts
        ],
        "cells": [_cell(results, name, contender) for name, contender in results.samples],
        "profile_cpu_ms": {part: round(value, 3) for part, value in results.profile.items()},
        "overhead": asdict(results.overhead),
    }


def _cell(results: Results, name: str, contender: str) -> dict[str, Any]:
    found: dict[str, Any] = {
        "cell": name,
        "contender": contender,
        "setting": _setting(results, name, contender),
        "images_per_s": round(statistics.median(results.rates(name, contender)), 1),
        "cpu_ms_per_image": round(statistics.median(results.cpu_ms(name, contender)), 3),
    }
    if latencies := results.p50_ms(name, contender):
        tails = [sample.p99_ms for sample in results.samples[name, contender] if sample.p99_ms is not None]
        refused = statistics.fmean(sample.refused for sample in results.samples[name, contender])
        found |= {
            "p50_ms": round(statistics.median(latencies), 2),
            "p99_ms": round(statistics.median(tails), 2),
            "refused_share": round(refused, 4),
        }
    if contender in PEERS:
        ratio = results.over(name, contender)
        found |= {"ours_over_it": round(ratio.median, 3), "ours_over_it_lower95": round(ratio.lower_95, 3)}
    return found


def _setting(results: Results, cell: str, contender: str) -> str:
    if contender == OURS:
        return "as shipped"
    if contender == CEILING:
        return str(best_ceiling(results.ceiling_grid, "large" if cell == "large" else "c16"))
    return str(best_setting(results.peer_grid, contender, cell))


def _samples(results: Results) -> dict[str, Any]:
    """What the figures come from: every round, and the whole grid."""
    return {
        "rounds": [
            {"cell": cell, "contender": contender, "samples": [asdict(sample) for sample in samples]}
            for (cell, contender), samples in results.samples.items()
        ],
        "grid": [
            {"peer": setting.peer, "setting": str(setting), "cell": cell, **asdict(sample)}
            for (setting, cell), sample in results.peer_grid.items()
        ],
        "ceiling_grid": [
            {"setting": str(setting), "cell": cell, **asdict(sample)}
            for (setting, cell), sample in results.ceiling_grid.items()
        ],
    }


def _page(results: Results, seconds: float) -> str:
    facts = (
        f"EfficientNet-Lite0, INT8 with {results.bits}-bit weights; the class and all 1000 probabilities are answered. "
        f"Measured {results.date} on {results.machine}; the client shares those cores. "
        f"{len(results.rates('c16', OURS))} rounds in turns after a search of every peer's settings, {seconds:.0f} s "
        "in all. Processor time is user and system time of all of a server's processes, without the client's."
    )
    return document_page(
        "Our VM next to what one would otherwise write",
        [
            paragraph(facts),
            f'<p class="bad">{QUICK}</p>' if results.quick else "",
            section("Goals", table(("", "goal", "aimed at", "measured"), [_goal_row(v) for v in results.verdicts])),
            section("Images a second", _plot(results, "images/s", "rate")),
            section("Processor time an image", _plot(results, "ms", "cpu")),
            *(_cell_section(results, name, cell) for name, cell in results.cells.items()),
            _profile_section(results),
            _overhead_section(results),
            _grid_section(results),
        ],
    )


def _plot(results: Results, unit: str, what: str) -> str:
    measure = results.rates if what == "rate" else results.cpu_ms
    groups = {
        cell.said: {who: measure(name, who) for who in (OURS, CEILING, *PEERS) if (name, who) in results.samples}
        for name, cell in results.cells.items()
    }
    return f"<figure>{bars(groups, unit, what)}</figure>"


def _goal_row(verdict: Verdict) -> tuple[str, ...]:
    goal = verdict.goal
    measured = "not measured" if verdict.measured is None else f"{verdict.measured:.3f}{goal.unit}"
    floor = "" if goal.floor is None else f" (at least {goal.floor})"
    state = '<span class="ok">met</span>' if verdict.met else '<span class="bad">missed</span>'
    aim = html.escape(f"{goal.compared} {goal.target}{goal.unit}{floor}")
    return state, html.escape(goal.said), aim, measured


def _cell_section(results: Results, name: str, cell: Cell) -> str:
    rows = []
    for who in (OURS, CEILING, *PEERS):
        if (name, who) not in results.samples:
            continue
        found, rates = _cell(results, name, who), results.rates(name, who)
        ratio = f"{found['ours_over_it']:.2f} (> {found['ours_over_it_lower95']:.2f})" if who in PEERS else ""
        rows.append(
            (
                html.escape(who),
                html.escape(found["setting"]),
                f"{found['images_per_s']:.0f} ({min(rates):.0f} to {max(rates):.0f})",
                f"{found['cpu_ms_per_image']:.2f}",
                f"{found['p50_ms']:.1f}" if "p50_ms" in found else "",
                f"{found['p99_ms']:.1f}" if "p99_ms" in found else "",
                f"{100 * found['refused_share']:.1f} %" if "refused_share" in found else "",
                ratio,
            )
        )
    head = (
        "",
        "setting",
        "images/s (range)",
        "CPU ms an image",
        "p50 ms",
        "p99 ms",
        "429",
        "ours over it (95 % above)",
    )
    return section(cell.said, table(head, rows))


def _profile_section(results: Results) -> str:
    rows = [(html.escape(part), f"{value:.2f}") for part, value in results.profile.items()]
    if ("c16", CEILING) in results.samples:
        rows.append(
            ("the bare loop: decoding and ONNX Runtime", f"{statistics.median(results.cpu_ms('c16', CEILING)):.2f}")
        )
    said = "Processor time an image, small photo, 16 at a time: what there is to gain where a goal is missed."
    return section("Where our processor time goes", paragraph(said), table(("", "ms"), rows))


def _overhead_section(results: Results) -> str:
    overhead = results.overhead
    rows = [
        ("gateway to a null model, photo passed through as text", _milliseconds(overhead.gateway)),
        ("the null model in Triton over HTTP, binary", _milliseconds(overhead.triton)),
        ("gateway to a null model, photo decoded", _milliseconds(overhead.gateway_decoding)),
        ("the null model in Triton, 224 x 224 x 3 uint8", _milliseconds(overhead.triton_pixels)),
        ("<b>the gateway adds</b>", f"<b>{overhead.gateway_ms:.2f}</b>"),
        ("<b>decoding adds</b>", f"<b>{overhead.decoding_ms:.2f}</b>"),
    ]
    said = f"Median latency of one request at a time, a photo of {overhead.bytes:,} bytes, in base64 to the gateway."
    feeding = [
        (html.escape(results.cells[name].said), f"{fed.images_per_s:.0f}", f"{fed.cpu_ms:.2f}")
        for name, fed in overhead.feeding.items()
    ]
    fed_said = (
        "Processor time of gateway and Triton when photos are decoded for a null model: what any GPU would cost, too."
    )
    return section(
        "What the gateway adds",
        paragraph(said),
        table(("", "ms (range of rounds)"), rows),
        paragraph(fed_said),
        table(("", "images/s, one worker", "CPU ms an image"), feeding),
    )


def _milliseconds(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def _grid_section(results: Results) -> str:
    settings = dict.fromkeys(setting for setting, _ in results.peer_grid)
    best = {
        (best_setting(results.peer_grid, peer, cell), cell)
        for peer in dict.fromkeys(s.peer for s in settings)
        for cell in results.cells
    }
    rows = []
    for setting in settings:
        rates = [f"{results.peer_grid[setting, cell].images_per_s:.0f}" for cell in results.cells]
        marked = [
            f"<b>{rate}</b>" if (setting, cell) in best else rate
            for rate, cell in zip(rates, results.cells, strict=True)
        ]
        rows.append((html.escape(setting.peer), html.escape(str(setting)), *marked))
    loops = dict.fromkeys(setting for setting, _ in results.ceiling_grid)
    for loop in loops:
        rates = [
            f"{results.ceiling_grid[loop, cell].images_per_s:.0f}" if (loop, cell) in results.ceiling_grid else ""
            for cell in results.cells
        ]
        rows.append((CEILING, html.escape(str(loop)), *rates))
    said = "Images a second of every setting, one short run each; bold: the one that took part in the rounds."
    return section("The grid", paragraph(said), table(("", "setting", *results.cells), rows))
