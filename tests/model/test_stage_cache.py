from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from artifact.recipe import BuildRequest
from model.build.cache import Cached, DamagedError, StageCache
from model.build.code import code_of
from model.build.pipeline import STAGES
from model.build.stage import fields_of

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def cache(tmp_path: Path) -> StageCache:
    found = StageCache(tmp_path)
    with found.in_use():
        pass
    return found


def keep(cache: StageCache, stage: str, digest: str, content: bytes = b"graph") -> Cached:
    with cache.fill(stage) as folder:
        (folder / "onnx").mkdir()
        (folder / "onnx" / "int8.onnx").write_bytes(content)
        return cache.keep(folder, digest, 1.5, ("said",))


def test_what_a_stage_left_is_found_again_with_what_it_said(cache: StageCache) -> None:
    assert cache.find("quantise", "a" * 64) is None
    keep(cache, "quantise", "a" * 64)
    found = cache.find("quantise", "a" * 64)
    assert found is not None
    assert (found.folder / "onnx" / "int8.onnx").read_bytes() == b"graph"
    assert (found.entry.seconds, found.entry.lines) == (1.5, ("said",))
    assert cache.find("quantise", "b" * 64) is None


def change_a_file(folder: Path) -> None:
    (folder / "onnx" / "int8.onnx").write_bytes(b"grapH")


def lose_a_file(folder: Path) -> None:
    (folder / "onnx" / "int8.onnx").unlink()


def lose_the_list(folder: Path) -> None:
    (folder / "entry.json").unlink()


def cut_the_list(folder: Path) -> None:
    (folder / "entry.json").write_text('{"files": {')


@pytest.mark.parametrize("damage", [change_a_file, lose_a_file, lose_the_list, cut_the_list])
def test_a_damaged_entry_is_told_once_and_then_gone(cache: StageCache, damage: Callable[[Path], None]) -> None:
    damage(keep(cache, "quantise", "a" * 64).folder)
    with pytest.raises(DamagedError):
        cache.find("quantise", "a" * 64)
    assert cache.find("quantise", "a" * 64) is None
    keep(cache, "quantise", "a" * 64)
    assert cache.find("quantise", "a" * 64) is not None


def test_a_stage_that_fails_leaves_nothing(cache: StageCache, tmp_path: Path) -> None:
    def fail() -> None:
        with cache.fill("quantise") as folder:
            (folder / "half").write_text("done")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert list((tmp_path / "quantise").iterdir()) == []


def test_of_two_builds_that_make_the_same_the_first_one_counts(cache: StageCache) -> None:
    first, second = keep(cache, "quantise", "a" * 64, b"one"), keep(cache, "quantise", "a" * 64, b"other")
    assert second == first
    assert (second.folder / "onnx" / "int8.onnx").read_bytes() == b"one"


def test_the_entries_that_were_not_used_for_longest_go_first(tmp_path: Path) -> None:
    cache = StageCache(tmp_path, limit_bytes=3000)
    with cache.in_use():
        folders = [keep(cache, "quantise", letter * 64, b"x" * 1000).folder for letter in "abc"]
    for age, folder in enumerate(folders):
        os.utime(folder, (1000 - age, 1000 - age))
    assert cache.find("quantise", "c" * 64) is not None, "found: used now"
    cache.prune()
    left = {folder.name[0] for folder in folders if folder.exists()}
    assert left == {"a", "c"}


def test_what_a_killed_build_left_half_done_goes(cache: StageCache, tmp_path: Path) -> None:
    (tmp_path / "quantise" / ".partial-x").mkdir(parents=True)
    kept = keep(cache, "quantise", "a" * 64)
    scratch = cache.scratch("plan")
    cache.prune()
    assert [path.name for path in (tmp_path / "quantise").iterdir()] == [kept.folder.name]
    assert scratch.is_dir()


def test_nothing_is_pruned_while_another_build_reads(tmp_path: Path) -> None:
    cache, reading, done = StageCache(tmp_path, limit_bytes=0), threading.Event(), threading.Event()

    def read() -> None:
        with StageCache(tmp_path).in_use():
            reading.set()
            done.wait(30)

    with cache.in_use():
        folder = keep(cache, "quantise", "a" * 64).folder
    reader = threading.Thread(target=read)
    reader.start()
    assert reading.wait(30)
    cache.prune()
    assert folder.exists()
    done.set()
    reader.join()
    cache.prune()
    assert not folder.exists()


# --- What a stage's digest depends on --------------------------------------------------------------------------------


def digests(
    asked: Mapping[str, object] | None = None, repository: Path = REPOSITORY, tools: str = "1"
) -> dict[str, str]:
    """Digest of every stage for a request."""
    request = BuildRequest.model_validate({"source": "builtin:smoke", **(asked or {})})
    fields = fields_of(request, request.inputs(repository))
    found: dict[str, str] = {}
    for stage in STAGES:
        found[stage.name] = stage.digest(fields, found, {"onnx": tools}, repository)
    return found


def changed(one: dict[str, str], other: dict[str, str]) -> list[str]:
    return [name for name in one if one[name] != other[name]]


NAMES = [stage.name for stage in STAGES]


@pytest.mark.parametrize(
    ("asked", "first"),
    [
        ({"source": "builtin:efficientnet-lite0"}, "source"),
        ({"signature": "tensor"}, "source"),
        ({"recipe": {"equalise": True}}, "calibrate"),
        ({"recipe": {"method": "max"}}, "quantise"),
        ({"recipe": {"cpuWeightBits": 8}}, "quantise"),
        ({"recipe": {"biasCorrection": False}}, "quantise"),
        ({"recipe": {"repair": False}}, "evaluate"),
    ],
)
def test_a_changed_request_is_made_anew_from_the_stage_that_it_concerns(asked: dict[str, object], first: str) -> None:
    assert changed(digests(), digests(asked)) == NAMES[NAMES.index(first) :]


def test_what_plans_are_for_concerns_plans_alone() -> None:
    t4: dict[str, object] = {"runtime": "tensorrt", "tensorrt": "10.13", "gpu_type": "nvidia-tesla-t4"}
    assert changed(digests(), digests(t4)) == ["plan"]
    assert changed(digests(t4), digests({**t4, "gpu_type": "nvidia-l4"})) == ["plan"]


def test_other_libraries_make_everything_anew() -> None:
    assert changed(digests(), digests(tools="2")) == NAMES


@pytest.mark.parametrize(
    ("file", "first"),
    [
        ("model/source/smoke.py", "source"),
        ("locks/model.txt", "source"),
        ("model/export/onnx_export.py", "export"),
        ("model/evaluate/export_gates.py", "optimise"),
        ("model/quantise/statistics.py", "calibrate"),
        ("model/export/half.py", "quantise"),
        ("model/evaluate/gates.py", "evaluate"),
        ("model/compare/quick.py", "speed"),
        ("model/plan/builder.py", "plan"),
    ],
)
def test_changed_code_makes_anew_what_runs_it(checkout: Path, file: str, first: str) -> None:
    before, text = digests(repository=checkout), (checkout / file).read_text()
    (checkout / file).write_text(text + "# changed\n")
    found = changed(before, digests(repository=checkout))
    (checkout / file).write_text(text)
    # Plans do not depend on the speed table.
    later = [name for name in NAMES[NAMES.index(first) :] if first != "speed" or name == first]
    assert found == later


def test_the_code_of_a_stage_is_what_it_imports_and_what_that_imports() -> None:
    files = code_of("model.build.stages.evaluate", REPOSITORY)
    assert Path("model/evaluate/gates.py") in files
    assert Path("model/quantise/repair.py") in files
    assert Path("model/quantise/placement.py") in files, "imported by what it imports"
    assert Path("model/plan/builder.py") not in files
    assert Path("model/__main__.py") not in files
    assert not [path for path in files if path.parts[0] not in {"artifact", "model", "contract.py"}]
