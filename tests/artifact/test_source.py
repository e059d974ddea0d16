from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest

from artifact.source import (
    SOURCE_SUFFIXES,
    StoredObject,
    calibration_identity,
    check_address,
    content_digest,
    is_local,
    source_identity,
    write_tar,
)

REPOSITORY = Path(__file__).resolve().parents[2]


def saved_model(folder: Path, graph: bytes = b"graph") -> Path:
    (folder / "variables").mkdir(parents=True)
    (folder / "saved_model.pb").write_bytes(graph)
    (folder / "variables" / "variables.index").write_bytes(b"index")
    return folder


def test_a_stored_object_is_its_generation_in_the_key() -> None:
    assert source_identity("gs://bucket/m.tar.gz#17", REPOSITORY) == "gs://bucket/m.tar.gz@17"
    assert str(StoredObject.parse("gs://bucket/a/m.pb#17")) == "gs://bucket/a/m.pb#17"


def test_without_a_generation_the_command_that_prints_it_is_named() -> None:
    with pytest.raises(ValueError, match=r"gcloud storage objects describe gs://bucket/m\.tar --format='value\(gen"):
        source_identity("gs://bucket/m.tar", REPOSITORY)


@pytest.mark.parametrize(
    "address", ["gs://", "gs://b/x#1", "gs://bucket/", "gs://bucket/x#-1", "gs://bucket/x#sha256:0"]
)
def test_other_addresses_are_refused(address: str) -> None:
    with pytest.raises(ValueError, match="no address of an object"):
        source_identity(address, REPOSITORY)


def test_the_kind_of_a_file_is_in_its_name() -> None:
    with pytest.raises(ValueError, match=r"must end in \.tar, \.tar\.gz, \.tgz, \.pb"):
        source_identity("gs://bucket/model.zip#1", REPOSITORY)
    with pytest.raises(ValueError, match=r"\.npz"):
        calibration_identity("gs://bucket/photos.zip#1", REPOSITORY)


def test_a_folder_is_its_content_wherever_and_whenever_it_lies(tmp_path: Path) -> None:
    one, other = saved_model(tmp_path / "one"), saved_model(tmp_path / "two" / "inner")
    os.utime(other / "saved_model.pb", (0, 0))
    (other / "saved_model.pb").chmod(0o755)
    (other / ".cache").write_text("hidden")
    assert source_identity(str(one), REPOSITORY) == source_identity(str(other), REPOSITORY)
    (other / "variables" / "variables.index").write_bytes(b"Index")
    assert source_identity(str(one), REPOSITORY) != source_identity(str(other), REPOSITORY)


def test_an_uploaded_folder_has_the_key_of_the_local_one(tmp_path: Path) -> None:
    folder = saved_model(tmp_path / "model")
    packed = io.BytesIO()
    write_tar(folder, packed)
    (tmp_path / "model.tar").write_bytes(packed.getvalue())
    digest = content_digest(tmp_path / "model.tar")
    assert source_identity(f"gs://inputs/sources/{digest}.tar#sha256:{digest}", REPOSITORY) == source_identity(
        str(folder), REPOSITORY
    )
    with tarfile.open(tmp_path / "model.tar") as tar:
        assert tar.getnames() == ["saved_model.pb", "variables/variables.index"]


def test_a_folder_that_is_no_model_is_refused_before_anything_is_built(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"neither it nor its one subfolder holds saved_model\.pb"):
        source_identity(str(tmp_path / "empty"), REPOSITORY)
    with pytest.raises(ValueError, match="no file or folder of this machine"):
        source_identity(str(tmp_path / "absent"), REPOSITORY)


def test_the_version_folder_of_tensorflow_serving_is_taken(tmp_path: Path) -> None:
    saved_model(tmp_path / "served" / "1")
    assert source_identity(str(tmp_path / "served"), REPOSITORY).startswith("content@")
    saved_model(tmp_path / "served" / "2")
    with pytest.raises(ValueError, match="no SavedModel"):
        source_identity(str(tmp_path / "served"), REPOSITORY)


def test_what_is_a_path_and_what_is_none() -> None:
    assert is_local("models/resnet")
    assert not any(map(is_local, ("", "builtin", "builtin:smoke", "keras:VGG16", "gs://bucket/x#1")))


@pytest.mark.parametrize("name", ["model.keras", "weights.h5"])
def test_a_file_of_kerass_own_is_refused_with_the_way_to_a_saved_model(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    with pytest.raises(ValueError, match=r"write a SavedModel with `model.export\(FOLDER\)`"):
        check_address(str(tmp_path / name), "model.source", SOURCE_SUFFIXES)


def test_a_file_that_cannot_be_read_is_named_with_its_setting(tmp_path: Path) -> None:
    # Reading a process's memory from address 0 is an error for everybody, root included.
    (tmp_path / "graph.pb").symlink_to("/proc/self/mem")
    with pytest.raises(ValueError, match=rf"^model\.source: {tmp_path}/graph\.pb cannot be read: Input/output error$"):
        source_identity(str(tmp_path / "graph.pb"), REPOSITORY)


def test_a_pipe_is_no_source(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "graph.pb")
    with pytest.raises(ValueError, match=r"^model\.source '.*graph\.pb' is neither a file nor a folder: "):
        check_address(str(tmp_path / "graph.pb"), "model.source", SOURCE_SUFFIXES)
