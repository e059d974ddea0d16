"""A sandbox of its own for this folder, with the real model."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.fleet import REPOSITORY, Sandbox

REGISTRY = "gs://team-model-registry"
ARTIFACT = REPOSITORY / ".cache" / "artifact"


@pytest.fixture(scope="module")
def artifact() -> Path:
    """The built-in EfficientNet-Lite0, built once for one key and kept."""
    build = ("-m", "model", "build", "--out", str(ARTIFACT), "--runtime", "onnxruntime-cpu")
    Sandbox(Path("/nonexistent")).python(*build)
    return ARTIFACT


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """A running sandbox without any stack."""
    one = Sandbox(tmp_path_factory.mktemp("sandbox") / "state")
    one.run("start")
    yield one
    one.run("down", check=False)
    for process in one.processes():
        process.kill()


@pytest.fixture(scope="module")
def fleet(sandbox: Sandbox, artifact: Path) -> Sandbox:
    """The stack `local`, deployed and serving."""
    key = json.loads((artifact / "manifest.json").read_text())["key"]
    sandbox.operator("-m", "tools.demo", "make-registry")
    sandbox.operator("-m", "model", "publish", str(artifact), REGISTRY)
    sandbox.run("up", "local", "--config", f"model.artifact={REGISTRY}/models/{key}/")
    sandbox.client("wait", "--timeout", "300")
    return sandbox
