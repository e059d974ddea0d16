"""Classify images through the load balancer and tell labels, probabilities, and who answered."""

from __future__ import annotations

import heapq
import json
import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from client.api import Answer, ModelApi, request_body
from client.errors import ClientError
from client.rendering import Table
from contract import PREDICT_PATH


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """One class and how likely the model holds it."""

    index: int
    name: str
    """Its line in the model's labels, or an empty string where it has none."""
    probability: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """One image's answer."""

    image: Path
    labels: tuple[Label, ...]
    """Most likely first; empty for a model that answers no probabilities."""
    raw: Any
    """The prediction as the API gave it."""
    answer: Answer


def predict(api: ModelApi, images: Sequence[tuple[Path, bytes]], top: int) -> list[Prediction]:
    """Send each image in a request of its own, so that the balancer spreads them over the VMs.

    Raises:
        ClientError: a request failed; the message names its image.
    """
    names, signature = api.labels(), api.photo_signature()
    return [_predict_one(api, path, request_body([data], signature), names, top) for path, data in images]


def _predict_one(api: ModelApi, path: Path, body: bytes, names: Sequence[str], top: int) -> Prediction:
    try:
        answer = api.predict(body)
    except ClientError as error:
        raise type(error)(f"{path}: {error.problem}", error.remedy) from error
    if len(answer.predictions) != 1:
        raise ClientError(
            f"{path}: one image was sent, {len(answer.predictions)} predictions came back",
            "Compare the address with the stack's output `endpoint`.",
        )
    raw = answer.predictions[0]
    return Prediction(image=path, labels=best_labels(raw, names, top), raw=raw, answer=answer)


def best_labels(prediction: object, names: Sequence[str], top: int) -> tuple[Label, ...]:
    """The `top` most likely classes of one prediction.

    A model of 1001 classes with 1000 labels has its classes one behind its labels (a background class first), so the
    difference of the two counts is the offset. A prediction without a list of `probabilities` has no labels.
    """
    scores = prediction.get("probabilities") if isinstance(prediction, dict) else None
    if not isinstance(scores, list) or not all(isinstance(score, int | float) for score in scores):
        return ()
    offset = max(0, len(scores) - len(names)) if names else 0
    best = heapq.nlargest(top, range(len(scores)), key=lambda index: _orderable(scores[index]))
    return tuple(
        Label(
            index=index,
            name=names[index - offset] if 0 <= index - offset < len(names) else "",
            probability=float(scores[index]),
        )
        for index in best
    )


def _orderable(score: float) -> float:
    return -math.inf if math.isnan(score) else score


def table(prediction: Prediction) -> Table:
    """One image's labels; the title says which VM and artifact answered."""
    answer = prediction.answer
    title = (
        f"{prediction.image}: answered by {answer.served_by}, model {answer.model_key}, "
        f"in {answer.latency_s * 1000:.0f} ms"
    )
    if not prediction.labels:
        return Table(title, ("PREDICTION",), [(json.dumps(prediction.raw),)])
    rows = [(str(one.index), one.name, f"{one.probability:.4f}") for one in prediction.labels]
    return Table(title, ("CLASS", "LABEL", "PROBABILITY"), rows, frozenset({"CLASS", "PROBABILITY"}))


def as_json(prediction: Prediction) -> dict[str, Any]:
    """The same as a JSON value; `class`, `label` and `probability` are the most likely one's, or null."""
    best = prediction.labels[0] if prediction.labels else None
    return {
        "image": str(prediction.image),
        "class": best.index if best else None,
        "label": best.name if best else None,
        "probability": best.probability if best else None,
        "top": [{"class": one.index, "label": one.name, "probability": one.probability} for one in prediction.labels],
        "prediction": None if prediction.labels else prediction.raw,
        "servedBy": prediction.answer.served_by,
        "modelKey": prediction.answer.model_key,
        "latencyMs": round(prediction.answer.latency_s * 1000, 1),
    }


def write_request(images: Sequence[bytes], target: Path, signature: str) -> None:
    """Write the predict request's body for the images, as `curl -d @FILE` sends it.

    Raises:
        ClientError: the file cannot be written.
    """
    try:
        target.write_bytes(request_body(images, signature))
    except OSError as error:
        raise ClientError(f"{target}: {error.strerror}", "Name a file in a folder that you may write to.") from error


def curl_line(endpoint: str, request: Path) -> str:
    """The command that sends a written request with curl."""
    return f"curl -X POST {shlex.quote(endpoint + PREDICT_PATH)} -d {shlex.quote(f'@{request}')}"
