"""A TensorFlow 1 export that takes JPEGs, from its folder to an answer over HTTP."""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import contract
from artifact.folder import ArtifactFolder
from artifact.signature import Crop, Resize
from model.__main__ import main
from model.export.frozen import freeze
from model.source.jpeg.original import FrozenOriginal
from model.source.photos import calibration_photos, evaluation_photos
from tests.model import jpeg_models as models

pytestmark = [pytest.mark.slow, pytest.mark.servers]

REPOSITORY = Path(__file__).parents[2]
SERVING_BIN = REPOSITORY / ".venv-serving" / "bin"
HOST = "127.202.3.1"
UNSEEN = [photo.path.read_bytes() for photo in evaluation_photos()]


@pytest.fixture(scope="module")
def saved_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return models.Form(models.official_resnet).write_with_tensorflow_1(tmp_path_factory.mktemp("model") / "1")


@pytest.fixture(scope="module")
def artifact(saved_model: Path, tmp_path_factory: pytest.TempPathFactory) -> ArtifactFolder:
    folder = tmp_path_factory.mktemp("build")
    (folder / "photos").mkdir()
    for photo in calibration_photos()[::4]:
        shutil.copy(photo, folder / "photos")
    options = [f"--{name}={folder / name}" for name in ("cache", "out")]
    assert main(["build", "--quiet", f"--source={saved_model}", f"--calibration={folder / 'photos'}", *options]) == 0
    return ArtifactFolder(folder / "out")


def test_the_artifact_keeps_the_models_own_preprocessing_and_passes_both_gates(artifact: ArtifactFolder) -> None:
    preprocessing = artifact.signatures.signatures["serving_default"].preprocessing
    assert preprocessing is not None
    assert preprocessing.steps == (
        Resize(to="short_side", height=73, width=73, method="bilinear", coordinates="legacy"),
        Crop(of="pixels", height=64, width=64),
    )
    for row in artifact.manifest.accuracy[:2]:
        gates = {gate.name: gate for gate in row.gates}
        assert gates["JPEG-in agreement"].passed
        assert gates["SQNR dB"].passed


def call(path: str, body: object = None) -> Any:
    """The answer's JSON; None where nobody answers, or with an error."""
    data = None if body is None else json.dumps(body).encode()
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"http://{HOST}:{contract.API_PORT}{path}", data, timeout=20) as answer:
            return json.loads(answer.read())
    except (urllib.error.HTTPError, OSError):
        return None


@pytest.fixture(scope="module")
def server(artifact: ArtifactFolder, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """`python -m serving --artifact`, as on a laptop."""
    folder = tmp_path_factory.mktemp("serving")
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [SERVING_BIN / "python3", "-m", "serving", "--artifact", artifact.path, "--host", HOST],
            cwd=REPOSITORY,
            env=os.environ | {"PATH": f"{SERVING_BIN}:/usr/bin:/bin", "STATE_DIRECTORY": str(folder / "state")},
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            deadline = time.monotonic() + 90
            while call(contract.MODEL_PATH) is None:
                assert process.poll() is None, (folder / "log").read_text()[-2000:]
                assert time.monotonic() < deadline, (folder / "log").read_text()[-2000:]
                time.sleep(0.1)
            yield
        finally:
            process.terminate()
            try:
                process.wait(30)
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()


@pytest.mark.usefixtures("server")
def test_served_photos_get_the_original_s_classes_under_the_models_own_names(saved_model: Path) -> None:
    original = FrozenOriginal(freeze(saved_model, "serving_default"), "probabilities")(UNSEEN).argmax(1)
    assert len(set(original)) > 1
    encoded = [{"b64": base64.b64encode(jpeg).decode()} for jpeg in UNSEEN]
    columns = call(contract.PREDICT_PATH, {"inputs": {"image_bytes": encoded}})["outputs"]
    assert np.mean(np.array(columns["classes"]) == original) >= 0.9
    assert np.shape(columns["probabilities"]) == (20, models.CLASSES)
    rows = call(contract.PREDICT_PATH, {"signature_name": "serving_default", "instances": encoded})["predictions"]
    assert [row["classes"] for row in rows] == columns["classes"]
