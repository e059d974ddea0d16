from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from sandbox.folder import SandboxError, StateFolder
from sandbox.stacks import write_copy

FILE = """\
# A comment.
config:
  gcp:project: a-real-project
  gcp:region: us-central1
  demo:model:
    runtime: tensorrt
"""


@pytest.fixture
def program(tmp_path: Path) -> Path:
    folder = tmp_path / "program"
    folder.mkdir()
    (folder / "Pulumi.yaml").write_text("name: demo\nruntime: python\n")
    (folder / "Pulumi.dev.yaml").write_text(FILE)
    return folder


def copied(tmp_path: Path, program: Path, *overrides: str) -> dict[str, Any]:
    config = write_copy(StateFolder(tmp_path / "state"), program, "dev", "sandbox-project", overrides)
    assert config.file == tmp_path / "state" / "config" / "Pulumi.dev.yaml"
    found: dict[str, Any] = yaml.safe_load(config.file.read_text())["config"]
    return found


def test_the_copy_names_the_sandboxs_project_and_the_file_stays(tmp_path: Path, program: Path) -> None:
    assert copied(tmp_path, program)["gcp:project"] == "sandbox-project"
    assert (program / "Pulumi.dev.yaml").read_text() == FILE


def test_another_project_is_told(tmp_path: Path, program: Path) -> None:
    config = write_copy(StateFolder(tmp_path / "state"), program, "dev", "sandbox-project", [])
    assert config.replaced_project == "a-real-project"


def test_overrides_reach_into_objects_and_stay_for_later_runs(tmp_path: Path, program: Path) -> None:
    found = copied(tmp_path, program, "model.artifact=gs://b/models/k/", "gcp:region=europe-west4", "fleet.max=3")
    assert found["demo:model"] == {"runtime": "tensorrt", "artifact": "gs://b/models/k/"}
    assert found["demo:fleet"] == {"max": 3}
    again = copied(tmp_path, program, "fleet.max=5")
    assert again["demo:model"]["artifact"] == "gs://b/models/k/"
    assert again["gcp:region"] == "europe-west4"
    assert again["demo:fleet"] == {"max": 5}


def test_an_override_without_a_value_takes_it_back(tmp_path: Path, program: Path) -> None:
    copied(tmp_path, program, "model.runtime=onnxruntime-cpu")
    copied(tmp_path, program, "model.runtime=")
    assert copied(tmp_path, program)["demo:model"] == {"runtime": "tensorrt"}


def test_an_edit_of_the_file_reaches_the_next_copy(tmp_path: Path, program: Path) -> None:
    copied(tmp_path, program, "model.artifact=x")
    (program / "Pulumi.dev.yaml").write_text(FILE.replace("tensorrt", "onnxruntime-cpu"))
    assert copied(tmp_path, program)["demo:model"] == {"runtime": "onnxruntime-cpu", "artifact": "x"}


def test_what_pulumi_wrote_into_the_copy_stays_there(tmp_path: Path, program: Path) -> None:
    copied(tmp_path, program)
    file = tmp_path / "state" / "config" / "Pulumi.dev.yaml"
    file.write_text(f"{file.read_text()}encryptionsalt: v1:abc\n")
    copied(tmp_path, program)
    assert yaml.safe_load(file.read_text())["encryptionsalt"] == "v1:abc"


def test_the_salt_of_the_real_stack_is_not_copied(tmp_path: Path, program: Path) -> None:
    (program / "Pulumi.dev.yaml").write_text(f"encryptionsalt: real\n{FILE}")
    copied(tmp_path, program)
    assert "encryptionsalt" not in yaml.safe_load((tmp_path / "state" / "config" / "Pulumi.dev.yaml").read_text())


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("model.artifact", "give PATH=VALUE"),
        ("model.runtime.deep=1", "not an object"),
        ("gcp:region.x=1", "not an object"),
        ("fleet.pools[0].min=1", "not places in a list"),
    ],
)
def test_overrides_that_make_no_sense_are_refused(tmp_path: Path, program: Path, override: str, words: str) -> None:
    with pytest.raises(SandboxError, match=words):
        copied(tmp_path, program, override)


def test_a_secret_of_the_real_stack_is_refused(tmp_path: Path, program: Path) -> None:
    (program / "Pulumi.dev.yaml").write_text(f"{FILE}  demo:password:\n    secure: v1:xyz\n")
    with pytest.raises(SandboxError, match="holds a secret of the real stack"):
        copied(tmp_path, program)


def test_an_unknown_stack_names_the_known_ones(tmp_path: Path, program: Path) -> None:
    with pytest.raises(SandboxError, match=r"there is no stack prod: .* there are dev"):
        write_copy(StateFolder(tmp_path / "state"), program, "prod", "p", [])


def test_a_stack_may_take_the_file_of_another_and_keeps_to_it(tmp_path: Path, program: Path) -> None:
    folder = StateFolder(tmp_path / "state")
    first = write_copy(folder, program, "blue", "p", ["model.runtime=x"], file="Pulumi.dev.yaml")
    assert (first.stack, first.file) == ("blue", tmp_path / "state" / "config" / "Pulumi.blue.yaml")
    write_copy(folder, program, "green", "p", [], file="Pulumi.dev.yaml")
    write_copy(folder, program, "blue", "p", [])
    runtimes = {
        stack: yaml.safe_load((folder.config / f"Pulumi.{stack}.yaml").read_text())["config"]["demo:model"]["runtime"]
        for stack in ("blue", "green")
    }
    assert runtimes == {"blue": "x", "green": "tensorrt"}


def test_an_absent_file_is_not_remembered(tmp_path: Path, program: Path) -> None:
    folder = StateFolder(tmp_path / "state")
    with pytest.raises(SandboxError, match=r"Pulumi\.none\.yaml is missing"):
        write_copy(folder, program, "dev", "p", [], file="Pulumi.none.yaml")
    write_copy(folder, program, "dev", "p", [])


def test_a_folder_without_a_program_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SandboxError, match="holds no Pulumi program"):
        write_copy(StateFolder(tmp_path / "state"), tmp_path, "dev", "p", [])
