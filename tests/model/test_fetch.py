from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest
import requests

from artifact.errors import ArtifactUnavailableError
from artifact.source import StoredObject, content_digest
from model.errors import BuildError
from model.source import fetch as module
from model.source.fetch import fetch
from tests.artifact.conftest import bucket, storage_url

__all__ = ["bucket", "storage_url"]


def upload(url: str, bucket: str, name: str, content: bytes) -> int:
    """Put an object there; its generation."""
    query = {"uploadType": "media", "name": name}
    answer = requests.post(f"{url}/upload/storage/v1/b/{bucket}/o", content, params=query, timeout=10)
    answer.raise_for_status()
    return int(answer.json()["generation"])


def tar_of(**members: bytes) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as tar:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return content.getvalue()


@pytest.mark.servers
def test_an_object_is_fetched_in_its_generation_and_unpacked(tmp_path: Path, storage_url: str, bucket: str) -> None:
    generation = upload(storage_url, bucket, "models/m.tar.gz", tar_of(weights=b"1"))
    folder = fetch(f"gs://{bucket}/models/m.tar.gz#{generation}", tmp_path)
    assert (folder / "weights").read_bytes() == b"1"


@pytest.mark.servers
def test_a_replaced_object_is_not_used(tmp_path: Path, storage_url: str, bucket: str) -> None:
    old = upload(storage_url, bucket, "m.pb", b"old")
    new = upload(storage_url, bucket, "m.pb", b"new")
    assert old != new
    with pytest.raises(BuildError, match=f"has generation {new}, and generation {old} is asked for"):
        fetch(f"gs://{bucket}/m.pb#{old}", tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.servers
def test_an_object_told_by_its_content_is_verified(tmp_path: Path, storage_url: str, bucket: str) -> None:
    (tmp_path / "m").write_bytes(b"content")
    digest = content_digest(tmp_path / "m")
    upload(storage_url, bucket, "m.pb", b"content")
    assert fetch(f"gs://{bucket}/m.pb#sha256:{digest}", tmp_path / "f").read_bytes() == b"content"
    upload(storage_url, bucket, "m.pb", b"tampered")
    with pytest.raises(BuildError, match=f"and SHA-256 {digest} is asked for"):
        fetch(f"gs://{bucket}/m.pb#sha256:{digest}", tmp_path / "f")
    assert not (tmp_path / "f" / "m.pb").exists()


@pytest.mark.servers
def test_an_absent_object_is_one_clear_line(tmp_path: Path, bucket: str) -> None:
    with pytest.raises(BuildError, match=r"fetching gs://\S+/m.pb#1: the bucket or object does not exist \(404\)$"):
        fetch(f"gs://{bucket}/m.pb#1", tmp_path)


def test_what_storage_withholds_is_asked_for_again_while_patience_lasts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = [ArtifactUnavailableError("denied")] * 3

    def download(_: StoredObject, target: Path) -> None:
        if answers:
            raise answers.pop()
        target.write_bytes(b"there")

    monkeypatch.setattr(module, "download", download)
    slept: list[float] = []
    assert fetch("gs://bucket/m.pb#1", tmp_path, 10, slept.append).read_bytes() == b"there"
    assert slept == [1, 2, 4]
    answers.append(ArtifactUnavailableError("denied"))
    with pytest.raises(BuildError, match=r"^denied$"):
        fetch("gs://bucket/m.pb#1", tmp_path, 0, slept.append)


def test_a_tar_that_leaves_its_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "m.tar").write_bytes(tar_of(**{"../evil": b"!"}))
    with pytest.raises(BuildError, match=r"m\.tar is no readable tar: .*evil.* outside the destination"):
        fetch(str(tmp_path / "m.tar"), tmp_path / "f")
    assert not list(tmp_path.rglob("evil"))


def test_a_damaged_tar_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "m.tar.gz").write_bytes(tar_of(weights=b"1" * 10_000)[:40])
    with pytest.raises(BuildError, match=r"m\.tar\.gz is no readable tar"):
        fetch(str(tmp_path / "m.tar.gz"), tmp_path / "f")
