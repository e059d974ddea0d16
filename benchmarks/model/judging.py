"""The CPU graph and every graph of the grid on the same images, and next to each other at the same moment."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnx

from artifact.preprocessing import load_image
from artifact.signature import Preprocessing
from model.compare.process import RowProcess
from model.compare.timing import ROUNDS, WARM_UP_CALLS, Setting, interleave, throughputs
from model.compare.worker import Start
from model.evaluate.images import normalise
from model.evaluate.metrics import Scores, same_top1, sqnr_db
from model.graph import FloatArray, session
from model.source.photos import evaluation_photos

CROPS: Final = (0.875, *(0.6 + 0.4 * step / 11 for step in range(12)))
"""Central crops of each photo, as shares of its short side: the model's own first. Each is looked at mirrored, too."""
BATCHES: Final = (1, 8)
_ROUND_S: Final = 0.5
_BATCH: Final = 8


@dataclass(frozen=True, slots=True)
class Judgement:
    """One graph against FP32."""

    agreement: float
    """Share of images with FP32's first class."""
    sqnr_db: float
    """Of centred logits."""


def unseen_images(preprocessing: Preprocessing) -> FloatArray:
    """The labelled photos, which no calibration here has seen, each 26 ways cut: float32 [520, height, width, 3]."""
    images = []
    for photo in evaluation_photos():
        content = photo.path.read_bytes()
        for fraction in CROPS:
            cut = load_image(content, preprocessing.model_copy(update={"crop_fraction": fraction}))
            images += [cut, cut[:, ::-1]]
    return normalise(np.stack(images), preprocessing)


def judge(fp32: Path, graphs: Mapping[str, Path], images: FloatArray) -> dict[str, Judgement]:
    """Every graph, in tensor form, on the same images."""
    reference = _logits(fp32, images)
    answers = {name: _logits(path, images) for name, path in graphs.items()}
    return {
        name: Judgement(float(same_top1(reference, answer).mean()), sqnr_db(reference, answer))
        for name, answer in answers.items()
    }


def race(
    starts: Sequence[Start], logs: Path, progress: Callable[[float], None]
) -> dict[tuple[str, int], tuple[float, ...]]:
    """Images per second of each repetition, by row and batch size; all rows in turns, each in its own process."""
    settings = [Setting(batch) for batch in BATCHES]
    with ExitStack() as running:
        rows = {}
        for number, start in enumerate(starts):
            name = start.spec.row
            rows[name] = running.enter_context(RowProcess(start, logs / f"static-{number}.log"))
            for setting in settings:
                for _ in range(WARM_UP_CALLS):
                    rows[name].time(setting, 0.0)
        timed = interleave(rows, settings, ROUNDS, _ROUND_S, progress)
    return {(name, setting.batch): throughputs(setting.batch, calls) for (name, setting), calls in timed.items()}


def _logits(path: Path, images: FloatArray) -> Scores:
    model = onnx.load(path)
    # A graph whose softmax is quantised, too, answers rounded probabilities: what goes into it tells more.
    (tensor,) = [node.input[0] for node in model.graph.node if node.op_type == "Softmax"]
    run, name = session(model, [tensor]), model.graph.input[0].name
    return np.concatenate([run.run([tensor], {name: part})[0] for part in _parts(images)])


def _parts(images: npt.NDArray[Any]) -> Iterator[npt.NDArray[Any]]:
    return (images[start : start + _BATCH] for start in range(0, len(images), _BATCH))
