"""Build EfficientNet-Lite0 afresh, compare its precisions, and put every goal beside what was measured.

    python -m benchmarks.model

Wants an otherwise idle machine: about ten minutes on 2 cores. Writes benchmarks/out/model.json (figures), the samples
they come from beside it, and docs/reports/model.html with its plots.
"""

from __future__ import annotations

import argparse
import io
import os
import shutil
import statistics
import sys
import time
from contextlib import redirect_stdout
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any, Final

import onnx

from artifact.errors import ArtifactError
from artifact.folder import ArtifactFolder
from artifact.recipe import BuildRequest
from artifact.signature import Preprocessing
from benchmarks.model import report
from benchmarks.model.calibration_memory import photo_batches
from benchmarks.model.judging import judge, race, unseen_images
from benchmarks.model.processes import ROOT, Finished, ProcessFailedError, run_fresh
from benchmarks.model.static_grid import static_grid
from benchmarks.weights import weight_bits
from model.compare.benchmark import Plan, compare
from model.compare.runners import RowSpec
from model.compare.subject import subject_of
from model.compare.worker import Start
from model.errors import BuildError
from model.report.content import Comparison, Speed
from model.source.photos import calibration_photos

WORK: Final = ROOT / ".cache" / "benchmark-model"
OWN: Final = "this repository's CPU graph"
_ROUND_S: Final = 0.6
"""Five repetitions of it hold 200 calls of the slowest row at batch 1, which a 99th percentile needs."""


@dataclass(slots=True)
class Progress:
    """Lines with the seconds since the start; what the comparison reports comes through it, too."""

    began: float = field(default_factory=time.monotonic)
    _stream: IO[str] = field(default_factory=lambda: sys.stdout)
    """As it is now: what libraries print later is kept away from it."""
    _told: tuple[str, int] = ("", 0)

    def line(self, text: str) -> None:
        """A line of its own."""
        print(f"[{time.monotonic() - self.began:5.0f} s] {text.strip()}", file=self._stream, flush=True)

    def stage(self, name: str, fraction: float) -> None:
        """A line for every quarter."""
        quarter = (name, int(4 * fraction))
        if quarter != self._told and quarter[1] > 0:
            self._told = quarter
            self.line(f"{name}: {100 * fraction:.0f} %")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.model", description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "out", help="folder of model.json")
    parser.add_argument("--docs", type=Path, default=ROOT / "docs" / "reports", help="folder of model.html")
    parser.add_argument("--quick", action="store_true", help="one short round: tries the code, measures nothing")
    options = parser.parse_args(arguments)
    progress = Progress()
    shutil.rmtree(WORK, ignore_errors=True)
    (WORK / "logs").mkdir(parents=True)
    bits = weight_bits()
    progress.line(f"building EfficientNet-Lite0, {bits}-bit weights of the CPU graph")
    build = _build(bits)
    progress.line(f"built in {build.seconds:.0f} s, {build.peak_gib:.2f} GiB")
    artifact = ArtifactFolder(WORK / "artifact")
    memory = [_calibration(artifact, count, progress) for count in ((20, 40) if options.quick else (100, 500))]
    # What it is called in the report: a path would be this machine's.
    subject = replace(subject_of(str(artifact.path), ROOT, WORK / "native", progress), name=BuildRequest().source)
    plan = Plan(batches=(1, 8), rounds=1, seconds=0.1) if options.quick else Plan(seconds=_ROUND_S)
    comparison = compare(subject, plan, WORK / "logs", progress)
    preprocessing = subject.signature.preprocessing
    assert preprocessing is not None
    grid = _grid(artifact, subject.output, preprocessing, progress)
    figures = _figures(artifact, build, memory, comparison, grid)
    results = report.Results(
        artifact=artifact,
        comparison=comparison,
        figures=figures,
        grid=grid,
        memory=memory,
        weight_bits=bits,
        seconds=time.monotonic() - progress.began,
        quick=options.quick,
    )
    for path in report.write(results, options.out, options.docs):
        progress.line(f"wrote {path}")
    for verdict in results.verdicts:
        progress.line(report.sentence(verdict))


def _build(bits: int) -> Finished:
    """A fresh build: no stage of an earlier one is used."""
    return run_fresh(
        "model", "build", "--out", str(WORK / "artifact"), "--cache", str(WORK / "stages"), "--cpu-weight-bits",
        str(bits), "--json",
    )  # fmt: skip


def _calibration(artifact: ArtifactFolder, count: int, progress: Progress) -> dict[str, Any]:
    progress.line(f"calibrating on {count} images in a fresh process")
    graph = str(artifact.graph("fp32", "tensor"))
    return run_fresh("benchmarks.model.calibration_memory", graph, str(count)).result


def _grid(
    artifact: ArtifactFolder, output: str, preprocessing: Preprocessing, progress: Progress
) -> list[report.GridRow]:
    """This repository's graph first, then those of the grid."""
    fp32 = artifact.graph("fp32", "tensor")
    graphs = {OWN: artifact.graph("int8-cpu", "tensor")}
    count = len(calibration_photos())
    grid = static_grid(
        onnx.load(fp32),
        lambda: photo_batches(preprocessing, count),
        WORK,
        lambda name: progress.line(f"quantize_static, {name}"),
    )
    with redirect_stdout(io.StringIO()):
        for made in grid:
            graphs[made.setting.name] = WORK / f"static-{len(graphs)}.onnx"
            onnx.save(made.model, graphs[made.setting.name])
    progress.line("judging every graph on the same images")
    judged = judge(fp32, graphs, unseen_images(preprocessing))
    threads = len(os.sched_getaffinity(0))
    photos = calibration_photos()[:8]
    rows = [
        Start(
            spec=RowSpec(row=name, kind="onnxruntime", model=path.resolve(), output=output, threads=threads),
            form="tensor",
            photos=photos,
            preprocessing=preprocessing,
        )
        for name, path in graphs.items()
    ]
    raced = race(rows, WORK / "logs", lambda done: progress.stage("grid", done))
    return [
        report.GridRow(
            name=name,
            agreement=judged[name].agreement,
            sqnr_db=judged[name].sqnr_db,
            size_bytes=path.stat().st_size,
            samples={batch: raced[name, batch] for (other, batch) in raced if other == name},
        )
        for name, path in graphs.items()
    ]


def _figures(
    artifact: ArtifactFolder,
    build: Finished,
    memory: list[dict[str, Any]],
    comparison: Comparison,
    grid: list[report.GridRow],
) -> dict[str, float]:
    accuracy = {row.graph: row for row in artifact.manifest.accuracy}
    trt, cpu = accuracy["int8"], accuracy["int8-cpu"]
    assert trt.agreement is not None
    assert cpu.agreement is not None
    own, *others = grid
    best = report.rival(others)
    figures = {
        "agreement_trt": trt.agreement,
        "agreement_cpu": cpu.agreement,
        "sqnr_trt_db": trt.sqnr_db,
        "sqnr_cpu_db": cpu.sqnr_db,
        "build_seconds": build.seconds,
        "build_peak_gib": build.peak_gib,
        "calibration_rss_mib_100": memory[0]["mib"],
        "calibration_rss_mib_500": memory[1]["mib"],
        "calibration_rss_ratio_500_to_100": memory[1]["mib"] / memory[0]["mib"],
        "static_grid_own_agreement": own.agreement,
        "static_grid_best_agreement": max(row.agreement for row in others),
        "static_grid_own_sqnr_db": own.sqnr_db,
        "static_grid_best_sqnr_db": max(row.sqnr_db for row in others),
        "static_grid_speed_ratio": own.images_per_s(1) / best.images_per_s(1),
        "static_grid_speed_ratio_b8": own.images_per_s(8) / best.images_per_s(8),
    }
    for batch in sorted({row.batch for row in comparison.speed}):
        int8 = _row(comparison, "int8-cpu", batch)
        for name, row in (("native_tf", "native"), ("ort_fp32", "fp32")):
            figures[f"speedup_int8_over_{name}_b{batch}"] = _median_ratio(int8, _row(comparison, row, batch))
    return figures


def _row(comparison: Comparison, name: str, batch: int) -> Speed:
    return next(row for row in comparison.speed if (row.row, row.batch, row.preprocessing) == (name, batch, False))


def _median_ratio(one: Speed, other: Speed) -> float:
    """Median over the rounds: both rows of a round ran within seconds of each other, so drift cancels."""
    return statistics.median(a / b for a, b in zip(one.samples, other.samples, strict=True))


if __name__ == "__main__":
    try:
        main()
    except (ArtifactError, BuildError, ProcessFailedError) as error:
        sys.exit(f"error: {error}")
