from __future__ import annotations

import fcntl
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from artifact.key import artifact_key
from artifact.manifest import MANIFEST_FILE
from artifact.recipe import BuildRequest
from model.__main__ import main
from model.build.folder import finished, install, make_folder, work_folder
from model.errors import BuildError
from tests.model.tiny import KEY, write_tiny_artifact

REPOSITORY = Path(__file__).resolve().parents[2]
Capture = pytest.CaptureFixture[str]


def key_of(**request: object) -> str:
    return artifact_key(BuildRequest.model_validate(request).inputs(REPOSITORY))


def test_the_key_is_printed_without_importing_what_builds() -> None:
    code = (
        "import sys; from model.__main__ import main; status = main(['key', '--method', 'max']); "
        "heavy = {'tensorflow', 'onnx', 'onnxruntime', 'keras', 'google.cloud.storage', 'cv2'} & set(sys.modules); "
        "print(heavy or 'light', file=sys.stderr); sys.exit(status)"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == key_of(recipe={"method": "max"})
    assert result.stderr.strip() == "light"


def test_flags_override_the_recipe(capsys: Capture) -> None:
    assert main(["key", "--recipe", '{"method": "max", "cpuWeightBits": 8}', "--method", "entropy"]) == 0
    assert capsys.readouterr().out.strip() == key_of(recipe={"method": "entropy", "cpuWeightBits": 8})


@pytest.mark.parametrize(
    ("recipe", "said"),
    [
        ('{"method": "magic"}', "method: "),
        ('{"bits": 7}', "bits: "),
        ("{", "recipe: "),
        ('{"cpuWeightBits": 4}', "7 or 8"),
    ],
)
def test_a_bad_recipe_is_a_usage_error_that_shows_a_good_one(capsys: Capture, recipe: str, said: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["key", "--recipe", recipe])
    assert ended.value.code == 2
    words = capsys.readouterr().err
    assert said in words
    assert '{"method":"mse","cpuWeightBits":7,' in words


def test_an_unknown_source_is_one_clear_line(capsys: Capture, tmp_path: Path) -> None:
    assert main(["build", "--out", str(tmp_path / "a"), "--source", "builtin:resnet"]) == 1
    assert capsys.readouterr().err == (
        "error: model source 'builtin:resnet' is unknown; allowed: builtin:efficientnet-lite0, builtin:smoke\n"
    )


def test_plans_are_refused_before_anything_is_built_where_there_is_no_tensorrt(capsys: Capture, tmp_path: Path) -> None:
    assert main(["build", "--out", str(tmp_path / "a"), "--runtime", "tensorrt"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: TensorRT's Python package cannot be imported (No module named 'tensorrt')")
    assert error.count("\n") == 1
    assert not (tmp_path / "a").exists()


def test_a_finished_build_is_verified_and_not_made_again(tmp_path: Path, capsys: Capture) -> None:
    write_tiny_artifact(tmp_path / "a", key=key_of())
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "a").rglob("*")}
    assert main(["build", "--out", str(tmp_path / "a")]) == 0
    assert "already, and it is undamaged: nothing to build" in capsys.readouterr().out
    assert main(["build", "--out", str(tmp_path / "a"), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["key"], result["created"], result["manifest"]["key"]) == (key_of(), False, key_of())
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "a").rglob("*")} == before


def damage_graph(folder: Path) -> None:
    (folder / "onnx" / "int8.image.onnx").write_bytes(b"?")


def damage_archive(folder: Path) -> None:
    next(folder.glob("model-*.tar.gz")).write_bytes(b"?")


def lose_archive(folder: Path) -> None:
    next(folder.glob("model-*.tar.gz")).unlink()


def lose_manifest(folder: Path) -> None:
    (folder / MANIFEST_FILE).unlink()


@pytest.mark.parametrize("damage", [damage_graph, damage_archive, lose_archive, lose_manifest])
def test_a_damaged_build_is_not_taken_for_finished(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    write_tiny_artifact(tmp_path / "a")
    assert finished(tmp_path / "a", KEY) is not None
    assert finished(tmp_path / "a", "f" * 20) is None
    damage(tmp_path / "a")
    assert finished(tmp_path / "a", KEY) is None


def test_a_folder_that_holds_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.tex").write_text("years of work")
    with pytest.raises(BuildError, match="holds something that is no artifact"), work_folder(tmp_path / "home"):
        pass
    assert (tmp_path / "home" / "thesis.tex").read_text() == "years of work"


def test_a_folder_that_cannot_be_made_is_named_with_its_option(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    assert finished(tmp_path / "file", KEY) is None
    with pytest.raises(BuildError, match=r"cannot make the folder .*file/more: .*; name another one \(--out\)"):
        work_folder(tmp_path / "file" / "more" / "artifact").__enter__()
    with pytest.raises(BuildError, match=r"cannot make the folder .*file: File exists; name another one \(--cache\)"):
        make_folder(tmp_path / "file", "--cache")


def test_two_builds_do_not_write_one_folder(tmp_path: Path) -> None:
    with (
        work_folder(tmp_path / "a"),
        pytest.raises(BuildError, match="another build is writing"),
        work_folder(tmp_path / "a"),
    ):
        pass
    with (tmp_path / ".a.lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_build_replaces_an_older_artifact_and_what_a_killed_one_left(tmp_path: Path) -> None:
    write_tiny_artifact(tmp_path / "a", key="e" * 20)
    (tmp_path / ".a.building").mkdir()
    (tmp_path / ".a.building" / "half").write_text("done")
    with work_folder(tmp_path / "a") as work:
        assert list(work.iterdir()) == []
        (work / "new").write_text("done")
        install(work, tmp_path / "a")
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["new"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [".a.lock", "a"]


def test_publishing_what_is_no_artifact_names_it(tmp_path: Path, capsys: Capture) -> None:
    assert main(["publish", str(tmp_path), "gs://bucket"]) == 1
    assert capsys.readouterr().err.startswith(f"error: {tmp_path} is no complete artifact: manifest.json is missing")
    write_tiny_artifact(tmp_path / "a")
    assert main(["publish", str(tmp_path / "a"), "bucket"]) == 1
    assert "must be gs://bucket" in capsys.readouterr().err


def test_how_a_model_of_ones_own_is_read_can_be_said_in_flags(capsys: Capture) -> None:
    preprocessing: dict[str, object] = {"height": 8, "width": 8, "mean": [0, 0, 0], "std": [1, 1, 1]}
    flags = ["--source", "gs://bucket/graph.pb#1", "--input-names", "a, b:0", "--output-names", "c"]
    flags += ["--labels", "builtin", "--label-offset", "1", "--preprocessing", json.dumps(preprocessing)]
    assert main(["key", *flags]) == 0
    assert capsys.readouterr().out.strip() == key_of(
        source="gs://bucket/graph.pb#1",
        input_names=("a", "b:0"),
        output_names=("c",),
        labels="builtin",
        label_offset=1,
        preprocessing={"decoder": "fast", "cropFraction": 0.875, **preprocessing},
    )
    assert main(["key", "--signature", "tensor", "--preprocess", "fast"]) == 0
    assert capsys.readouterr().out.strip() == key_of(signature="tensor", preprocess="fast")


def test_a_bad_preprocessing_is_a_usage_error_that_shows_a_good_one(capsys: Capture) -> None:
    with pytest.raises(SystemExit):
        main(["key", "--preprocessing", '{"height": 8}'])
    words = capsys.readouterr().err
    assert "width: Field required" in words
    assert '"cropFraction": 0.875' in words
