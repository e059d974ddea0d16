"""What the comparison with other servers makes of its samples; the runs themselves are `make bench-serving`."""

from __future__ import annotations

import dataclasses
import json
import math
import random
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.serving import page
from benchmarks.serving.comparison import report
from benchmarks.serving.comparison.ceiling import Setting
from benchmarks.serving.comparison.cells import Cell
from benchmarks.serving.comparison.contenders import FASTAPI, GRID, OURS, PEERS, PeerSetting
from benchmarks.serving.comparison.goals import verdicts
from benchmarks.serving.comparison.measuring import CEILING, Sample, in_turns
from benchmarks.serving.comparison.overhead import Feeding, Overhead
from benchmarks.serving.comparison.profile import part_of
from benchmarks.serving.comparison.statistics import paired
from benchmarks.serving.generator import Load, Request
from benchmarks.serving.vm import ROOT


def test_drift_that_both_share_leaves_the_ratio_and_its_bound_alone() -> None:
    drift = [1.0, 0.5, 2.0, 0.7, 1.4]
    ratio = paired([3 * x for x in drift], [2 * x for x in drift])
    assert ratio.median == pytest.approx(1.5)
    assert ratio.lower_95 == pytest.approx(1.5)


def test_the_bound_is_that_of_students_t() -> None:
    logs = [0.1, 0.2, 0.3, 0.4, 0.5]
    ratio = paired([math.exp(x) for x in logs], [1.0] * 5)
    # Mean 0.3, standard deviation 0.1581, t(0.95, 4) = 2.132.
    assert math.log(ratio.lower_95) == pytest.approx(0.3 - 2.132 * 0.15811 / math.sqrt(5), abs=1e-4)


def test_the_bound_holds_in_95_of_100_series() -> None:
    rng = random.Random(1)  # noqa: S311 - a simulation
    below = 0
    for _ in range(2000):
        ratio = paired([math.exp(rng.gauss(0.1, 0.2)) for _ in range(5)], [1.0] * 5)
        below += math.log(ratio.lower_95) < 0.1
    assert 0.93 < below / 2000 < 0.97


def sample(rate: float, cpu_ms: float = 8.0, p50_ms: float = 10.0) -> Sample:
    return Sample(rate, cpu_ms, p50_ms, 2 * p50_ms)


def results(ours: float, fastapi: float) -> report.Results:
    names = ("c1", "c16", "c64")
    rates = {OURS: ours, **dict.fromkeys(PEERS, fastapi / 2), FASTAPI: fastapi}
    samples = {(name, who): [sample(rate), sample(rate)] for name in names for who, rate in rates.items()}
    samples["c16", CEILING] = [sample(400, 6.0), sample(400, 6.0)]
    chosen = [next(setting for setting in GRID if setting.peer == peer) for peer in PEERS]
    return report.Results(
        date="2026-11-24",
        machine="two cores",
        bits=8,
        quick=False,
        cells={name: Cell(name, name, (), Path(), 1, 1, ()) for name in names},
        samples=samples,
        peer_grid={(setting, name): sample(1.0) for setting in chosen for name in names},
        ceiling_grid={},
        profile={"gateway": 2.0},
        overhead=Overhead((1.5, 1.4), (0.5, 0.5), (3.0, 3.0), (0.6, 0.6), 66_000, {"c16": Feeding(400, 1.9)}),
        overload=None,
    )


def test_the_best_peer_decides_whichever_it_is() -> None:
    figures = results(ours=300, fastapi=200).figures()
    assert figures["best_peer_ratio_c16"] == pytest.approx(1.5)
    assert figures["best_peer_lower95_c64"] == pytest.approx(1.5)


def test_the_ceiling_ratio_is_of_processor_time_and_the_wall_ratio_of_throughput() -> None:
    figures = results(ours=300, fastapi=200).figures()
    assert figures["ceiling_ratio_c16"] == pytest.approx(6 / 8)
    assert figures["ceiling_wall_ratio_c16"] == pytest.approx(300 / 400)


def test_the_overhead_is_the_median_of_the_rounds_differences() -> None:
    figures = results(ours=300, fastapi=200).figures()
    assert figures["gateway_overhead_p50_ms"] == pytest.approx(statistics.median([1.0, 0.9]))
    assert figures["decoding_p50_ms"] == pytest.approx(2.4 - 0.95)


@pytest.mark.parametrize(("ours", "met"), [(300, True), (200, False), (100, False)])
def test_a_peer_that_is_as_fast_misses_the_goal(ours: float, met: bool) -> None:
    found = {verdict.goal.figure: verdict for verdict in results(ours, fastapi=200).verdicts}
    assert found["best_peer_lower95_c16"].met is met
    assert not found["overload_goodput_ratio"].met, "what was not measured is no success"
    assert "not measured" in found["overload_goodput_ratio"].said


def test_latency_and_overhead_are_better_when_smaller() -> None:
    found = {v.goal.figure: v.met for v in verdicts({"p50_c1_vs_best_peer": 1.2, "gateway_overhead_p50_ms": 0.9})}
    assert not found["p50_c1_vs_best_peer"]
    assert found["gateway_overhead_p50_ms"]


def test_each_cell_has_the_setting_that_is_best_there() -> None:
    one, two = PeerSetting("p", "m", 1, 1, 1), PeerSetting("p", "m", 2, 1, 1)
    grid = {(one, "c1"): sample(9), (two, "c1"): sample(8), (one, "c16"): sample(8), (two, "c16"): sample(9)}
    assert report.best_setting(grid, "p", "c1") == one
    assert report.best_setting(grid, "p", "c16") == two


def test_contenders_take_turns_in_changing_order() -> None:
    asked: list[str] = []

    def run(name: str, seconds: float) -> Sample:
        asked.append(name)
        return sample(seconds)

    field = {"c": {name: (lambda seconds, name=name: run(name, seconds)) for name in "abc"}}
    cells = {"c": Cell("c", "", (), Path(), 1, 1, ())}
    found = in_turns(cells, field, 3, 2.5, lambda _: None)
    assert asked == list("abcbcacab")
    assert [len(found["c", name]) for name in "abc"] == [3, 3, 3]


@pytest.mark.parametrize(
    ("answer", "right"),
    [
        ({"predictions": [{"classes": 7, "probabilities": [0.5]}, {"classes": 8, "probabilities": [0.5]}]}, True),
        ({"predictions": [{"classes": 7, "probabilities": [0.5]}]}, False),
        ({"predictions": [{"classes": 8, "probabilities": [0.5]}, {"classes": 7, "probabilities": [0.5]}]}, False),
    ],
)
def test_an_answer_must_name_every_class_in_its_place(answer: object, right: bool) -> None:
    text = json.dumps(answer, separators=(",", ":")).encode()
    assert Request(b"", [7, 8]).is_answered_by(text) is right


def test_a_loop_too_short_for_its_answers_counts_the_time_that_they_took() -> None:
    assert Load(elapsed_s=2.0, finished_s=2.5, good_in_time=40, good_s=[0.5] * 50).closed_loop_rate == 20
    assert Load(elapsed_s=0.4, finished_s=2.0, good_in_time=0, good_s=[2.0] * 4).closed_loop_rate == 2


def test_each_process_is_a_part_of_the_vm() -> None:
    stub = "/x/tritonserver/backends/python/triton_python_backend_stub /models/1/model.py"
    assert part_of(stub).startswith("Triton's stubs")
    assert part_of("/x/tritonserver/bin/tritonserver --grpc-port=8001").startswith("Triton: gRPC")
    assert part_of("python3 -m serving.gateway --settings {}").startswith("gateway")
    assert part_of("python3 -m serving --artifact /a").startswith("supervisor")


def test_the_page_shows_goals_cells_and_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "DOCS", tmp_path)
    monkeypatch.setattr(page, "OUT", tmp_path)
    made = results(ours=300, fastapi=200)
    written = report.write(dataclasses.replace(made, ceiling_grid={(Setting(2, 1, 4), "c16"): sample(400)}), 9)
    document = json.loads((tmp_path / "serving.json").read_text())
    assert document["best_peer_lower95_c16"] == pytest.approx(1.5)
    assert [goal["met"] for goal in document["goals"]] == [False, True, True, True, True, False]
    text = (tmp_path / "serving.html").read_text()
    assert "missed" in text
    assert "2 processes x 1 threads, batch 4" in text
    assert len(written) == 3


def test_a_peer_needs_no_library_of_the_conversion() -> None:
    """Their environment has TensorFlow and ONNX Runtime, and neither onnx nor tf2onnx."""
    code = "import sys; sys.modules.update(onnx=None, tf2onnx=None); import model.compare.runners"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
