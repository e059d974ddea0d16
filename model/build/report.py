"""What a build run tells afterwards: report.json for programs, report.html for people."""

from __future__ import annotations

import html
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from artifact.manifest import Manifest

_STYLE = """body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}
table{border-collapse:collapse;margin:.5rem 0 1.5rem}th,td{padding:.25rem .8rem;border-bottom:1px solid #ddd}
th,td{text-align:left}
.bad{color:#b00020}.ok{color:#0a7a33}code{font-size:90%}"""

_RANDOM = "The model has random weights: its answers mean nothing, and it passed no accuracy gate."


@dataclass(frozen=True, slots=True)
class PhotoAnswer:
    """What each graph says of one labelled photo, cut as serving cuts it."""

    photo: str
    label: str
    answers: Mapping[str, str]
    """Top-1 label by precision."""


def write_report(
    folder: Path, manifest: Manifest, photos: tuple[PhotoAnswer, ...], seconds: Mapping[str, float], peak_gib: float
) -> None:
    """Write report.json and report.html into `folder`."""
    content: dict[str, Any] = {
        "manifest": json.loads(manifest.model_dump_json(by_alias=True)),
        "photos": [asdict(photo) for photo in photos],
        "seconds": dict(seconds),
        "peakGib": round(peak_gib, 2),
    }
    (folder / "report.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    (folder / "report.html").write_text(_page(manifest, photos, seconds, peak_gib), encoding="utf-8")


def _page(manifest: Manifest, photos: tuple[PhotoAnswer, ...], seconds: Mapping[str, float], peak_gib: float) -> str:
    accuracy = [
        (
            a.graph,
            f"{a.agreement:.4f}",
            f"{a.sqnr_db:.1f}",
            f"{a.top1:.3f}",
            f"{a.top1_fp32:.3f}",
            str(a.evaluated_images),
        )
        for a in manifest.accuracy
    ]
    gates = [
        (a.graph, g.name, f"{g.value:.4g}", f"{g.threshold:g}", "passed" if g.passed else "FAILED")
        for a in manifest.accuracy
        for g in a.gates
    ]
    speed = [(s.precision, s.runtime, str(s.batch), f"{s.images_per_s:.1f}") for s in manifest.speed]
    precisions = sorted({name for photo in photos for name in photo.answers})
    answers = [(p.photo, p.label, *(p.answers[name] for name in precisions)) for p in photos]
    stages = [(name, f"{value:.1f}") for name, value in seconds.items()]
    files = [(name, f"{entry.size:,}", entry.sha256[:16]) for name, entry in manifest.files.items()]
    facts = f"Runtime {manifest.runtime}, built on {manifest.tools['machine']}, run {manifest.run}"
    title = f"Model artifact {html.escape(manifest.key)}"
    parts = [
        f"<h1>{title}</h1>",
        f"<p>{html.escape(facts)}; peak memory {peak_gib:.2f} GiB.</p>",
        *([f'<p class="bad">{_RANDOM}</p>'] if manifest.weights == "random" else ()),
        _table("Accuracy against FP32", ("graph", "agreement", "SQNR dB", "top-1", "top-1 FP32", "images"), accuracy),
        _table("Gates", ("graph", "gate", "measured", "threshold", ""), gates),
        _table("Speed on the build machine, images per second", ("precision", "runtime", "batch", "images/s"), speed),
        _table("Labelled photos, first answer", ("photo", "label", *precisions), answers),
        _table("Stages", ("stage", "seconds"), stages),
        _table("Files of the archive", ("file", "bytes", "SHA-256"), files),
    ]
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
        f"<style>{_STYLE}</style>{''.join(parts)}</html>\n"
    )


def _table(title: str, head: Iterable[str], rows: Iterable[tuple[str, ...]]) -> str:
    heads = "".join(f"<th>{html.escape(name)}</th>" for name in head)
    body = "".join("<tr>" + "".join(_cell(value) for value in row) + "</tr>" for row in rows)
    return f"<h2>{html.escape(title)}</h2><table><tr>{heads}</tr>{body}</table>" if body else ""


def _cell(value: str) -> str:
    kind = {"passed": ' class="ok"', "FAILED": ' class="bad"'}.get(value, "")
    return f"<td{kind}>{html.escape(value)}</td>"
