from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import requests
from google.cloud import storage

from artifact import repository
from artifact.archive import file_entry
from artifact.errors import ArtifactError, ArtifactUnavailableError
from artifact.manifest import MANIFEST_FILE
from artifact.repository import Published, fetch, publish, read_manifest
from artifact.uri import ArtifactUri
from tests.model.tiny import KEY, write_tiny_artifact

pytestmark = pytest.mark.servers


def objects(url: str, bucket: str) -> dict[str, dict[str, str]]:
    answer = requests.get(f"{url}/storage/v1/b/{bucket}/o", timeout=10)
    answer.raise_for_status()
    return {item["name"]: item for item in answer.json().get("items", [])}


def overwrite(url: str, bucket: str, name: str, content: bytes) -> None:
    query = {"uploadType": "media", "name": name}
    requests.post(f"{url}/upload/storage/v1/b/{bucket}/o", content, params=query, timeout=10).raise_for_status()


def test_a_published_artifact_is_fetched_whole(tmp_path: Path, storage_url: str, bucket: str) -> None:
    built = write_tiny_artifact(tmp_path / "built")
    (tmp_path / "built" / "log.txt").write_text("hello\n")
    published = publish(tmp_path / "built", f"gs://{bucket}/team")
    folder = f"team/models/{KEY}/"
    assert str(published.uri) == f"gs://{bucket}/{folder}"
    assert published.created
    assert set(objects(storage_url, bucket)) == {
        f"{folder}{name}" for name in (MANIFEST_FILE, built.manifest.archive.name, "runs/test/log.txt")
    }
    fetched = fetch(published.uri, tmp_path / "models")
    assert fetched.path == tmp_path / "models" / KEY
    assert fetched.manifest == built.manifest
    assert fetched.graph("int8-cpu", "image").read_bytes() == built.graph("int8-cpu", "image").read_bytes()
    assert list((tmp_path / "models").iterdir()) == [fetched.path]


def test_publishing_again_changes_nothing(tmp_path: Path, storage_url: str, bucket: str) -> None:
    write_tiny_artifact(tmp_path / "built")
    publish(tmp_path / "built", f"gs://{bucket}")
    before = objects(storage_url, bucket)
    again = publish(tmp_path / "built", f"gs://{bucket}")
    assert not again.created
    assert objects(storage_url, bucket) == before


def test_racing_publishers_end_with_one_artifact(tmp_path: Path, storage_url: str, bucket: str) -> None:
    folders = [tmp_path / str(number) for number in range(4)]
    for folder in folders:
        write_tiny_artifact(folder)
    results: list[Published] = []
    threads = [
        threading.Thread(target=lambda f=folder: results.append(publish(f, f"gs://{bucket}"))) for folder in folders
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [result.created for result in results].count(True) == 1
    assert len({str(result.uri) for result in results}) == 1
    assert len(objects(storage_url, bucket)) == 2


def test_the_loser_of_a_race_ends_with_the_winners_manifest(
    tmp_path: Path, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    winner, loser = write_tiny_artifact(tmp_path / "winner"), write_tiny_artifact(tmp_path / "loser")
    manifest = json.loads((loser.path / MANIFEST_FILE).read_text())
    (loser.path / MANIFEST_FILE).write_text(json.dumps(manifest | {"run": "later"}))
    upload: Callable[..., None] = storage.Blob.upload_from_filename

    def overtaken(blob: storage.Blob, path: str, **options: object) -> None:
        if Path(path) == loser.path / MANIFEST_FILE:
            publish(winner.path, f"gs://{bucket}")
        upload(blob, path, **options)

    monkeypatch.setattr(storage.Blob, "upload_from_filename", overtaken)
    result = publish(loser.path, f"gs://{bucket}")
    assert not result.created
    assert result.manifest.run == "test"
    standing = read_manifest(result.uri)
    assert standing is not None
    assert standing.run == "test"


def test_the_manifest_goes_last(tmp_path: Path, storage_url: str, bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    write_tiny_artifact(tmp_path / "built")
    create: Callable[..., bool] = repository._create

    def killed_before_manifest(target: object, name: str, path: Path) -> bool:
        if name.endswith(MANIFEST_FILE):
            raise KeyboardInterrupt
        return create(target, name, path)

    with monkeypatch.context() as context:
        context.setattr(repository, "_create", killed_before_manifest)
        with pytest.raises(KeyboardInterrupt):
            publish(tmp_path / "built", f"gs://{bucket}")
    uri = ArtifactUri.under(f"gs://{bucket}", KEY)
    assert read_manifest(uri) is None
    assert len(objects(storage_url, bucket)) == 1
    assert publish(tmp_path / "built", f"gs://{bucket}").created
    assert read_manifest(uri) is not None


def test_a_corrupted_archive_is_refused_naming_both_digests(tmp_path: Path, storage_url: str, bucket: str) -> None:
    built = write_tiny_artifact(tmp_path / "built")
    published = publish(tmp_path / "built", f"gs://{bucket}")
    archive = built.manifest.archive
    content = bytearray((tmp_path / "built" / archive.name).read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "evil").write_bytes(content)
    overwrite(storage_url, bucket, published.uri.object(archive.name), bytes(content))
    with pytest.raises(ArtifactError) as error:
        fetch(published.uri, tmp_path / "models")
    assert archive.sha256 in str(error.value)
    assert file_entry(tmp_path / "evil").sha256 in str(error.value)
    assert not isinstance(error.value, ArtifactUnavailableError)
    assert list((tmp_path / "models").iterdir()) == []


def test_a_fetched_artifact_is_used_again_and_a_damaged_one_replaced(
    tmp_path: Path, storage_url: str, bucket: str
) -> None:
    write_tiny_artifact(tmp_path / "built")
    uri = publish(tmp_path / "built", f"gs://{bucket}").uri
    first = fetch(uri, tmp_path / "models")
    first.graph("fp32", "image").write_bytes(b"damaged")
    assert fetch(uri, tmp_path / "models").manifest == first.manifest
    overwrite(storage_url, bucket, uri.object(MANIFEST_FILE), b"{}")
    assert fetch(uri, tmp_path / "models").manifest == first.manifest


def test_what_is_not_there_is_unavailable(tmp_path: Path, bucket: str) -> None:
    uri = ArtifactUri.under(f"gs://{bucket}", KEY)
    assert read_manifest(uri) is None
    with pytest.raises(ArtifactUnavailableError, match="build and publish it first"):
        fetch(uri, tmp_path)
    write_tiny_artifact(tmp_path / "built")
    with pytest.raises(ArtifactUnavailableError, match=r"publishing gs://no-such-bucket/.*does not exist \(404\)$"):
        publish(tmp_path / "built", "gs://no-such-bucket")


def test_a_manifest_of_another_key_is_refused(tmp_path: Path, storage_url: str, bucket: str) -> None:
    write_tiny_artifact(tmp_path / "built", key="f" * 20)
    uri = ArtifactUri.under(f"gs://{bucket}", KEY)
    overwrite(storage_url, bucket, uri.object(MANIFEST_FILE), (tmp_path / "built" / MANIFEST_FILE).read_bytes())
    with pytest.raises(ArtifactError, match=f"is the manifest of {'f' * 20}, not of {KEY}"):
        read_manifest(uri)


@pytest.mark.parametrize("spoil", ["archive", "file"])
def test_a_damaged_build_is_not_published(tmp_path: Path, storage_url: str, bucket: str, spoil: str) -> None:
    built = write_tiny_artifact(tmp_path / "built")
    name = built.manifest.archive.name if spoil == "archive" else "labels.txt"
    (tmp_path / "built" / name).write_bytes(b"damaged")
    with pytest.raises(ArtifactError, match="damaged"):
        publish(tmp_path / "built", f"gs://{bucket}")
    assert objects(storage_url, bucket) == {}
