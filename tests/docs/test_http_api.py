"""Every example of docs/http-api.md is run against a gateway, and answers what the page says."""

from __future__ import annotations

import itertools
import json
import re
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from artifact.signature import Form, SignatureFile, TensorSpec
from serving.tensors import Array
from tests.docs.pages import ROOT, Found, blocks
from tests.model.tiny import colour_jpeg, tiny_signatures
from tests.serving.live import live_gateway

PAGE = ROOT / "docs" / "http-api.md"
CLASSES, BEST = 1000, 281
LEFT_OUT = "..."


@dataclass(frozen=True)
class Example:
    """A block that is run, and the block after it if it holds what is answered."""

    code: Found
    answer: Found | None

    def __str__(self) -> str:
        return self.code.where


def examples() -> Iterator[Example]:
    """All of the page."""
    found = [*blocks(PAGE), Found("", "", "end")]
    for code, after in itertools.pairwise(found):
        if code.language in ("sh", "python"):
            yield Example(code, after if after.language in ("json", "text") else None)


EXAMPLES = tuple(examples())


class Model:
    """Stands for the GPUs: a photo of class 281."""

    async def infer(self, form: Form, inputs: Mapping[str, Array], count: int, deadlines: object) -> dict[str, Array]:
        del form, inputs, deadlines
        scores = np.full((count, CLASSES), 0.0005, np.float32)
        scores[:, BEST] = 0.5005
        return {"probabilities": scores}


def signatures() -> SignatureFile:
    """Those of the built-in models: photos of any size, or 224 x 224 pixels; 1000 classes."""
    made: dict[str, Any] = {}
    for name, signature in tiny_signatures().signatures.items():
        shapes = {"probabilities": (-1, CLASSES), "image": (-1, 224, 224, 3)}

        def sized(spec: TensorSpec, shapes: Mapping[str, tuple[int, ...]] = shapes) -> TensorSpec:
            return spec.model_copy(update={"shape": shapes.get(spec.name, spec.shape)})

        made[name] = signature.model_copy(
            update={
                "inputs": tuple(sized(spec) for spec in signature.inputs),
                "outputs": tuple(sized(spec) for spec in signature.outputs),
            }
        )
    return SignatureFile(signatures=made)


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, dict[str, str]]]:
    """A folder with a photo, where the examples are run one after the other, and their environment."""
    folder = tmp_path_factory.mktemp("shell")
    (folder / "photo.jpg").write_bytes(colour_jpeg("red"))
    labels = tuple({0: "tench", BEST: "tabby"}.get(index, f"class {index}") for index in range(CLASSES))
    with live_gateway("127.207.1.3", 0, Model(), signatures(), labels) as address:
        path = f"{ROOT / '.venv' / 'bin'}:/usr/bin:/bin"
        yield folder, {"PATH": path, "PYTHONPATH": str(ROOT), "ENDPOINT": f"http://{address}", "HOME": str(folder)}


def test_the_page_has_examples_of_everything() -> None:
    text = "".join(example.code.text for example in EXAMPLES)
    assert len(EXAMPLES) > 10
    for what in (
        ":predict",
        "instances",
        "inputs",
        "tensor",
        ":classify",
        "metadata",
        "labels",
        "infer",
        "tritonclient",
    ):
        assert what in text


@pytest.mark.servers
@pytest.mark.parametrize("example", EXAMPLES, ids=str)
def test_an_example_answers_what_the_page_says(example: Example, shell: tuple[Path, dict[str, str]]) -> None:
    folder, environment = shell
    if example.code.language == "python":
        command = [str(ROOT / ".venv-serving" / "bin" / "python3"), "-c", example.code.text]
    else:
        command = ["bash", "-euo", "pipefail", "-c", example.code.text]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    if example.answer is None:
        return
    if example.answer.language == "json":
        assert_like(json.loads(done.stdout), json.loads(example.answer.text), example.answer.where)
    else:
        told = [line for line in done.stdout.splitlines() if line and not line.startswith("date: ")]
        assert len(told) == len(example.answer.text.splitlines()), done.stdout
        for line, expected in zip(told, example.answer.text.splitlines(), strict=True):
            pattern = ".*".join(map(re.escape, expected.split(LEFT_OUT)))
            assert re.fullmatch(pattern, line), f"{example.answer.where}: {line!r} is not {expected!r}"


def assert_like(given: Any, expected: Any, where: str) -> None:
    """Equal, but for what the page leaves out."""
    if expected == LEFT_OUT:
        return
    if isinstance(expected, dict):
        assert isinstance(given, dict), where
        assert given.keys() == expected.keys(), where
        for key, value in expected.items():
            assert_like(given[key], value, f"{where}.{key}")
    elif isinstance(expected, list):
        shown = [value for value in expected if value != LEFT_OUT]
        assert isinstance(given, list), where
        assert len(given) > len(shown) if LEFT_OUT in expected else len(given) == len(shown), where
        for index, value in enumerate(shown):
            assert_like(given[index], value, f"{where}[{index}]")
    else:
        assert given == expected, where


@pytest.mark.parametrize(
    ("given", "expected", "same"),
    [
        ({"a": [1, 2, 3]}, {"a": [1, "..."]}, True),
        ({"a": [1, 2, 3]}, {"a": "..."}, True),
        ({"a": [2, 2, 3]}, {"a": [1, "..."]}, False),
        ({"a": [1]}, {"a": [1, "..."]}, False),
        ({"a": [1, 2]}, {"a": [1]}, False),
        ({"a": 1, "b": 2}, {"a": 1}, False),
    ],
)
def test_only_what_is_left_out_may_differ(given: Any, expected: Any, same: bool) -> None:
    if same:
        assert_like(given, expected, "")
    else:
        with pytest.raises(AssertionError):
            assert_like(given, expected, "")


def test_the_page_lists_every_metric_and_no_other() -> None:
    sources = [ROOT / "serving" / "gateway" / "metrics.py", ROOT / "serving" / "exposition.py"]
    shown = {name for source in sources for name in re.findall(r'"(serving_[a-z_]+)"', source.read_text())}
    assert len(shown) > 10
    section = PAGE.read_text().partition("## Metrics")[2]
    listed = set(re.findall(r"`(serving_[a-z_]+?)(?:_total)?`", section))
    assert listed == shown


def test_the_page_lists_every_reason_of_a_rejection() -> None:
    source = (ROOT / "serving" / "gateway" / "http.py").read_text()
    reasons = {*re.findall(r'HTTPStatus\.[A-Z_]+: "([a-z_]+)"', source), "bad_request", "disconnected"}
    (row,) = [line for line in PAGE.read_text().splitlines() if "serving_rejected_total" in line]
    assert reasons | {"serving_rejected_total", "reason"} == set(re.findall(r"`([a-z_]+)`", row))
