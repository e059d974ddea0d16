"""NVIDIA's own HTTP client works against the gateway as it is."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.model.tiny import COLOURS, colour_jpeg, tiny_signatures
from tests.serving.conftest import FakeRouter
from tests.serving.live import live_gateway

pytestmark = pytest.mark.servers

REPOSITORY = Path(__file__).parents[2]
PYTHON = REPOSITORY / ".venv-serving" / "bin" / "python3"


@pytest.fixture(scope="module")
def got(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What tritonclient_calls.py got."""
    photo = tmp_path_factory.mktemp("photo") / "red.jpg"
    photo.write_bytes(colour_jpeg("red"))
    with live_gateway("127.207.1.2", 0, FakeRouter(), tiny_signatures(), tuple(COLOURS)) as address:
        script = Path(__file__).with_name("tritonclient_calls.py")
        done = subprocess.run([PYTHON, script, address, photo], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_health_and_metadata(got: Any) -> None:
    assert got["live"] is got["ready"] is True
    assert got["model ready"] == [True, True, False]
    assert got["server"]["name"] == "tensorrt-fleet"
    assert [one["name"] for one in got["model"]["inputs"]] == ["image_bytes"]


def test_inference_in_binary_json_and_compressed(got: Any) -> None:
    classes, probabilities = got["plain"]
    assert classes == [0, 1]
    assert [row.index(1.0) for row in probabilities] == [0, 1]
    assert got["zipped"] == got["deflated"] == got["async"] == [0]
    assert got["best"] == ["7", ["1.000000:0:black", "0.000000:1:white"]]


def test_signatures_and_outputs_are_chosen(got: Any) -> None:
    assert got["chosen"] == [[0, 1, 2], None]
    assert got["named"] == [3, len(COLOURS)]


def test_refusals_are_the_clients_own_errors(got: Any) -> None:
    status, message = got["bad image"]
    assert status == "400"
    assert message.startswith("image_bytes[0]: not a JPEG or PNG image")
    assert got["unknown model"] == ["404", "Request for unknown model: 'other' is not found"]


@pytest.mark.parametrize("call", ["repository", "load", "log", "trace", "memory"])
def test_what_is_not_offered_is_404(got: Any, call: str) -> None:
    status, message = got[call]
    assert status == "404"
    assert "is not offered" in message
