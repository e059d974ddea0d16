from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from artifact.builtin import MODEL_LOCK
from artifact.key import ArtifactInputs, artifact_key, code_digest
from artifact.recipe import BuildRequest, Recipe
from artifact.source import calibration_identity, labels_identity, source_identity

REPOSITORY = Path(__file__).resolve().parents[2]
INPUTS = ArtifactInputs(
    source="builtin:x@1",
    calibration="builtin:y@2",
    interface="{}",
    recipe="{}",
    code="0" * 64,
    tensorrt="none",
    gpu_type="none",
)


def test_the_key_is_stable_over_releases_of_this_code() -> None:
    assert artifact_key(INPUTS) == "a8ddce147733dec1bf96"


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(ArtifactInputs)])
def test_every_input_changes_the_key(field: str) -> None:
    assert artifact_key(dataclasses.replace(INPUTS, **{field: "other"})) != artifact_key(INPUTS)


def tree(folder: Path) -> Path:
    for name in ("artifact/a.py", "model/deep/b.py", "contract.py", "locks/model.txt"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    return folder


def test_the_code_digest_sees_code_and_nothing_else(tmp_path: Path) -> None:
    digest = code_digest(tree(tmp_path))
    for other in ("README.md", "serving/c.py", "model/__pycache__/b.pyc", "docs/x.md"):
        (tmp_path / other).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / other).write_text("x")
    assert code_digest(tmp_path) == digest
    (tmp_path / "model/deep/b.py").write_text("changed")
    assert code_digest(tmp_path) != digest


def test_moving_a_line_between_files_changes_the_code_digest(tmp_path: Path) -> None:
    one, two = tree(tmp_path / "one"), tree(tmp_path / "two")
    (one / "artifact/a.py").write_text("ab")
    (one / "artifact/b.py").write_text("c")
    (two / "artifact/a.py").write_text("a")
    (two / "artifact/b.py").write_text("bc")
    assert code_digest(one) != code_digest(two)


def test_the_built_in_identities_come_from_the_lock_alone(tmp_path: Path) -> None:
    lock = tmp_path / MODEL_LOCK
    lock.parent.mkdir()
    text = (REPOSITORY / MODEL_LOCK).read_text()
    lock.write_text(text)
    source, calibration = (
        source_identity("builtin:efficientnet-lite0", tmp_path),
        calibration_identity("builtin", tmp_path),
    )
    assert source == source_identity("builtin:efficientnet-lite0", REPOSITORY)
    lock.write_text(text.replace("4f26560f2627d4681892525d7bd057d0", "0" * 32))
    assert calibration_identity("builtin", tmp_path) != calibration
    assert source_identity("builtin:efficientnet-lite0", tmp_path) == source


def test_unknown_names_say_what_is_allowed() -> None:
    with pytest.raises(ValueError, match="allowed: builtin:efficientnet-lite0"):
        source_identity("builtin:resnet", REPOSITORY)
    with pytest.raises(ValueError, match="allowed: keras:DenseNet121"):
        source_identity("keras:resnet", REPOSITORY)
    with pytest.raises(ValueError, match=r"model\.calibration 'mine' is unknown: .* none of gs://\S+, `builtin`"):
        calibration_identity("mine", REPOSITORY)


def test_a_lock_without_the_package_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "locks").mkdir()
    (tmp_path / MODEL_LOCK).write_text("numpy==1.0 \\\n    --hash=sha256:" + "0" * 64 + "\n")
    with pytest.raises(ValueError, match="does not pin ai-benchmark"):
        calibration_identity("builtin", tmp_path)


def test_recipe_and_runtime_change_the_key_but_gpu_only_where_there_are_plans() -> None:
    def key(**changes: object) -> str:
        return artifact_key(BuildRequest.model_validate(changes).inputs(REPOSITORY))

    assert key() == key(gpu_type="nvidia-l4", tensorrt="10.13")
    assert (
        len({key(), key(recipe=Recipe(method="max")), key(recipe=Recipe(cpu_weight_bits=8)), key(runtime="tensorrt")})
        == 4
    )
    assert key(runtime="tensorrt", gpu_type="nvidia-tesla-t4") != key(runtime="tensorrt", gpu_type="nvidia-l4")


@pytest.mark.parametrize(
    "changes",
    [
        {"signature": "tensor"},
        {"input_names": ("input:0",)},
        {"output_names": ("softmax:0",)},
        {"preprocess": "fast"},
        {"labels": "gs://bucket/labels.txt#1"},
        {"label_offset": 1},
        {"recipe": {"equalise": True}},
        {"recipe": {"biasCorrection": False}},
        {"recipe": {"repair": False}},
    ],
)
def test_all_that_a_person_can_ask_for_changes_the_key(changes: dict[str, object]) -> None:
    plain, changed = (BuildRequest.model_validate(asked).inputs(REPOSITORY) for asked in ({}, changes))
    assert artifact_key(plain) != artifact_key(changed)


def test_labels_are_their_content_or_their_generation(tmp_path: Path) -> None:
    one, other = tmp_path / "labels.txt", tmp_path / "renamed.txt"
    one.write_text("cat\ndog\n")
    other.write_text("cat\ndog\n")
    assert labels_identity(str(one)) == labels_identity(str(other))
    other.write_text("dog\ncat\n")
    assert labels_identity(str(one)) != labels_identity(str(other))
    assert labels_identity("gs://bucket/labels.txt#17") == "gs://bucket/labels.txt@17"
    with pytest.raises(ValueError, match="names no generation"):
        labels_identity("gs://bucket/labels.txt")
    with pytest.raises(ValueError, match="no file or folder of this machine"):
        labels_identity(str(tmp_path / "absent.txt"))
