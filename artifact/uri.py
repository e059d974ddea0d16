"""Addresses of artifacts in Cloud Storage: `gs://bucket/[prefix/]models/<key>/`."""

from __future__ import annotations

import re
from dataclasses import dataclass

_BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]")
_KEY = re.compile(r"[0-9a-f]{20}")


@dataclass(frozen=True, slots=True)
class ArtifactUri:
    """Where one artifact lies. `folder` is the object-name prefix, with its final slash."""

    bucket: str
    folder: str

    @classmethod
    def parse(cls, text: str) -> ArtifactUri:
        """Read `gs://bucket/[prefix/]models/<key>/`; the final slash may be left out.

        Raises:
            ValueError: any other form.
        """
        bucket, prefix = split_gs(text)
        *_, models, key = ["", *prefix.rstrip("/").split("/")]
        if models != "models" or not _KEY.fullmatch(key):
            raise ValueError(f"{text!r} is no artifact's address: it must be gs://bucket/models/<20 hex digits>/")
        return cls(bucket, prefix.rstrip("/") + "/")

    @classmethod
    def under(cls, root: str, key: str) -> ArtifactUri:
        """The address of artifact `key` below `root`, `gs://bucket[/prefix]`."""
        bucket, prefix = split_gs(root)
        return cls(bucket, f"{prefix.strip('/')}/models/{key}/".lstrip("/"))

    @property
    def key(self) -> str:
        """The artifact's key."""
        return self.folder.rstrip("/").rpartition("/")[2]

    def object(self, name: str) -> str:
        """Object name of a file in the artifact's folder."""
        return self.folder + name

    def __str__(self) -> str:
        """As text, with the final slash."""
        return f"gs://{self.bucket}/{self.folder}"


def split_gs(text: str) -> tuple[str, str]:
    """Bucket and object name (perhaps empty) of a `gs://` address.

    Raises:
        ValueError: not `gs://`, or no valid bucket name.
    """
    scheme, _, rest = text.partition("://")
    bucket, _, name = rest.partition("/")
    if scheme != "gs" or not _BUCKET.fullmatch(bucket):
        raise ValueError(f"{text!r} is not a Cloud Storage address: it must be gs://bucket/...")
    return bucket, name
