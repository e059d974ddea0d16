from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from artifact.manifest import Accuracy, GateResult
from model.errors import BuildError
from model.report.content import MIN_P99_CALLS, BuildReport, Speed, speed_up
from model.report.document import build_document, speed_document, text_of
from model.report.files import write_comparison, write_report
from model.report.page import comparison_page
from model.report.plots import layer_plot, speed_plot, standalone
from model.report.reading import reported_graphs
from model.report.text import in_order, milliseconds, rate, ratio
from tests.model.reports import DEVICE, comparison, quantised_graph, speed
from tests.model.tiny import write_tiny_artifact

_VOID = {"meta", "br", "img", "link"}


class Page(HTMLParser):
    """Checks that elements are closed in order, and gathers tables by the heading before them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tables: list[list[list[str]]] = []
        self.ids: list[str] = []
        self.tags: set[str] = set()
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.ids += [value for name, value in attrs if name == "id" and value]
        if tag not in _VOID:
            self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in {"td", "th"}:
            self.tables[-1][-1].append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:  # noqa: ARG002 - the parser's
        self.ids += [value for name, value in attrs if name == "id" and value]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if {"td", "th"} & set(self.open):
            self.tables[-1][-1][-1] += data

    def table(self, heading: str, number: int = 0) -> list[dict[str, str]]:
        """The rows of a table that has a column of this name, by column."""
        found = [table for table in self.tables if heading in table[0]][number]
        return [dict(zip(found[0], row, strict=True)) for row in found[1:]]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("comparison")
    write_comparison(folder, comparison())
    return folder


FLIP = "3.jpg: sloth <bear> in the original, giant panda as served (margin 0.031)"
"""What a build says of a photo whose class is another when it goes in as a JPEG."""


def build_report(folder: Path, *, passed: bool = True, weights: str = "trained") -> BuildReport:
    gate = GateResult(name="SQNR dB", value=16.3 if passed else 9.0, threshold=15, passed=passed)
    row = Accuracy(graph="int8-cpu", evaluated_images=520, agreement=0.975, sqnr_db=16.3, top1=0.88, top1_fp32=0.879,
                   top5=0.96, top5_fp32=0.97, flips=(FLIP,), gates=(gate,))  # fmt: skip
    manifest = write_tiny_artifact(folder / "artifact").manifest
    manifest = manifest.model_copy(update={"accuracy": (row,), "weights": weights})
    return BuildReport(
        manifest=manifest,
        comparison=comparison(),
        graphs=(quantised_graph(),),
        seconds={"source": 12.0, "export": 3.5},
        cached=frozenset({"source"}),
        peak_gib=1.9,
        sources={"calibration": "100 photos"},
    )


def test_the_page_is_whole_and_every_figure_in_its_tables_is_the_one_in_the_json(written: Path) -> None:
    page = Page((written / "report.html").read_text(encoding="utf-8"))
    rows = json.loads((written / "report.json").read_text(encoding="utf-8"))["speed"]
    assert len(rows) == 16
    shown = [*page.table("images/s", 0), *page.table("images/s", 1)]
    for row, cells in zip(rows, shown, strict=True):
        assert cells["images/s"] == rate(row["imagesPerS"])
        assert cells["batch"] == str(row["batch"])
        assert cells["over native"] == ratio(row["speedUpOverNative"])
        assert cells["p50, ms"] == milliseconds(row["p50Ms"])
        assert cells["p99, ms"] == milliseconds(row["p99Ms"])
        assert cells["memory, MiB"] == f"{row['memoryMib']:,.0f}"
        assert cells["calls"] == str(row["steps"])
    assert page.table("top-5")[1]["same first label as Native TensorFlow"] == "0.975 of 120"


def test_photos_that_the_original_answers_otherwise_are_listed(tmp_path: Path) -> None:
    write_report(tmp_path, build_report(tmp_path))
    page = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    heading = "photos that the original, given the same JPEG, answers otherwise"
    assert [row[heading] for row in page.table(heading)] == [FLIP]


def test_the_page_needs_nothing_but_itself_and_holds_no_photo(written: Path) -> None:
    text = (written / "report.html").read_text(encoding="utf-8")
    page = Page(text)
    assert not page.tags & {"script", "img", "link", "iframe", "object"}
    assert not re.findall(r"(?:src|href)=\"(?!#)", text.replace('xmlns:xlink="http://www.w3.org/1999/xlink"', ""))
    assert "data:image" not in text
    assert len(page.ids) == len(set(page.ids)) > 10


def test_names_are_escaped(written: Path) -> None:
    text = (written / "report.html").read_text(encoding="utf-8")
    assert "cat &amp; mouse.jpg" in text
    assert "tabby &lt;cat&gt;" in text
    assert "<cat>" not in text


def test_labels_at_another_place_than_the_first_row_has_them_are_marked(written: Path) -> None:
    text = (written / "report.html").read_text(encoding="utf-8")
    marked = re.findall(r'<td class="moved">([^<]*?) <small>', text)
    assert marked == ["lynx", "tabby &lt;cat&gt;"]


@pytest.mark.parametrize("calls", [MIN_P99_CALLS - 1, MIN_P99_CALLS])
def test_a_99th_percentile_is_told_only_of_enough_calls(calls: int) -> None:
    row = speed("fp32", calls=calls)
    enough = calls >= MIN_P99_CALLS
    assert (row.p99_ms is not None) is enough
    told = replace(comparison(), speed=(row,))
    assert (speed_document(told, row)["p99Ms"] is not None) is enough
    (cells,) = Page(comparison_page(told)).table("p99, ms")
    assert (cells["p99, ms"] != "-") is enough


def test_percentiles_and_spread_are_those_of_their_samples() -> None:
    row = replace(speed("fp32"), calls=tuple(float(n) for n in range(1, 1001)), samples=(90.0, 100.0, 110.0))
    assert row.p50_ms == 500.5
    assert row.p99_ms == pytest.approx(990.01)
    assert row.images_per_s == 100
    assert row.spread == pytest.approx(0.2)


def test_a_speed_up_compares_equal_batches_and_equal_preprocessing() -> None:
    told = comparison()
    for row in told.speed:
        native = next(
            other
            for other in told.speed
            if other.row == "native" and (other.batch, other.preprocessing) == (row.batch, row.preprocessing)
        )
        assert speed_up(told.speed, row) == row.images_per_s / native.images_per_s
    assert speed_up((speed("fp32"), speed("native", 8)), speed("fp32")) is None


def test_every_figure_says_device_versions_threads_and_repetitions(written: Path) -> None:
    text = (written / "report.html").read_text(encoding="utf-8")
    said = (
        f"{DEVICE}; TensorFlow 2.21.0; ONNX Runtime 1.32.0; 2 threads; median of 5 interleaved repetitions; 2026-11-24"
    )
    assert text.count(said) == 2
    assert "not representative" in text
    assert "there is no GPU" in text


def test_the_log_has_labels_frames_a_second_and_latency_of_every_row(written: Path) -> None:
    lines = (written / "log.txt").read_text(encoding="utf-8").splitlines()
    networks = [line for line in lines if line.startswith("network: ")]
    assert len(networks) == 16
    assert f"network: native TensorFlow 2.21.0, XLA off, without preprocessing, 2 threads on {DEVICE}" in networks[0]
    assert "batchsize 1, repetitions 5, steps 250" in networks[0]
    assert sum(line.startswith("  fps \tmedian: ") for line in lines) == 16
    latencies = [line for line in lines if line.startswith("  latency \tmedian: ")]
    assert len(latencies) == 16
    assert ["99th_p" in line for line in latencies] == ["batchsize 1," in line for line in networks]
    assert "Precision:  native ['Egyptian cat', 'tabby <cat>', 'lynx', 'tiger cat', 'remote control']" in lines
    assert "not measured: int8: there is no GPU: run it on the builder VM" in lines


def test_single_calls_are_kept_apart(written: Path) -> None:
    calls = json.loads((written / "calls.json").read_text(encoding="utf-8"))["calls"]
    assert [len(row["ms"]) for row in calls[:5]] == [250, 250, 250, 250, 20]
    assert "calls" not in json.loads((written / "report.json").read_text(encoding="utf-8"))["speed"][0]


def test_plots_are_the_same_bytes_again_and_well_formed() -> None:
    told = comparison()
    rows = [row for row in told.speed if not row.preprocessing]
    once, again = speed_plot(told, rows), speed_plot(told, rows)
    assert once == again
    root = ET.fromstring(once)  # noqa: S314 - it is what has just been made
    assert root.get("aria-label") == "Images per second of each row at each batch size"
    assert "var(--ink)" in once
    assert "#010101" not in once
    file = standalone(layer_plot((quantised_graph(),)))
    picture = ET.fromstring(file.encode())  # noqa: S314 - likewise
    assert picture.tag.endswith("svg")
    assert picture.get("viewBox") == f"0 0 {picture.get('width')} {picture.get('height')}"
    assert root.get("width") is None
    assert "prefers-color-scheme:dark" in file
    assert layer_plot(()) == ""


def test_a_build_tells_gates_layers_repairs_stages_and_files(tmp_path: Path) -> None:
    (tmp_path / "log.txt").write_text("stage 1\n", encoding="utf-8")
    write_report(tmp_path, build_report(tmp_path))
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    page = Page(text)
    assert page.table("top-5 (FP32)")[0]["agreement with FP32"] == "0.975"
    assert page.table("gate")[0]["measured"] == "16.3"
    assert [row["precision"] for row in page.table("MACs")][:4] == ["int8", "int8", "int8", "fp16"]
    assert "90 % of the multiply-accumulate operations are INT8" in text
    assert "Conv_3 (Conv) stays FP16" in text
    assert page.table("stage") == [
        {"stage": "source", "seconds": "12.0", "": "from the cache"},
        {"stage": "export", "seconds": "3.5", "": ""},
    ]
    assert {row["file"] for row in page.table("file")} >= {"labels.txt", "onnx/fp32.image.onnx"}
    document = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert document["manifest"]["key"] in text
    assert document["graphs"][0]["layers"][3]["reason"] == "most sensitive"
    assert document["comparison"]["photos"][0]["answers"]["int8-cpu"][1]["label"] == "lynx"
    log = (tmp_path / "log.txt").read_text(encoding="utf-8")
    assert log.startswith("stage 1\n==========================\nnetwork: native")


@pytest.mark.parametrize("content", ["", "[]", '{"graphs": 3}', '{"graphs": [{"precision": "int8"}]}'])
def test_a_report_that_is_none_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "report.json").write_text(content)
    with pytest.raises(
        BuildError, match=rf"^{tmp_path}/report\.json is damaged, or of another version: build the artif"
    ):
        reported_graphs(tmp_path)


def test_what_a_build_says_of_its_layers_can_be_read_back(tmp_path: Path) -> None:
    assert reported_graphs(tmp_path) == ()
    report = build_report(tmp_path)
    (tmp_path / "report.json").write_text(text_of(build_document(report)), encoding="utf-8")
    assert reported_graphs(tmp_path) == report.graphs
    told = replace(comparison(), graphs=reported_graphs(tmp_path), accuracy=report.manifest.accuracy)
    page = Page(comparison_page(told))
    assert page.table("MACs")[3]["precision"] == "fp16"
    assert page.table("gate")[0]["measured"] == "16.3"


def test_a_failed_gate_and_random_weights_are_not_overlooked(tmp_path: Path) -> None:
    write_report(tmp_path, build_report(tmp_path, passed=False, weights="random"))
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "1 of 1 gates FAILED" in text
    assert '<span class="bad">FAILED</span>' in text
    assert "its answers mean nothing" in text


def test_rows_have_their_order() -> None:
    assert in_order(["other", "int8-cpu", "fp32", "native", "fp32"]) == ["native", "fp32", "int8-cpu", "other"]


def test_a_comparison_of_nothing_is_still_a_page() -> None:
    empty = replace(comparison(), speed=(), photos=(), agreement=(), missing=(), trials=())
    Page(comparison_page(empty))


def test_equal_answers_have_no_noise_that_json_could_hold() -> None:
    row: Speed = speed("fp32")
    told = replace(comparison(), speed=(replace(row, memory_mib=float("inf")),))
    assert speed_document(told, told.speed[0])["memoryMib"] is None
