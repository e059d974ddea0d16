"""The report on what the GPU machine measured: `python -m benchmarks.gpu.report RESULTS`.

RESULTS is a folder with tensorrt.json of `bench.py`, xla.json and torch.json of the native baselines. The page is
written beside them.
"""

from __future__ import annotations

import argparse
import html
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks.gpu.bench import EFFICIENTNET, RESNET, RESNET_V2
from model.report.content import Comparison, Machine, Speed
from model.report.page import document_page, paragraph, section, table
from model.report.plots import speed_plot

GOAL_BATCH: Final = 128
_TITLE: Final = "TensorRT 8.6.1 on a data-centre GPU: evidence, not a claim about the T4"
_CAVEAT: Final = (
    "Measured on the GPU that is named here. A T4 has other kernels, a twelfth of the memory bandwidth and no TF32; "
    "TensorRT 10 is another version. What carries over is that the graphs are accepted, what is fused and in which "
    "precision, and what the answers are. Images per second do not."
)
Record = Mapping[str, Any]


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu.report")
    parser.add_argument("results", type=Path)
    folder: Path = parser.parse_args().results
    tensorrt, xla, torch = (json.loads((folder / f"{name}.json").read_text()) for name in ("tensorrt", "xla", "torch"))
    page = folder / "report.html"
    page.write_text(report(tensorrt, xla, torch), encoding="utf-8")
    print(page)
    for goal in goals(tensorrt):
        print(*goal, sep=": ")


def report(tensorrt: Record, xla: Record, torch: Record) -> str:
    """The page."""
    engines = {name: engine for name, engine in tensorrt["engines"].items() if "error" not in engine}
    failed = [(name, engine["error"]) for name, engine in tensorrt["engines"].items() if "error" in engine]
    rows = speed_rows(engines, xla, torch, tensorrt["machine"])
    machine = Machine(tensorrt["machine"]["gpu"], {**tensorrt["machine"], **xla["versions"], **torch["versions"]}, "")
    comparison = Comparison("ResNet-50 v1", machine, rows)
    facts = [(html.escape(name), html.escape(str(value))) for name, value in machine.versions.items()]
    return document_page(
        _TITLE,
        [
            section("What this is", paragraph(_CAVEAT), table(("", ""), facts)),
            section("Goals", table(("goal", "measured"), [tuple(map(html.escape, goal)) for goal in goals(tensorrt)])),
            section("ResNet-50, images per second", speed_plot(comparison, rows), table(*_ladder(rows))),
            section("Engines", table(*_engines(engines))),
            section("What TensorRT made of the graphs", table(*_inspections(engines))),
            section("Answers of EfficientNet-Lite0", table(*_answers(engines))),
            *([section("Engines that failed", table(("engine", "error"), failed))] if failed else ()),
        ],
    )


def goals(tensorrt: Record) -> list[tuple[str, str]]:
    """What was hoped for on this kind of GPU, and what came out."""
    engines = tensorrt["engines"]
    rate = {
        precision: engines[f"{RESNET}.{precision}.b{GOAL_BATCH}"]["execute"]["images_per_s"]
        for precision in ("int8", "fp16", "fp32")
    }
    inspection = engines[f"{RESNET}.int8.b{GOAL_BATCH}"]["inspection"]
    answers = next(e["answers"] for n, e in engines.items() if n.startswith(f"{EFFICIENTNET}.int8") and "answers" in e)
    between = len(inspection["reformats_between_convolutions"])
    convolutions = ", ".join(f"{count} {types}" for types, count in inspection["convolutions"].items())
    same = answers["against_ort_int8"]["agreement"]
    expected = answers["ort_int8_against_ort_fp32"]["agreement"]
    predicted = answers["against_ort_fp32"]["agreement"]
    return [
        ("INT8 at least 1.5 x TensorRT FP16, ResNet-50, batch 128", f"{rate['int8'] / rate['fp16']:.2f} x"),
        ("INT8 at least 10 x TensorRT FP32 (TF32 off), the same", f"{rate['int8'] / rate['fp32']:.1f} x"),
        ("every convolution of ResNet-50 in INT8", convolutions),
        ("no reformat between convolutions", str(between)),
        (
            "EfficientNet-Lite0: agreement with FP32 within 0.01 of what ONNX Runtime finds for the same graph",
            f"{predicted:.4f} on the GPU, {expected:.4f} on the CPU; alike on {same:.4f} of {answers['images']}",
        ),
    ]


def speed_rows(engines: Mapping[str, Record], xla: Record, torch: Record, machine: Record) -> tuple[Speed, ...]:
    """TensorRT's ResNet-50 engines and the native rows."""
    rows = [
        Speed(
            row=f"TensorRT {engine['precision'].upper()}",
            runtime=f"TensorRT {machine['tensorrt']}",
            device=machine["gpu"],
            batch=engine["batch"],
            threads=0,
            samples=tuple(engine["execute"]["rounds"]),
        )
        for engine in engines.values()
        if engine["network"] == RESNET
    ]
    rows += [
        Speed(
            row=row["name"],
            runtime=runtime,
            device=machine["gpu"],
            batch=row["batch"],
            threads=0,
            samples=tuple(row["rounds"]),
        )
        for found, runtime in ((xla, "JAX"), (torch, "PyTorch"))
        for row in found["rows"]
    ]
    return tuple(rows)


def _ladder(rows: Sequence[Speed]) -> tuple[Sequence[str], list[tuple[str, ...]]]:
    batches = sorted({row.batch for row in rows})
    found = {(row.row, row.batch): row for row in rows}
    names = sorted({row.row for row in rows}, key=lambda name: -_rate(found.get((name, GOAL_BATCH))))
    cells = [(name, *(_cell(found.get((name, batch))) for batch in batches)) for name in names]
    return ("images per second", *(f"batch {batch}" for batch in batches)), cells


def _rate(row: Speed | None) -> float:
    return row.images_per_s if row else 0.0


def _cell(row: Speed | None) -> str:
    return f"{row.images_per_s:,.0f} ± {row.spread / 2:.1%}" if row else "not measured"


def _engines(engines: Mapping[str, Record]) -> tuple[Sequence[str], list[tuple[str, ...]]]:
    head = (
        "engine",
        "build s",
        "plan MiB",
        "images/s",
        "p50 / p99 ms",
        "as CUDA graph",
        "with copies",
        "two streams with copies",
    )
    return head, [
        (
            name,
            f"{engine['build_s']:.0f}",
            f"{engine['plan_mib']:.0f}",
            f"{engine['execute']['images_per_s']:,.0f}",
            f"{engine['execute']['p50_ms']:.3f} / {engine['execute']['p99_ms']:.3f}",
            f"{engine['execute_as_cuda_graph']['images_per_s']:,.0f}",
            f"{engine['with_copies']['images_per_s']:,.0f}",
            f"{engine['two_streams_with_copies_images_per_s']:,.0f}",
        )
        for name, engine in engines.items()
    ]


def _inspections(engines: Mapping[str, Record]) -> tuple[Sequence[str], list[tuple[str, ...]]]:
    wanted = [(n, e["inspection"]) for n, e in engines.items() if e["network"] in (RESNET, RESNET_V2, EFFICIENTNET)]
    return ("engine", "layers", "convolutions, input -> output", "reformats", "of these between convolutions"), [
        (
            name,
            str(found["layers"]),
            "<br>".join(html.escape(f"{count} x {types}") for types, count in found["convolutions"].items()),
            str(found["reformats"]),
            str(len(found["reformats_between_convolutions"])),
        )
        for name, found in wanted
    ]


def _answers(engines: Mapping[str, Record]) -> tuple[Sequence[str], list[tuple[str, ...]]]:
    head = ("engine", "top-1", "agreement with FP32 in ONNX Runtime", "SQNR dB", "with INT8 in ONNX Runtime", "SQNR dB")
    return head, [
        (
            name,
            f"{found['top1']:.3f}",
            *(
                text
                for graph in ("fp32", "int8")
                for text in (
                    f"{found[f'against_ort_{graph}']['agreement']:.4f}",
                    f"{found[f'against_ort_{graph}']['sqnr_db']:.1f}",
                )
            ),
        )
        for name, engine in engines.items()
        if (found := engine.get("answers"))
    ]


if __name__ == "__main__":
    main()
