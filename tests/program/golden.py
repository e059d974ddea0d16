"""Graphs as files that a person can review: what depends on the text of code is replaced by what it stands for."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from tests.program.harness import REPOSITORY, Graph

FOLDER = Path(__file__).parent / "golden"


def readable(graph: Graph) -> dict[str, Any]:
    """The graph without digests and without the startup scripts' text."""
    text = json.dumps(
        {
            "outputs": graph.outputs,
            "resources": {r.urn: {"inputs": r.inputs, "options": r.options} for r in graph.resources},
        }
    )
    for path in (REPOSITORY / "startup").glob("*.sh"):
        text = text.replace(json.dumps(path.read_text(encoding="utf-8")), f'"<startup/{path.name}>"')
    text = re.sub(r"\b[0-9a-f]{64}\b", "<code sha256>", text)
    text = re.sub(r"uniqueId=[0-9]+", "uniqueId=<template>", text)
    text = re.sub(r"(?<![0-9a-z])[0-9a-f]{20}(?![0-9a-z])", "<model key>", text)
    document = json.loads(text)
    assert isinstance(document, dict)
    return document


def check(name: str, document: dict[str, Any], *, update: bool) -> None:
    """Compare with the golden file, or write it."""
    path = FOLDER / f"{name}.json"
    text = json.dumps(document, indent=2, sort_keys=True) + "\n"
    if update:
        path.write_text(text, encoding="utf-8")
    assert path.exists(), f"{path} is missing: run pytest tests/program --update-golden"
    assert text == path.read_text(encoding="utf-8"), f"{path.name} differs: review it with --update-golden and git diff"
