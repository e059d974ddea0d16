"""One row in a process of its own: `python -m model.compare.worker`, a JSON object a line in, one a line out.

The process holds nothing but its row, so the most memory that it ever held is the row's. It ends with its standard
input, so it cannot outlive whoever started it.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import numpy as np
from pydantic import BaseModel, ConfigDict

from artifact.signature import Form, Preprocessing, TensorSpec
from model.build.machine import peak_memory_gib
from model.compare.feed import Arrays, Feed, random_tensors, read_photos
from model.compare.runners import RowSpec, Runner, load_runner
from model.compare.timing import InProcess, Setting
from model.errors import BuildError
from model.report.content import TOP
from model.source.models import Layout


class Start(BaseModel):
    """First line in: the row and what it is fed."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    spec: RowSpec
    form: Form
    photos: tuple[Path, ...] = ()
    preprocessing: Preprocessing | None = None
    layout: Layout | None = "nhwc"
    inputs: tuple[TensorSpec, ...] = ()
    """Of the tensor form. A model that takes no photos is fed made-up values of these types and shapes."""
    fixed_batch: int | None = None
    """Images that the graph takes at once, no more and no fewer."""


def serve(lines: IO[str], answer: Callable[[dict[str, Any]], None]) -> None:
    """Load the row of the first line, then do what each further line asks for, until there are no more."""
    start = Start.model_validate_json(lines.readline())
    tensors = () if start.preprocessing else random_tensors(start.inputs, 1)
    dtype = start.inputs[0].dtype if start.inputs else "float32"
    feed = Feed(start.form, read_photos(start.photos), start.preprocessing, start.layout, dtype, tensors)
    runner = load_runner(start.spec)
    row = InProcess(runner, feed.source)
    answer({"runtime": runner.runtime})
    for line in lines:
        asked = json.loads(line)
        if asked["do"] == "time":
            setting = Setting(asked["batch"], asked["preprocessing"])
            answer({"ms": row.time(setting, asked["seconds"])})
        elif asked["do"] == "answer":
            photos = read_photos(tuple(map(Path, asked["photos"])))
            answer({"answers": [_best(runner, feed.of([photo] * (start.fixed_batch or 1))) for photo in photos]})
        else:
            answer({"mib": peak_memory_gib() * 1024})


def _best(runner: Runner, inputs: Arrays) -> list[tuple[int, float]]:
    """Classes of the TOP greatest scores of the first image, best first."""
    scores = runner(*inputs)[0]
    best = np.argsort(-scores, kind="stable")[:TOP]
    return [(int(number), float(scores[number])) for number in best]


def _main() -> None:
    # Libraries may write to standard output, which is the line to whoever started this: they get the other one.
    replies = os.fdopen(os.dup(1), "w", buffering=1, encoding="utf-8")
    os.dup2(2, 1)

    def answer(document: dict[str, Any]) -> None:
        replies.write(json.dumps(document) + "\n")

    try:
        serve(sys.stdin, answer)
    except Exception as error:  # noqa: BLE001 - whatever a runtime raises, the reader of the line must learn of it
        what = f"{error}" if isinstance(error, BuildError) else f"{type(error).__name__}: {error}"
        answer({"error": " ".join(what.split())})
        sys.exit(1)


if __name__ == "__main__":
    _main()
