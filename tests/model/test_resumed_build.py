"""Whole builds of the small random network: what the next one reuses of a killed or damaged one."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from artifact.folder import ArtifactFolder
from artifact.recipe import BuildRequest, Recipe
from model.build.pipeline import LOG, STAGES, build
from model.errors import BuildError

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).resolve().parents[2]
REQUEST = BuildRequest(source="builtin:smoke")
KILLED_WHILE_CALIBRATING = """
import os, signal, sys
from pathlib import Path
from artifact.recipe import BuildRequest
from model.build.pipeline import build
from model.build.progress import Lines
from model.build.stages import calibrate

def killed(model, tensors, batches, progress):
    progress(0.5)
    os.kill(os.getpid(), signal.SIGKILL)

calibrate.collect_groups = killed
checkout, out, cache = map(Path, sys.argv[1:])
build(BuildRequest(source="builtin:smoke"), checkout, out, Lines(), cache=cache)
"""


class Heard:
    """A reporter that keeps what it is told."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.stages: list[str] = []

    def stage(self, name: str, fraction: float) -> None:
        assert 0 <= fraction <= 1
        if not self.stages or self.stages[-1] != name:
            self.stages.append(name)

    def line(self, text: str) -> None:
        self.lines.append(text)

    @property
    def reused(self) -> list[str]:
        """Stages that were not run again."""
        return [line.split()[0] for line in self.lines if " reused: " in line]


@dataclass(frozen=True)
class Resumed:
    """A build that was killed while it calibrated, and resumed."""

    built: ArtifactFolder
    heard: Heard
    folder: Path
    checkout: Path

    def again(self, name: str, request: BuildRequest = REQUEST) -> tuple[ArtifactFolder, Heard]:
        """Build into another folder, with the same cache."""
        heard = Heard()
        return build(request, self.checkout, self.folder / name, heard, cache=self.folder / "cache").folder, heard


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, checkout: Path) -> tuple[ArtifactFolder, Heard]:
    """A build that nobody has disturbed, with a cache of its own."""
    folder, heard = tmp_path_factory.mktemp("whole"), Heard()
    return build(REQUEST, checkout, folder / "a", heard).folder, heard


@pytest.fixture(scope="module")
def resumed(tmp_path_factory: pytest.TempPathFactory, checkout: Path) -> Resumed:
    """A build that was killed while it calibrated, and the one after it."""
    folder, heard = tmp_path_factory.mktemp("resumed"), Heard()
    places = map(str, (checkout, folder / "a", folder / "cache"))
    arguments = [sys.executable, "-c", KILLED_WHILE_CALIBRATING, *places]
    ended = subprocess.run(arguments, cwd=REPOSITORY, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    assert ended.returncode == -signal.SIGKILL, ended.stderr.decode()
    assert not (folder / "a").exists()
    built = build(REQUEST, checkout, folder / "a", heard, cache=folder / "cache").folder
    return Resumed(built, heard, folder, checkout)


def test_the_smoke_model_goes_through_every_stage(whole: tuple[ArtifactFolder, Heard]) -> None:
    built, heard = whole
    assert built.manifest.weights == "random"
    assert all(row.gates == () for row in built.manifest.accuracy)
    assert "random weights" in built.labels()[0]
    assert "random weights" in (built.path / "report.html").read_text()
    assert any("random weights" in line for line in heard.lines)
    assert heard.stages == [*(stage.name for stage in STAGES), "archive"]
    assert heard.reused == []
    lines = (built.path / LOG).read_text().splitlines()
    assert [line for line in heard.lines if line not in lines] == []
    assert [path.name for path in built.path.parent.iterdir() if path.name.startswith(".a.")] == [".a.lock"]


def test_a_killed_build_goes_on_where_it_was(resumed: Resumed) -> None:
    built, heard, folder = resumed.built, resumed.heard, resumed.folder
    assert heard.reused == ["source", "export", "optimise"]
    report = json.loads((built.path / "report.json").read_text())
    assert report["cached"] == ["export", "optimise", "source"]
    assert list((folder / "cache").glob("*/.partial-*")) == []


def test_the_artifact_is_the_same_with_and_without_the_cache(
    whole: tuple[ArtifactFolder, Heard], resumed: Resumed
) -> None:
    assert resumed.built.manifest.archive == whole[0].manifest.archive
    assert resumed.built.manifest.key == whole[0].manifest.key
    everything, heard = resumed.again("all")
    assert heard.reused == [stage.name for stage in STAGES]
    assert everything.manifest.archive == whole[0].manifest.archive
    assert everything.manifest.accuracy == whole[0].manifest.accuracy


def test_what_a_reused_stage_said_is_said_again(resumed: Resumed) -> None:
    told = [line for line in resumed.heard.lines if "export difference" in line]
    assert len(told) == 1


def test_another_recipe_reuses_what_it_does_not_concern(resumed: Resumed) -> None:
    other, heard = resumed.again("max", BuildRequest(source=REQUEST.source, recipe=Recipe(method="max")))
    assert heard.reused == ["source", "export", "optimise", "calibrate"]
    assert other.manifest.archive != resumed.built.manifest.archive


def test_a_damaged_result_is_made_again(whole: tuple[ArtifactFolder, Heard], resumed: Resumed) -> None:
    for entry in (resumed.folder / "cache" / "quantise").iterdir():
        (entry / "onnx" / "int8.image.onnx").write_bytes(b"?")
    built, heard = resumed.again("spoilt")
    (told,) = (line for line in heard.lines if "damaged" in line)
    assert told.startswith("quantise ")
    assert told.endswith(" its cached result is damaged (onnx/int8.image.onnx has changed): it is made again")
    assert "quantise" not in heard.reused
    assert {"source", "export", "optimise", "calibrate"} <= set(heard.reused)
    assert built.manifest.archive == whole[0].manifest.archive


def test_a_failed_stage_is_one_line_with_its_name_and_the_logs_place(
    resumed: Resumed, monkeypatch: pytest.MonkeyPatch
) -> None:
    from model.build.stages import quantise  # noqa: PLC0415 - imports what only this test needs

    def explode(_: object) -> None:
        raise MemoryError("more than\nthere is")

    monkeypatch.setattr(quantise, "run", explode)
    folder = resumed.folder
    shutil.rmtree(folder / "cache" / "quantise")
    with pytest.raises(BuildError) as failed:
        resumed.again("broken")
    log = folder / ".broken.building" / LOG
    assert str(failed.value) == f"quantise: MemoryError: more than there is (log: {log})"
    assert "Traceback" in log.read_text()
    assert not (folder / "broken").exists()
