"""`python -m benchmarks.model`: its goals, its files, and the processes that it measures."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from artifact.signature import Preprocessing
from benchmarks.model.calibration_memory import photo_batches
from benchmarks.model.goals import GOALS, Verdict, verdicts
from benchmarks.model.processes import ProcessFailedError, run_fresh
from benchmarks.model.report import GridRow, Results, rival, sentence, write
from tests.model.reports import comparison, quantised_graph
from tests.model.test_report import Page
from tests.model.tiny import write_tiny_artifact

pytestmark = pytest.mark.slow

FIGURES = {
    "agreement_trt": 0.9875,
    "agreement_cpu": 0.9791,
    "speedup_int8_over_ort_fp32_b1": 2.08,
    "speedup_int8_over_native_tf_b1": 3.2,
    "static_grid_own_agreement": 0.99,
    "static_grid_best_agreement": 0.985,
    "static_grid_own_sqnr_db": 18.6,
    "static_grid_best_sqnr_db": 18.6,
    "static_grid_speed_ratio": 0.94,
    "calibration_rss_ratio_500_to_100": 1.01,
    "build_seconds": 181.0,
    "build_peak_gib": 1.98,
}
RECORDED = Path(__file__).with_name("recorded") / "int8-good.inspector.json"
MISSED = {"speedup_int8_over_native_tf_b1", "static_grid_speed_ratio", "build_seconds"}


@pytest.fixture
def results(tmp_path: Path) -> Results:
    artifact = write_tiny_artifact(tmp_path / "artifact")
    graphs = (quantised_graph(), quantised_graph("int8-cpu"))
    samples = {1: (100.0, 110.0, 90.0), 8: (200.0, 210.0, 190.0)}
    return Results(
        artifact=artifact,
        comparison=replace(comparison(), graphs=graphs),
        figures=FIGURES,
        grid=[GridRow("own", 0.99, 18.6, 1000, samples), GridRow("MinMax U8S8", 0.985, 17.0, 1000, samples)],
        memory=[{"images": 100, "mib": 900.0, "seconds": 8.0}, {"images": 500, "mib": 910.0, "seconds": 40.0}],
        weight_bits=8,
        seconds=600.0,
        quick=False,
    )


def test_a_goal_is_met_on_its_own_side_of_its_target() -> None:
    found = {verdict.goal.figure: verdict for verdict in verdicts(FIGURES)}
    assert set(found) == {goal.figure for goal in GOALS}
    assert {figure for figure, verdict in found.items() if not verdict.met} == MISSED
    assert found["static_grid_own_agreement"].target == FIGURES["static_grid_best_agreement"]


def test_a_missed_goal_is_said_with_its_reason() -> None:
    goal = replace(GOALS[0], why_missed="no VNNI")
    assert sentence(Verdict(goal, 1.5, 1.7)).startswith(
        "MISSED: INT8 over ONNX Runtime FP32, batch 1: 1.50 x (>= 1.70 x)"
    )
    assert sentence(Verdict(goal, 1.5, 1.7)).endswith(": no VNNI")
    assert sentence(Verdict(goal, 1.8, 1.7)) == "met: INT8 over ONNX Runtime FP32, batch 1: 1.80 x (>= 1.70 x)"


def test_a_run_leaves_figures_samples_a_page_and_plots(results: Results, tmp_path: Path) -> None:
    paths = write(results, tmp_path / "out", tmp_path / "reports")
    assert {path.name for path in paths if path.suffix == ".json"} == {"model.json", "model-samples.json"}
    assert {path.stem for path in paths if path.suffix == ".svg"} == {
        "model-speed",
        "model-layers",
        "model-sensitivity",
    }
    document = json.loads((tmp_path / "out" / "model.json").read_text())
    assert {name: document[name] for name in FIGURES} == FIGURES
    assert (document["date"], document["device"]) == ("2026-11-24", "x86_64 avx512_vnni, 2 cores")
    assert {goal["figure"] for goal in document["goals"] if not goal["met"]} == MISSED
    samples = json.loads((tmp_path / "out" / "model-samples.json").read_text())
    assert samples["grid"][1]["samples"]["8"] == [200.0, 210.0, 190.0]
    assert len(samples["calls"]) == len(samples["comparison"]["speed"]) == 16
    page = Page((tmp_path / "reports" / "model.html").read_text())
    shown = page.table("aimed at")
    assert [row["goal"] for row in shown] == [goal.said for goal in GOALS]
    assert [row[""] for row in shown].count("missed") == len(MISSED)
    assert page.table("MACs")[3]["precision"] == "fp16"
    assert page.table("MiB") == [
        {"images": "100", "MiB": "900", "seconds": "8"},
        {"images": "500", "MiB": "910", "seconds": "40"},
    ]


def test_the_rival_is_the_fastest_of_the_most_accurate() -> None:
    def row(name: str, agreement: float, rate: float) -> GridRow:
        return GridRow(name, agreement, 18.0, 1000, {1: (rate,)})

    grid = [row("slow", 0.990, 50.0), row("as good", 0.9885, 90.0), row("fast and wrong", 0.985, 200.0)]
    assert rival(grid).name == "as good"
    assert rival(grid[:1]).name == "slow"


def test_a_quick_try_is_not_taken_for_a_measurement(results: Results, tmp_path: Path) -> None:
    short = replace(results.comparison, speed=results.comparison.speed[:2])
    write(replace(results, quick=True, comparison=short), tmp_path / "out", tmp_path / "reports")
    assert "its figures mean nothing" in (tmp_path / "reports" / "model.html").read_text()
    assert json.loads((tmp_path / "out" / "model.json").read_text())["quick"] is True


def test_a_set_may_be_larger_than_the_photos_there_are() -> None:
    prep = Preprocessing(decoder="fast", height=8, width=8, mean=(127.0,) * 3, std=(128.0,) * 3)
    sizes = [len(images) for (images,) in photo_batches(prep, 103)]
    assert sizes == [4] * 25 + [3]


def test_a_processs_time_memory_and_result_are_read(capfd: pytest.CaptureFixture[str]) -> None:
    # The JSON module's own command echoes an object; the interpreter needs some megabytes for it.
    echoed = run_fresh("json.tool", "--compact", str(RECORDED))
    assert echoed.result == json.loads(RECORDED.read_text())
    assert 0.004 < echoed.peak_gib < 1
    assert echoed.seconds > 0
    with pytest.raises(ProcessFailedError, match="no_such_module ended with status 1"):
        run_fresh("no_such_module")
    assert "No module named no_such_module" in capfd.readouterr().err
