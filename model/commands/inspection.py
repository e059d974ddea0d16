"""`python -m model inspect` and `compare`: what an artifact or a graph holds, and how two artifacts differ."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from model.commands.benchmark import CACHE

if TYPE_CHECKING:
    from model.plan.fusion import Fusion


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Put both commands into the command line."""
    inspect = commands.add_parser("inspect", help="say what an artifact or an ONNX file holds")
    inspect.add_argument("what", metavar="ARTIFACT_OR_ONNX", help="folder, gs://BUCKET/models/KEY/ or .onnx file")
    inspect.add_argument(
        "--fusion",
        action="store_true",
        help="compile the (INT8) graph with TensorRT-RTX on this CPU as well; exit status 1 if it is badly fused",
    )
    inspect.set_defaults(run=_inspect)
    compare = commands.add_parser("compare", help="say how one artifact differs from another")
    compare.add_argument("before", metavar="A", help="folder of an artifact, or gs://BUCKET/models/KEY/")
    compare.add_argument("after", metavar="B", help="likewise")
    compare.set_defaults(run=_compare)
    for parser in (inspect, compare):
        parser.add_argument("--json", action="store_true", help="print one JSON object")


def _inspect(options: argparse.Namespace) -> int:
    # ONNX takes a second to import: `--help` needs none of it.
    from model.compare import description  # noqa: PLC0415
    from model.compare.structure import structure_of  # noqa: PLC0415
    from model.compare.subject import existing_artifact  # noqa: PLC0415

    if options.what.endswith(".onnx"):
        graph = Path(options.what)
        document = description.graph_document(structure_of(graph))
        lines = [options.what, *description.graph_lines(document)]
    else:
        folder = existing_artifact(options.what, CACHE)
        document = description.artifact_document(folder)
        lines = description.artifact_lines(folder, document)
        graph = folder.graph("int8", min(one.form for one in folder.signatures.signatures.values()))
    results = _fusion(graph) if options.fusion else ()
    if options.fusion:
        document["fusion"] = [result.as_dict() for result in results]
        lines += ["", f"fusion of {graph.name}:", *(f"  {line}" for result in results for line in result.lines())]
    print(json.dumps(document) if options.json else "\n".join(lines))
    return 1 if any(result.findings for result in results) else 0


def _fusion(graph: Path) -> tuple[Fusion, ...]:
    from model.plan.fusion import check  # noqa: PLC0415 - see _inspect

    return check(graph)


def _compare(options: argparse.Namespace) -> int:
    from model.compare.difference import difference, difference_lines  # noqa: PLC0415 - see _inspect
    from model.compare.subject import existing_artifact  # noqa: PLC0415 - see _inspect

    before, after = (existing_artifact(name, CACHE) for name in (options.before, options.after))
    document = difference(before, after)
    print(json.dumps(document) if options.json else "\n".join(difference_lines(document)))
    return 0
