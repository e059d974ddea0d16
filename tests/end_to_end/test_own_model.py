"""A model of one's own: a SavedModel in a bucket of one's own, photos from this machine, and the fleet serves it."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from tests.end_to_end.fleet import REPOSITORY, Sandbox
from tests.model.tiny import COLOURS, colour_jpeg

pytestmark = [pytest.mark.servers, pytest.mark.slow]

BUCKET = "own-models"
EXPORT = """
import sys
from pathlib import Path
from model.export.saved_model import quiet_tensorflow
quiet_tensorflow()
from tests.model.exports import tensorflow_1
tensorflow_1(Path(sys.argv[1]))
"""
UPLOAD = """
import sys
from google.cloud import storage
blob = storage.Client().create_bucket(sys.argv[1]).blob("models/own.tar.gz")
blob.upload_from_filename(sys.argv[2])
print(blob.generation)
"""
PREPROCESSING = {
    "model.preprocessing.height": "16",
    "model.preprocessing.width": "16",
    "model.preprocessing.mean": "[127, 127, 127]",
    "model.preprocessing.std": "[128, 128, 128]",
}


@pytest.fixture(scope="module")
def settings(sandbox: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Of a stack whose model lies in a bucket that is none of the stack's, and whose photos lie in a folder here."""
    folder = tmp_path_factory.mktemp("own")
    subprocess.run([sys.executable, "-c", EXPORT, str(folder / "model")], cwd=REPOSITORY, check=True)
    subprocess.run(["tar", "-czf", folder / "own.tar.gz", "-C", folder / "model", "."], check=True)
    generation = sandbox.operator("-c", UPLOAD, BUCKET, str(folder / "own.tar.gz")).stdout.strip()
    (folder / "photos").mkdir()
    for name in COLOURS:
        for number in range(2):
            (folder / "photos" / f"{name}{number}.jpg").write_bytes(colour_jpeg(name, 40 + number))
    return {
        "model.source": f"gs://{BUCKET}/models/own.tar.gz#{generation}",
        "model.calibration": str(folder / "photos"),
        **PREPROCESSING,
        "loadBalancer.drainS": "5",
    }


def options(settings: dict[str, str]) -> list[str]:
    return [option for path, value in settings.items() for option in ("--config", f"{path}={value}")]


def test_a_replaced_object_ends_the_update_with_the_builders_own_words(
    sandbox: Sandbox, settings: dict[str, str]
) -> None:
    address, _, generation = settings["model.source"].partition("#")
    other = settings | {"model.source": f"{address}#{int(generation) - 1}"}
    failed = sandbox.run("up", "local", "--file", "Pulumi.local.yaml", *options(other), check=False)
    assert failed.returncode != 0
    assert (
        f"has generation {generation}, and generation {int(generation) - 1} is asked for"
        in failed.stdout + failed.stderr
    )


def test_the_builder_fetches_the_model_and_the_fleet_serves_it(sandbox: Sandbox, settings: dict[str, str]) -> None:
    sandbox.run("up", "local", "--file", "Pulumi.local.yaml", *options(settings))
    outputs = sandbox.outputs()
    body = {"signature_name": "image", "instances": [{"b64": base64.b64encode(colour_jpeg("red")).decode()}]}
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(outputs["predictUrl"], json.dumps(body).encode(), timeout=60) as answer:
        (prediction,) = json.loads(answer.read())["predictions"]
    assert prediction["classes"] == max(range(10), key=prediction["probabilities"].__getitem__)
    assert sum(prediction["probabilities"]) == pytest.approx(1, abs=1e-3)
    assert Path(outputs["modelUri"]).name == outputs["modelKey"]
