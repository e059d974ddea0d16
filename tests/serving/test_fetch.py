"""Fetching the artifact: patience with storage, none with a damaged artifact."""

from __future__ import annotations

from pathlib import Path

import pytest

import contract
from artifact import repository
from artifact.errors import ArtifactError, ArtifactUnavailableError
from artifact.folder import ArtifactFolder
from artifact.uri import ArtifactUri
from serving.fetch import PATIENCE_S, fetch
from tests.serving.stand_ins import FakeGoogle


class Clock:
    """Time that passes only by sleeping."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def vm(google: FakeGoogle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeGoogle:
    """A VM whose metadata names an artifact."""
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path))
    google.metadata[f"instance/attributes/{contract.ARTIFACT_KEY}"] = "gs://bucket/models/0123456789abcdef0123/"
    return google


def test_a_refusal_is_waited_out(
    vm: FakeGoogle, tiny: ArtifactFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    asked: list[tuple[ArtifactUri, Path]] = []

    def fetch_later(uri: ArtifactUri, parent: Path) -> ArtifactFolder:
        asked.append((uri, parent))
        if clock() < 300:
            raise ArtifactUnavailableError("403 storage.objects.get")
        return tiny

    monkeypatch.setattr(repository, "fetch", fetch_later)
    assert fetch(vm.server, clock=clock, sleep=clock.sleep) == tiny.path
    assert {(str(uri), parent) for uri, parent in asked} == {
        ("gs://bucket/models/0123456789abcdef0123/", tmp_path / "models")
    }
    assert 10 < len(asked) < 40, "again and again, but ever more slowly"


def test_after_ten_minutes_the_refusal_is_the_answer(vm: FakeGoogle, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()

    def refuse(*_: object) -> ArtifactFolder:
        raise ArtifactUnavailableError("403 storage.objects.get")

    monkeypatch.setattr(repository, "fetch", refuse)
    with pytest.raises(ArtifactUnavailableError, match="403"):
        fetch(vm.server, clock=clock, sleep=clock.sleep)
    assert PATIENCE_S - 30 < clock.now <= PATIENCE_S


def test_a_damaged_artifact_is_refused_at_once(vm: FakeGoogle, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()

    def damaged(*_: object) -> ArtifactFolder:
        raise ArtifactError("sha256 is aa, the manifest says bb")

    monkeypatch.setattr(repository, "fetch", damaged)
    with pytest.raises(ArtifactError, match="aa, the manifest says bb"):
        fetch(vm.server, clock=clock, sleep=clock.sleep)
    assert clock.now == 0
