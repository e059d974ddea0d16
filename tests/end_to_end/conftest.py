"""A sandbox of its own for this folder, with the real model."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.fleet import REPOSITORY, Sandbox
from tests.model.turns import turn

REGISTRY = "gs://team-model-registry"
ARTIFACT = REPOSITORY / ".cache" / "artifact"

MAKE_BUCKET = "import sys; from google.cloud import storage; storage.Client().create_bucket(sys.argv[1])"


@pytest.fixture(scope="module")
def artifact() -> Path:
    """The built-in EfficientNet-Lite0, built once for one key and kept."""
    build = ("-m", "model", "build", "--out", str(ARTIFACT), "--runtime", "onnxruntime-cpu")
    with turn(ARTIFACT):
        Sandbox(Path("unused"), REPOSITORY).python(*build)
    return ARTIFACT


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """A running sandbox without any stack, for a copy of the program that tests may edit."""
    folder = tmp_path_factory.mktemp("sandbox")
    one = Sandbox(folder / "state", copy_program(folder / "program"))
    one.run("start")
    yield one
    one.run("down", check=False)
    for process in one.processes():
        process.kill()


def copy_program(target: Path) -> Path:
    """Every tracked file of the repository, and links to its environments."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=REPOSITORY, check=True, capture_output=True, text=True)
    for name in filter(None, listed.stdout.split("\0")):
        if (REPOSITORY / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(REPOSITORY / name, target / name)
    for environment in (".venv", ".venv-serving"):
        (target / environment).symlink_to(REPOSITORY / environment)
    return target


@pytest.fixture(scope="module")
def fleet(sandbox: Sandbox, artifact: Path) -> Sandbox:
    """The stack `local`, deployed and serving."""
    key = json.loads((artifact / "manifest.json").read_text())["key"]
    sandbox.operator("-c", MAKE_BUCKET, REGISTRY.removeprefix("gs://"))
    sandbox.operator("-m", "model", "publish", str(artifact), REGISTRY)
    # A short drain: the rollouts below must not wait a minute for each old VM.
    quick = ("--config", "loadBalancer.drainS=15")
    sandbox.run("up", "local", "--config", f"model.artifact={REGISTRY}/models/{key}/", *quick)
    return sandbox
