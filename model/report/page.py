"""report.html: one file without scripts or links, for a screen, a phone and paper."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Sequence
from typing import Final

from artifact.manifest import Accuracy, Manifest
from model.report.content import (
    Agreement,
    BuildReport,
    Comparison,
    Layer,
    PhotoAnswer,
    QuantisedGraph,
    Speed,
    Trial,
    speed_up,
)
from model.report.plots import layer_plot, sensitivity_plot, speed_plot
from model.report.style import STYLE
from model.report.text import (
    ABSENT,
    decibels,
    in_order,
    mib,
    milliseconds,
    percent,
    provenance,
    rate,
    ratio,
    row_name,
    share,
)

RANDOM_WEIGHTS: Final = "The model has random weights: its answers mean nothing, and it passed no accuracy gate."
_DIGEST_DIGITS: Final = 12
Cell = str
"""HTML of one table cell's content."""


def build_page(report: BuildReport) -> str:
    """The page of a build run."""
    manifest, comparison = report.manifest, report.comparison
    return _page(
        f"Model {manifest.key}",
        [
            paragraph(f"{_source(manifest)}. Built {comparison.machine.date} on {comparison.machine.device}, "
                       f"run {manifest.run}, for the runtime {manifest.runtime}."),
            f'<p class="bad">{RANDOM_WEIGHTS}</p>' if manifest.weights == "random" else "",
            _headlines(manifest, comparison),
            _accuracy(manifest.accuracy),
            *_speed(comparison),
            *_answers(comparison),
            *layer_sections(report.graphs),
            _facts(
                "The model and its calibration",
                [fact for fact in report.sources.items() if fact not in manifest.inputs.items()],
            ),
            _stages(report),
            _facts("Inputs of the key", manifest.inputs.items()),
            _facts("Versions", manifest.tools.items()),
            _files(manifest),
        ],
    )  # fmt: skip


def comparison_page(comparison: Comparison, title: str = "") -> str:
    """The page of `python -m model benchmark`; `title` if it is to have another."""
    machine = comparison.machine
    return _page(
        title or f"Comparison of {comparison.model}",
        [
            paragraph(f"{comparison.model}. Measured {machine.date} on {machine.device}."),
            *comparison_sections(comparison),
        ],
    )


def comparison_sections(comparison: Comparison) -> list[str]:
    """Sections that any page about a comparison has, each with its heading."""
    return [
        *_speed(comparison),
        *_agreement(comparison.agreement),
        _accuracy(comparison.accuracy),
        *_answers(comparison),
        *layer_sections(comparison.graphs),
        _facts("Versions", comparison.machine.versions.items()),
    ]


def document_page(title: str, sections: Iterable[str]) -> str:
    """A page of the same looks from sections of HTML."""
    return _page(title, sections)


def _page(title: str, sections: Iterable[str]) -> str:
    body = "\n".join(section for section in sections if section)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{STYLE}</style></head>\n"
        f"<body><main><h1>{html.escape(title)}</h1>\n{body}\n</main></body></html>\n"
    )


def _headlines(manifest: Manifest, comparison: Comparison) -> str:
    """The few figures that most readers come for."""
    cards = [
        (f"agreement of {row_name(row.graph)} with FP32", share(row.agreement), _judgement(row))
        for row in manifest.accuracy
        if row.agreement is not None
    ]
    best = _batch_one_int8(comparison.speed)
    if best is not None and (gain := speed_up(comparison.speed, best)) is not None:
        cards.append((f"{row_name(best.row)} over native TensorFlow, batch 1", ratio(gain), best.device))
    sizes = {name: entry.size for name, entry in manifest.files.items()}
    forms = [name for name in ("onnx/int8-cpu.image.onnx", "onnx/int8-cpu.tensor.onnx") if name in sizes]
    if forms and (float_size := sizes.get(forms[0].replace("int8-cpu", "fp32"))):
        cards.append(("size of the INT8 CPU graph", f"{mib(sizes[forms[0]])} MiB", f"FP32: {mib(float_size)} MiB"))
    items = "".join(
        f"<div><strong>{html.escape(value)}</strong><span>{html.escape(what)}</span>"
        f"<small>{html.escape(more)}</small></div>"
        for what, value, more in cards
    )
    return f'<section class="cards">{items}</section>' if items else ""


def _batch_one_int8(speed: Iterable[Speed]) -> Speed | None:
    rows = (row for row in speed if row.batch == 1 and row.row.startswith("int8") and not row.preprocessing)
    return max(rows, key=lambda row: row.images_per_s, default=None)


def _judgement(row: Accuracy) -> str:
    if not row.gates:
        return "no gates"
    failed = sum(not gate.passed for gate in row.gates)
    return f"{failed} of {len(row.gates)} gates FAILED" if failed else f"all {len(row.gates)} gates passed"


def _accuracy(accuracy: Sequence[Accuracy]) -> str:
    if not accuracy:
        return ""
    rows = [
        (
            row_name(a.graph),
            share(a.agreement),
            _decibels(a.sqnr_db),
            f"{share(a.top1)} ({share(a.top1_fp32)})",
            f"{share(a.top5)} ({share(a.top5_fp32)})",
            str(a.evaluated_images),
        )
        for a in accuracy
    ]
    gates = [
        (row_name(a.graph), g.name, f"{g.value:.4g}", f"{g.threshold:g}", _verdict(g.passed))
        for a in accuracy
        for g in a.gates
    ]
    flips = [(row_name(a.graph), html.escape(flip)) for a in accuracy for flip in a.flips]
    head = ("graph", "agreement with FP32", "SQNR, dB", "top-1 (FP32)", "top-5 (FP32)", "images")
    return section(
        "Accuracy and gates",
        _note(
            "Every graph is judged against FP32 on what its calibration has not seen: in folds, each photo by a graph "
            "that was calibrated without it."
        ),
        table(head, [tuple(map(html.escape, row)) for row in rows]),
        table(("graph", "gate", "measured", "threshold", ""), gates),
        table(("graph", "photos that the original, given the same JPEG, answers otherwise"), flips),
    )


def _speed(comparison: Comparison) -> list[str]:
    sections = []
    for preprocessing in (False, True):
        rows = [row for row in comparison.speed if row.preprocessing is preprocessing]
        if not rows:
            continue
        title = "Speed from encoded photos" if preprocessing else "Speed"
        said = (
            "A call begins with JPEGs: decoding, cropping and resizing are timed too."
            if preprocessing
            else "A call begins with decoded pixels or the model's own tensors."
        )
        head = ("row", "runtime", "batch", "images/s", "spread", "over native", "p50, ms", "p99, ms", "calls",
                "threads", "memory, MiB", "file, MiB")  # fmt: skip
        sections.append(
            section(
                title,
                _note(f"{said} {provenance(comparison, rows)}."),
                _figure(speed_plot(comparison, rows, f"speed-{int(preprocessing)}")),
                table(head, [_speed_cells(comparison, row) for row in rows]),
                *(_note(f"{row_name(row)}: {note}.") for row, note in _notes(rows)),
                _note(
                    "Spread is the greatest minus the least repetition, over the median. Memory is the most that a "
                    "fresh process held which ran this row alone. p99 is left out below 200 calls."
                ),
            )
        )
    if comparison.trials:
        sections.append(_trials(comparison.trials))
    if comparison.missing:
        items = [(html.escape(row_name(m.row)), html.escape(m.reason)) for m in comparison.missing]
        sections.append(section("Not measured", table(("row", "why"), items)))
    return sections


def _trials(trials: Sequence[Trial]) -> str:
    rows = [(t.options, str(t.threads), str(t.batch), rate(t.images_per_s)) for t in trials]
    return section(
        "Ways to run native TensorFlow",
        _note(
            "The fastest at each batch size is the native row. One that is less than half as fast as the best at the "
            "smallest batch is not tried at larger ones."
        ),
        table(("", "threads", "batch", "images/s"), [tuple(map(html.escape, row)) for row in rows]),
    )


def _notes(rows: Iterable[Speed]) -> Iterable[tuple[str, str]]:
    return dict.fromkeys((row.row, row.note) for row in rows if row.note)


def _speed_cells(comparison: Comparison, row: Speed) -> tuple[Cell, ...]:
    runtime = f"{row.runtime}, {row.options}" if row.options else row.runtime
    cells = (
        row_name(row.row) + (" *" if row.note else ""),
        runtime,
        str(row.batch),
        rate(row.images_per_s),
        percent(row.spread),
        ratio(speed_up(comparison.speed, row)),
        milliseconds(row.p50_ms),
        milliseconds(row.p99_ms),
        str(len(row.calls)) if row.calls else ABSENT,
        str(row.threads),
        ABSENT if row.memory_mib is None else f"{row.memory_mib:,.0f}",
        mib(row.size_bytes),
    )
    return tuple(map(html.escape, cells))


def _agreement(rows: Sequence[Agreement]) -> list[str]:
    if not rows:
        return []
    cells = [
        (
            html.escape(row_name(row.row)),
            html.escape(f"{share(row.same_top1)} of {row.photos}"),
            html.escape(f"{share(row.top1)} of {row.labelled}" if row.top1 is not None else ABSENT),
            html.escape(f"{share(row.top5)} of {row.labelled}" if row.top5 is not None else ABSENT),
        )
        for row in rows
    ]
    head = ("row", f"same first label as {row_name(rows[0].reference)}", "top-1", "top-5")
    return [
        section(
            "Agreement",
            _note("Whole photos, cut as serving cuts them, with those of the calibration set: gates judge on others."),
            table(head, cells),
        )
    ]


def _answers(comparison: Comparison) -> list[str]:
    if not comparison.photos:
        return []
    return [
        section(
            "Answers, side by side",
            _note(
                f"The {comparison.scores} stands behind each label. Labels at another place than in the first column "
                "are marked. The photos are not in this file: whoever made them has not said who may pass them on."
            ),
            *(_answer(photo) for photo in comparison.photos),
        )
    ]


def _answer(photo: PhotoAnswer) -> str:
    rows = in_order(photo.answers)
    first = [answer.label for answer in photo.answers[rows[0]]] if rows else []
    places = range(max((len(answers) for answers in photo.answers.values()), default=0))
    body = []
    for place in places:
        cells = []
        for row in rows:
            answers = photo.answers[row]
            if place >= len(answers):
                cells.append("<td></td>")
                continue
            moved = place >= len(first) or answers[place].label != first[place]
            kind = ' class="moved"' if moved else ""
            cells.append(
                f"<td{kind}>{html.escape(answers[place].label)} <small>{answers[place].score:.3f}</small></td>"
            )
        body.append(f"<tr><th>{place + 1}</th>{''.join(cells)}</tr>")
    heads = "".join(f"<th>{html.escape(row_name(row))}</th>" for row in rows)
    shown = html.escape(photo.photo) + (f" <small>shows {html.escape(photo.label)}</small>" if photo.label else "")
    return (
        f'<h3>{shown}</h3><div class="wide"><table class="answers">'
        f"<thead><tr><th></th>{heads}</tr></thead><tbody>{''.join(body)}</tbody></table></div>"
    )


def layer_sections(graphs: Sequence[QuantisedGraph]) -> list[str]:
    """Noise, sensitivity and repairs, layer by layer; no section where no layer was looked at."""
    if not any(graph.layers for graph in graphs):
        return []
    parts = [
        _note("How far each layer's output is from FP32's in the whole quantised graph (higher is better)."),
        _figure(layer_plot(graphs)),
    ]
    if plot := sensitivity_plot(graphs):
        parts += [
            _note("How far the model's output is from FP32's with one layer quantised at a time: the lower, the more "
                  "this layer harms."),
            _figure(plot),
        ]  # fmt: skip
    for graph in graphs:
        parts.append(f"<h3>{html.escape(row_name(graph.precision))}</h3>")
        parts.append(_repairs(graph))
        rows = [_layer_cells(number, layer) for number, layer in enumerate(graph.layers, 1)]
        head = ("", "layer", "operator", "precision", "MACs", "SQNR, dB", "sensitivity, dB", "")
        parts.append(f"<details><summary>{len(graph.layers)} layers</summary>{table(head, rows)}</details>")
    return [section("Layers", *parts)]


def _repairs(graph: QuantisedGraph) -> str:
    whole = sum(layer.macs for layer in graph.layers)
    integer = sum(layer.macs for layer in graph.layers if layer.precision == "int8")
    covered = _note(f"{percent(integer / whole)} of the multiply-accumulate operations are INT8.") if whole else ""
    if not graph.repairs:
        return covered + _note("No repair was needed.")
    return covered + "<ul>" + "".join(f"<li>{html.escape(repair)}</li>" for repair in graph.repairs) + "</ul>"


def _layer_cells(number: int, layer: Layer) -> tuple[Cell, ...]:
    cells = (
        str(number),
        layer.name,
        layer.operator,
        layer.precision,
        f"{layer.macs:,}",
        _decibels(layer.sqnr_db),
        _decibels(layer.sensitivity_db),
        layer.reason,
    )
    return tuple(map(html.escape, cells))


def _stages(report: BuildReport) -> str:
    rows = [
        (html.escape(name), f"{seconds:.1f}", "from the cache" if name in report.cached else "")
        for name, seconds in report.seconds.items()
    ]
    if not rows:
        return ""
    total = sum(report.seconds.values())
    said = f"{total:.0f} s in all, {report.peak_gib:.2f} GiB of memory at most, on {report.comparison.machine.device}."
    return section("Stages of the build", _note(said), table(("stage", "seconds", ""), rows))


def _files(manifest: Manifest) -> str:
    rows = [
        (html.escape(name), f"{entry.size:,}", f"<code>{entry.sha256[:_DIGEST_DIGITS]}</code>")
        for name, entry in manifest.files.items()
    ]
    archive = f"{manifest.archive.name}: {manifest.archive.size:,} bytes packed."
    return section("Files of the archive", _note(archive), table(("file", "bytes", "SHA-256"), rows))


def _source(manifest: Manifest) -> str:
    return manifest.inputs.get("source", "unknown source").partition("@")[0]


def _facts(title: str, facts: Iterable[tuple[str, str]]) -> str:
    rows = [(html.escape(name), f"<code>{html.escape(value)}</code>") for name, value in facts]
    return section(title, table(("", ""), rows)) if rows else ""


def _decibels(value: float | None) -> str:
    return "equal" if value is not None and math.isinf(value) else decibels(value)


def _verdict(passed: bool) -> Cell:
    return '<span class="ok">passed</span>' if passed else '<span class="bad">FAILED</span>'


def section(title: str, *parts: str) -> str:
    """A part of a page with its heading; `parts` are HTML."""
    return f"<section><h2>{html.escape(title)}</h2>{''.join(parts)}</section>"


def paragraph(text: str) -> str:
    """Plain text as a paragraph."""
    return f"<p>{html.escape(text)}</p>"


def _note(text: str) -> str:
    return f'<p class="note">{html.escape(text)}</p>'


def _figure(svg: str) -> str:
    return f"<figure>{svg}</figure>" if svg else ""


def table(head: Sequence[str], rows: Sequence[tuple[Cell, ...]]) -> str:
    """Rows of cells, which are HTML; nothing for no rows. A head of empty names is left out."""
    if not rows:
        return ""
    heads = "".join(f"<th>{html.escape(name)}</th>" for name in head)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    header = f"<thead><tr>{heads}</tr></thead>" if any(head) else ""
    return f'<div class="wide"><table>{header}<tbody>{body}</tbody></table></div>'
