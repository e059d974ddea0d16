from __future__ import annotations

import json
import math
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest

from client.predict import best_labels
from tests.client.conftest import Run
from tests.client.model_fake import LABELS, ModelFake

JPEG = b"\xff\xd8 not really, but the fleet decides that \xff\xd9"


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "my photo.jpg"
    path.write_bytes(JPEG)
    return path


def test_each_image_gets_labels_and_the_vm_and_artifact_that_answered(run: Run, model: ModelFake, photo: Path) -> None:
    outcome = run("predict", str(photo), "--url", model.url, "--top", "2")
    assert outcome.code == 0
    title, _, first, second = outcome.out.splitlines()
    assert title.startswith(f"{photo}: answered by vm-a, model 0123456789abcdef0123")
    assert first.split() == ["1", "goldfish", "0.7000"]
    assert second.split() == ["2", "great", "white", "shark", "0.2000"]
    assert model.images == [JPEG]


def test_every_image_is_a_request_of_its_own(run: Run, model: ModelFake, photo: Path) -> None:
    other = photo.with_name("other.jpg")
    other.write_bytes(JPEG[::-1])
    answers = json.loads(run("predict", str(photo), str(other), str(photo), "--url", model.url, "--json").out)
    assert [(one["image"], one["servedBy"]) for one in answers] == [
        (str(photo), "vm-a"),
        (str(other), "vm-b"),
        (str(photo), "vm-a"),
    ]
    assert [one["class"] for one in answers] == [1, 1, 1]
    assert model.images == [JPEG, JPEG[::-1], JPEG]


def test_a_model_whose_default_signature_takes_numbers_is_asked_by_the_one_that_takes_photos(
    run: Run, model: ModelFake, photo: Path
) -> None:
    model.signatures = {"serving_default": "DT_FLOAT", "image": "DT_STRING"}
    body = photo.with_name("out.json")
    assert run("predict", str(photo), "--url", model.url, "--write-request", str(body)).code == 0
    assert model.signature_names == ["image"]
    assert json.loads(body.read_bytes())["signature_name"] == "image"
    model.signatures = {"serving_default": "DT_STRING", "image": "DT_STRING"}
    assert run("predict", str(photo), "--url", model.url).code == 0
    model.signatures = None
    assert run("predict", str(photo), "--url", model.url).code == 0
    assert model.signature_names == ["image", "", ""]


def test_a_model_that_takes_no_photos_says_so(run: Run, model: ModelFake, photo: Path) -> None:
    model.signatures = {"serving_default": "DT_FLOAT"}
    outcome = run("predict", str(photo), "--url", model.url)
    assert (outcome.code, model.requests) == (1, 0)
    assert "the model takes no images: its signatures are serving_default. Set model.preprocessing" in outcome.err


def test_url_comes_from_the_stacks_outputs(run: Run, model: ModelFake, pulumi: Path, photo: Path) -> None:
    outputs = json.loads((pulumi / "outputs.json").read_text())
    (pulumi / "outputs.json").write_text(json.dumps({**outputs, "endpoint": model.url}))
    assert run("predict", str(photo), "--stack", "blue").code == 0
    call = (pulumi / "calls").read_text()
    assert "stack output --json" in call
    assert "--stack blue" in call


def test_written_request_is_what_the_printed_curl_line_sends(run: Run, model: ModelFake, photo: Path) -> None:
    body = photo.with_name("out file.json")
    outcome = run("predict", str(photo), "--url", model.url, "--write-request", str(body), "--curl")
    line = outcome.out.splitlines()[-1]
    assert line.startswith(f"curl -X POST {model.url}/v1/models/default:predict -d ")
    if shutil.which("curl") is None:
        pytest.skip("no curl on PATH")
    answer = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=True)
    assert json.loads(answer.stdout)["predictions"][0]["classes"] == 1
    assert model.images == [JPEG, JPEG]


def test_json_output_stays_json_beside_the_curl_line(run: Run, model: ModelFake, photo: Path, tmp_path: Path) -> None:
    body = tmp_path / "out.json"
    outcome = run("predict", str(photo), "--url", model.url, "--write-request", str(body), "--curl", "--json")
    assert json.loads(outcome.out)[0]["label"] == "goldfish"
    assert outcome.err.startswith("curl -X POST")


def test_model_without_labels_shows_class_numbers(run: Run, model: ModelFake, photo: Path) -> None:
    model.labels = None
    outcome = run("predict", str(photo), "--url", model.url, "--top", "1")
    assert outcome.code == 0
    assert outcome.out.splitlines()[-1].split() == ["1", "0.7000"]


def test_model_without_probabilities_shows_its_prediction(run: Run, model: ModelFake, photo: Path) -> None:
    model.predictions = [{"boxes": [[0, 1]]}]
    outcome = run("predict", str(photo), "--url", model.url)
    assert outcome.code == 0
    assert '{"boxes": [[0, 1]]}' in outcome.out


def test_class_of_a_1001_class_model_finds_its_label_one_line_up() -> None:
    (best,) = best_labels({"probabilities": [0.0, 0.1, 0.6, 0.3]}, LABELS, 1)
    assert (best.index, best.name) == (2, "goldfish")
    (background,) = best_labels({"probabilities": [0.9, 0.1, 0.0, 0.0]}, LABELS, 1)
    assert (background.index, background.name) == (0, "")


def test_nan_is_never_the_best_class() -> None:
    assert [one.index for one in best_labels({"probabilities": [math.nan, 0.2, 0.8]}, LABELS, 3)] == [2, 1, 0]


class Reply(NamedTuple):
    status: int
    error: object
    headers: dict[str, str] = {}  # noqa: RUF012 - a tuple's default, never written to


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (Reply(400, {"error": "instances[0]: not a JPEG"}), ["answered 400: instances[0]: not a JPEG", "Send a JPEG"]),
        (Reply(404, {"error": "no such model"}), ["answered 404: no such model", "status"]),
        (Reply(413, {"error": "9 MiB is over the limit of 8"}), ["9 MiB is over", "smaller image"]),
        (Reply(429, {"error": "queue is full"}, {"Retry-After": "7"}), ["queue is full", "try again in 7 s"]),
        (Reply(502, "<html>upstream connect error\nsecond line"), ["502: <html>upstream connect error", "status"]),
        (Reply(503, {"error": "draining"}), ["answered 503: draining", "python -m client status"]),
    ],
    ids=lambda value: str(value.status) if isinstance(value, Reply) else "",
)
def test_refusal_is_one_line_with_reason_and_next_step(
    run: Run, model: ModelFake, photo: Path, reply: Reply, expected: list[str]
) -> None:
    model.status, model.error, model.headers = reply
    outcome = run("predict", str(photo), "--url", model.url)
    assert outcome.code == 1
    (line,) = outcome.err.splitlines()
    assert line.startswith(f"error: {photo}: ")
    for part in expected:
        assert part in line
    assert model.requests == 1, "a POST is never repeated"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["missing.jpg"], "missing.jpg: No such file or directory. Name an existing JPEG or PNG file."),
        (["."], ".: Is a directory."),
        (["{empty}"], "is empty."),
        (["{photo}", "--url", "http://127.0.0.1:1"], "cannot be reached: Connection refused."),
        (["{photo}", "--url", "127.0.0.1:8080"], "'127.0.0.1:8080' is not the address of a fleet."),
        (["{photo}", "--url", "http://127.0.0.1:1/v1/models/default"], "is not the address of a fleet."),
        (["{photo}", "--curl"], "Name its file: --write-request out.json."),
        (["{photo}", "--write-request", "no/such/folder/out.json", "--url", "http://127.0.0.1:1"], "No such file"),
    ],
)
def test_mistake_is_one_line_with_next_step(run: Run, photo: Path, arguments: list[str], expected: str) -> None:
    empty = photo.with_name("empty.jpg")
    empty.touch()
    outcome = run("predict", *(one.format(photo=photo, empty=empty) for one in arguments))
    assert outcome.code == 1
    (line,) = outcome.err.splitlines()
    assert expected in line


def test_answer_of_something_else_than_a_model_server_is_named(run: Run, model: ModelFake, photo: Path) -> None:
    model.predictions = []
    outcome = run("predict", str(photo), "--url", model.url)
    assert (outcome.code, "0 predictions came back" in outcome.err) == (1, True)
