"""`python -m model inspect` and `compare`: what an artifact or a graph holds, and how two artifacts differ."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from model.commands.benchmark import CACHE


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Put both commands into the command line."""
    inspect = commands.add_parser("inspect", help="say what an artifact or an ONNX file holds")
    inspect.add_argument("what", metavar="ARTIFACT_OR_ONNX", help="folder, gs://BUCKET/models/KEY/ or .onnx file")
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
        document = description.graph_document(structure_of(Path(options.what)))
        lines = [options.what, *description.graph_lines(document)]
    else:
        folder = existing_artifact(options.what, CACHE)
        document = description.artifact_document(folder)
        lines = description.artifact_lines(folder, document)
    print(json.dumps(document) if options.json else "\n".join(lines))
    return 0


def _compare(options: argparse.Namespace) -> int:
    from model.compare.difference import difference, difference_lines  # noqa: PLC0415 - see _inspect
    from model.compare.subject import existing_artifact  # noqa: PLC0415 - see _inspect

    before, after = (existing_artifact(name, CACHE) for name in (options.before, options.after))
    document = difference(before, after)
    print(json.dumps(document) if options.json else "\n".join(difference_lines(document)))
    return 0
