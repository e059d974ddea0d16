"""Generated parts of `docs/tune.md`: figures of `make bench-serving`, and what follows from them for a VM with GPUs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

_RESULTS: Final = Path(__file__).resolve().parents[1] / "benchmarks" / "out" / "serving.json"
_UNMEASURED: Final = "Not measured yet: `make bench-serving` writes the figures, `make docs` this part.\n"
GPU_IMAGES_PER_S: Final = 5_251
"""ResNet-50 INT8 of one T4 behind Triton: MLPerf Inference v0.7, server scenario, 42,007/s on eight T4s."""
_CELLS: Final = {
    "c16": "512 x 512, one a request",
    "batch": "512 x 512, eight a request",
    "large": "12 megapixels, one a request",
}
_VCPUS: Final = 16
_GPUS: Final = 4
_CONTENDERS: Final = ("ours", "ceiling", "FastAPI + ONNX Runtime", "LitServe", "FastAPI + TensorFlow")


def measured() -> str:
    """Markdown: each goal with what was measured, and throughput by load."""
    found = _results()
    if found is None:
        return _UNMEASURED
    lines = [f"Measured {found['date']} on {found['machine']}; the client shares those cores.", ""]
    lines += ["| goal | aimed at | measured |", "| --- | --- | --- |"]
    for goal in found["goals"]:
        value = "not measured" if goal["measured"] is None else f"{goal['measured']:.3f}"
        missed = "" if goal["met"] else ", **missed**"
        lines.append(f"| {goal['goal']} | {goal['compared']} {goal['target']} | {value}{missed} |")
    cells = list(dict.fromkeys(entry["cell"] for entry in found["cells"]))
    rows = {(entry["cell"], entry["contender"]): entry for entry in found["cells"]}
    lines += ["", "Images a second, and milliseconds of processor time an image:", ""]
    lines += [f"| | {' | '.join(cells)} |", f"| --- |{' --- |' * len(cells)}"]
    for who in _CONTENDERS:
        lines.append(f"| {who} | {' | '.join(_rate(rows.get((cell, who))) for cell in cells)} |")
    return "\n".join(lines) + "\n"


def sizes() -> str:
    """Markdown: how many vCPUs keep four T4s busy, and how busy sixteen vCPUs keep them."""
    found = _results()
    if found is None:
        return _UNMEASURED
    wanted = _GPUS * GPU_IMAGES_PER_S
    head = ("photos", "CPU ms an image", "images/s a core", f"cores for {wanted:,}/s", f"{_VCPUS} cores feed")
    lines = [f"Measured {found['date']} on {found['machine']}.", ""]
    lines += [f"| {' | '.join((*head, 'if a vCPU is half a core'))} |", f"|{' --- |' * (len(head) + 1)}"]
    for cell, said in _CELLS.items():
        cpu_ms = found[f"feeding_cpu_ms_per_image_{cell}"]
        fed = _VCPUS * 1000 / cpu_ms
        lines.append(
            f"| {said} | {cpu_ms:.2f} | {1000 / cpu_ms:,.0f} | {wanted * cpu_ms / 1000:,.0f} "
            f"| {fed:,.0f} ({_share(fed, wanted)} of {_GPUS} T4s) | {fed / 2:,.0f} ({_share(fed / 2, wanted)}) |"
        )
    return "\n".join(lines) + "\n"


def _results() -> dict[str, Any] | None:
    if not _RESULTS.exists():
        return None
    found: dict[str, Any] = json.loads(_RESULTS.read_text())
    return found


def _rate(entry: dict[str, Any] | None) -> str:
    return "" if entry is None else f"{entry['images_per_s']:.0f} ({entry['cpu_ms_per_image']:.1f})"


def _share(part: float, whole: float) -> str:
    return f"{100 * part / whole:.0f} %"
