"""The real EfficientNet-Lite0, built once for each state of the code and kept below .cache."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from artifact.folder import ArtifactFolder
from artifact.recipe import BuildRequest
from model.build.pipeline import build
from model.build.progress import Lines
from tests.model.turns import turn

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the build's code, for digests of it: nobody edits it but the tests."""
    folder = tmp_path_factory.mktemp("checkout")
    for part in ("artifact", "model", "locks"):
        shutil.copytree(REPOSITORY / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(REPOSITORY / "contract.py", folder)
    return folder


@pytest.fixture(scope="session")
def real_artifact() -> ArtifactFolder:
    """The built-in model's artifact with the default recipe."""
    out = REPOSITORY / ".cache" / "test-artifact"
    with turn(out):
        return build(BuildRequest(), REPOSITORY, out, Lines()).folder
