"""Artifacts in Cloud Storage: published once, never overwritten, verified before they are used.

The client library honours STORAGE_EMULATOR_HOST. A publisher needs to create and read objects, a reader to read them.
"""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from artifact.archive import unpack_archive, verify_file
from artifact.errors import ArtifactError, ArtifactUnavailableError
from artifact.folder import RUN_FILES, ArtifactFolder, dump, parse_manifest, parse_status
from artifact.manifest import MANIFEST_FILE, Manifest
from artifact.run import RUNS, RunStatus, is_status, run_file, status_object
from artifact.storage import TIMEOUT_S, client, storage_errors
from artifact.uri import ArtifactUri

if TYPE_CHECKING:
    from google.cloud import storage

_CONTENT_TYPES: Final = {
    ".json": "application/json",
    ".html": "text/html; charset=utf-8",
    ".txt": "text/plain; charset=utf-8",
}


@dataclass(frozen=True, slots=True)
class Published:
    """Where an artifact is, and whether this call put it there. `manifest` is the one that stands in the bucket."""

    uri: ArtifactUri
    manifest: Manifest
    created: bool


def publish(folder: Path, root: str) -> Published:
    """Upload a built artifact below `root`, `gs://bucket[/prefix]`, unless it is there already.

    The manifest goes last and only where none is: whoever loses a race between equal builds ends with the winner's.

    Raises:
        ArtifactError: `folder` is incomplete or damaged.
        ArtifactUnavailableError: storage refused or did not answer.
        ValueError: `root` is no Cloud Storage address.
    """
    built = ArtifactFolder(folder)
    manifest = built.manifest
    archive = folder / manifest.archive.name
    if not archive.is_file():
        raise ArtifactError(f"{folder} is no complete artifact: {archive.name} is missing; build it again")
    verify_file(archive, manifest.archive, str(archive))
    uri = ArtifactUri.under(root, manifest.key)
    with storage_errors(f"publishing {uri}"):
        bucket = client().bucket(uri.bucket)
        standing = _manifest_in(bucket, uri)
        if standing is None:
            _create(bucket, uri.object(archive.name), archive)
            _create_run_files(bucket, uri, manifest.run, folder)
            if _create(bucket, uri.object(MANIFEST_FILE), folder / MANIFEST_FILE):
                return Published(uri, manifest, created=True)
            standing = _manifest_in(bucket, uri)
    if standing is None:
        raise ArtifactUnavailableError(f"{uri}{MANIFEST_FILE} can be neither created nor read; publish again")
    return Published(uri, standing, created=False)


def publish_run(folder: Path, uri: ArtifactUri, run: str) -> None:
    """Upload what a run left in `folder` of its report and log, whether or not an artifact came of it.

    Raises:
        ArtifactUnavailableError: storage refused or did not answer.
    """
    with storage_errors(f"writing the report of run {run} to {uri}"):
        _create_run_files(client().bucket(uri.bucket), uri, run, folder)


def write_status(uri: ArtifactUri, sequence: int, status: RunStatus) -> None:
    """Leave one message of a run. Each sequence number is written once.

    Raises:
        ArtifactUnavailableError: storage refused or did not answer, or the number is taken.
    """
    with storage_errors(f"writing the status of run {status.run} to {uri}"):
        client().bucket(uri.bucket).blob(uri.object(status_object(status.run, sequence))).upload_from_string(
            dump(status), content_type="application/json", if_generation_match=0, timeout=TIMEOUT_S
        )


def newest_status(uri: ArtifactUri) -> RunStatus | None:
    """The last message of the newest run of an artifact, or None before the first.

    Raises:
        ArtifactError: it is not valid. ArtifactUnavailableError: storage refused or did not answer.
    """
    from google.api_core.exceptions import NotFound  # noqa: PLC0415 - see artifact.storage

    with storage_errors(f"reading the runs of {uri}"):
        bucket = client().bucket(uri.bucket)
        blobs = bucket.list_blobs(prefix=uri.object(f"{RUNS}/"), fields="items(name),nextPageToken", timeout=TIMEOUT_S)
        names = [blob.name for blob in blobs if is_status(blob.name.removeprefix(uri.folder))]
        if not names:
            return None
        try:
            content = bucket.blob(max(names)).download_as_bytes(timeout=TIMEOUT_S)
        except NotFound:
            # Somebody tidies up: then there is no news.
            return None
    return parse_status(content, f"gs://{uri.bucket}/{max(names)}")


def read_manifest(uri: ArtifactUri) -> Manifest | None:
    """The manifest of a complete artifact, or None where there is none (yet).

    Raises:
        ArtifactError: it is not valid, or belongs to another key.
        ArtifactUnavailableError: storage refused or did not answer.
    """
    with storage_errors(f"reading {uri}"):
        return _manifest_in(client().bucket(uri.bucket), uri)


def fetch(uri: ArtifactUri, parent: Path) -> ArtifactFolder:
    """Download, verify and unpack an artifact to `parent/<key>`, which appears complete or not at all.

    One that is there already is verified and used; a damaged one is replaced.

    Raises:
        ArtifactError: a digest is not the manifest's (the message names both), or the archive is malformed.
        ArtifactUnavailableError: no such artifact, or storage refused or did not answer.
    """
    target = parent / uri.key
    if target.is_dir():
        try:
            return ArtifactFolder(target)
        except ArtifactError:
            shutil.rmtree(target)
    parent.mkdir(parents=True, exist_ok=True)
    manifest = read_manifest(uri)
    if manifest is None:
        raise ArtifactUnavailableError(
            f"there is no artifact at {uri} ({MANIFEST_FILE} is missing): build and publish it first"
        )
    with tempfile.TemporaryDirectory(dir=parent, prefix=f".{uri.key}-") as temporary:
        download = Path(temporary, manifest.archive.name)
        with storage_errors(f"fetching {uri}{download.name}"):
            blob = client().bucket(uri.bucket).blob(uri.object(download.name))
            # The SHA-256 below is the check that counts, so the library need not compute one of its own.
            blob.download_to_filename(str(download), timeout=TIMEOUT_S, checksum=None)
        verify_file(download, manifest.archive, f"{uri}{download.name}")
        staged = Path(temporary, uri.key)
        staged.mkdir()
        unpack_archive(download, manifest.files, staged)
        (staged / MANIFEST_FILE).write_bytes(dump(manifest))
        _rename_once(staged, target)
    return ArtifactFolder(target)


def _rename_once(staged: Path, target: Path) -> None:
    try:
        staged.rename(target)
    except OSError:
        # Another process fetched the same artifact meanwhile; what it left is verified like any other.
        if not target.is_dir():
            raise


def _manifest_in(bucket: storage.Bucket, uri: ArtifactUri) -> Manifest | None:
    from google.api_core.exceptions import NotFound  # noqa: PLC0415 - see artifact.storage

    name = uri.object(MANIFEST_FILE)
    try:
        content = bucket.blob(name).download_as_bytes(timeout=TIMEOUT_S)
    except NotFound:
        return None
    manifest = parse_manifest(content, f"gs://{uri.bucket}/{name}")
    if manifest.key != uri.key:
        raise ArtifactError(
            f"gs://{uri.bucket}/{name} is the manifest of {manifest.key}, not of {uri.key}; it is not used"
        )
    return manifest


def _create_run_files(bucket: storage.Bucket, uri: ArtifactUri, run: str, folder: Path) -> None:
    for name in RUN_FILES:
        if (folder / name).is_file():
            _create(bucket, uri.object(run_file(run, name)), folder / name)


def _create(bucket: storage.Bucket, name: str, path: Path) -> bool:
    """Upload a file where no object is; whether this call created it."""
    from google.api_core.exceptions import Forbidden, PreconditionFailed  # noqa: PLC0415 - see artifact.storage

    blob = bucket.blob(name)
    if blob.exists(timeout=TIMEOUT_S):
        return False
    kind = _CONTENT_TYPES.get(path.suffix, "application/octet-stream")
    try:
        blob.upload_from_filename(str(path), content_type=kind, if_generation_match=0, timeout=TIMEOUT_S)
    except PreconditionFailed:
        return False
    except Forbidden:
        # Who may create but not overwrite is told 403 when a racing upload came first.
        if blob.exists(timeout=TIMEOUT_S):
            return False
        raise
    return True
