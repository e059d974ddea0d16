from __future__ import annotations

import json
from pathlib import Path

import pytest

from artifact.errors import ArtifactError
from artifact.folder import ArtifactFolder
from tests.model.tiny import COLOURS, write_tiny_artifact


def test_a_complete_folder_is_read(tmp_path: Path) -> None:
    built = write_tiny_artifact(tmp_path / "a")
    again = ArtifactFolder(tmp_path / "a")
    assert again.manifest == built.manifest
    assert again.labels() == tuple(COLOURS)
    assert again.graph("fp32", "image").is_file()
    with pytest.raises(ArtifactError, match=r"has no onnx/fp16\.image\.onnx"):
        again.graph("fp16", "image")


@pytest.mark.parametrize("name", ["manifest.json", "signature.json", "labels.txt", "onnx/fp32.image.onnx"])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    write_tiny_artifact(tmp_path / "a")
    (tmp_path / "a" / name).unlink()
    with pytest.raises(ArtifactError, match=f"{name} is missing"):
        ArtifactFolder(tmp_path / "a")


def test_a_changed_file_is_refused(tmp_path: Path) -> None:
    write_tiny_artifact(tmp_path / "a")
    with (tmp_path / "a" / "onnx" / "int8.tensor.onnx").open("r+b") as stream:
        stream.seek(50)
        stream.write(b"!")
    with pytest.raises(ArtifactError, match=r"int8\.tensor\.onnx is damaged"):
        ArtifactFolder(tmp_path / "a")


def test_a_manifest_of_another_schema_names_its_faults(tmp_path: Path) -> None:
    write_tiny_artifact(tmp_path / "a")
    manifest = tmp_path / "a" / "manifest.json"
    content = json.loads(manifest.read_text())
    content.update(schemaVersion=2, extra=1)
    manifest.write_text(json.dumps(content))
    with pytest.raises(ArtifactError, match=r"schemaVersion: .*extra: ") as error:
        ArtifactFolder(tmp_path / "a")
    assert str(manifest) in str(error.value)
