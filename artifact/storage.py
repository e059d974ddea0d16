"""Cloud Storage: a client, its errors in words, and the download of one version of an object.

The client library honours STORAGE_EMULATOR_HOST.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from artifact.errors import ArtifactError, ArtifactUnavailableError

if TYPE_CHECKING:
    from google.cloud import storage

    from artifact.source import StoredObject

TIMEOUT_S: Final = 60.0


def client() -> storage.Client:
    """A client with the credentials of whoever runs this."""
    from google.cloud import storage  # noqa: PLC0415 - takes a second, and most users of this package have no storage

    return storage.Client(project=None)


def download(stored: StoredObject, target: Path) -> None:
    """Write exactly the named version of an object to `target`.

    Raises:
        ArtifactError: there is an object of that name, but another version; `target` does not exist then.
        ArtifactUnavailableError: there is none, or storage refused or did not answer.
    """
    from google.api_core.exceptions import PreconditionFailed  # noqa: PLC0415 - see client

    try:
        with storage_errors(f"fetching {stored}"):
            blob = client().bucket(stored.bucket).blob(stored.name)
            try:
                blob.download_to_filename(
                    str(target), if_generation_match=stored.generation, timeout=TIMEOUT_S, checksum="crc32c"
                )
            except PreconditionFailed:
                blob.reload(timeout=TIMEOUT_S)
                raise _another_version(stored, f"generation {blob.generation}") from None
        if stored.generation is not None and blob.generation != stored.generation:
            raise _another_version(stored, f"generation {blob.generation}")
        if stored.sha256:
            with target.open("rb") as stream:
                found = hashlib.file_digest(stream, "sha256").hexdigest()
            if found != stored.sha256:
                raise _another_version(stored, f"SHA-256 {found}")
    except BaseException:
        target.unlink(missing_ok=True)
        raise


def _another_version(stored: StoredObject, found: str) -> ArtifactError:
    wanted = f"SHA-256 {stored.sha256}" if stored.generation is None else f"generation {stored.generation}"
    return ArtifactError(
        f"gs://{stored.bucket}/{stored.name} has {found}, and {wanted} is asked for: it was replaced since; it is not "
        "used: name the version that is meant"
    )


@contextmanager
def storage_errors(doing: str) -> Iterator[None]:
    """Say what storage answered in words; `doing` says what was tried.

    Raises:
        ArtifactUnavailableError: storage refused or did not answer.
    """
    from google.api_core.exceptions import Forbidden, GoogleAPIError, NotFound  # noqa: PLC0415 - see client
    from google.auth.exceptions import GoogleAuthError  # noqa: PLC0415 - see client
    from requests import RequestException  # noqa: PLC0415 - see client

    try:
        yield
    except GoogleAuthError as error:
        advice = "run `gcloud auth application-default login`, or set STORAGE_EMULATOR_HOST"
        raise ArtifactUnavailableError(f"{doing}: no usable credentials ({error}); {advice}") from error
    except NotFound as error:
        raise ArtifactUnavailableError(f"{doing}: the bucket or object does not exist (404)") from error
    except Forbidden as error:
        advice = "these credentials lack a binding on the bucket, or it has not taken effect yet"
        raise ArtifactUnavailableError(f"{doing}: access denied (403): {advice}") from error
    except (GoogleAPIError, RequestException) as error:
        raise ArtifactUnavailableError(f"{doing}: {' '.join(str(error).split())}") from error
