"""What a kind of resource works with: the declared world, and the services that hold what is not a declaration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from sandbox.network.addresses import Addresses
from sandbox.settings import SandboxSettings
from sandbox.store import Store


class BucketBackend(Protocol):
    """Cloud Storage as the provider uses it, with the operator's rights."""

    async def create_bucket(self, name: str) -> None:
        """Make an empty bucket; one that is there already stays as it is."""

    async def delete_bucket(self, name: str, *, force: bool) -> None:
        """Remove a bucket, with `force` together with its objects."""

    async def put_object(self, bucket: str, name: str, data: bytes, content_type: str) -> Mapping[str, str]:
        """Write an object; its `generation`, `md5Hash` and `crc32c` as the API gives them."""

    async def delete_object(self, bucket: str, name: str) -> None:
        """Remove an object; none is no error."""

    async def object_count(self, bucket: str) -> int:
        """How many objects a bucket holds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderConfig:
    """Configuration of one provider instance of a program (`gcp:project` and so on)."""

    project: str
    region: str = ""
    zone: str = ""
    default_labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cloud:
    """The sandbox as the provider's kinds see it."""

    settings: SandboxSettings
    store: Store
    addresses: Addresses
    buckets: BucketBackend
    program: Path
    """Folder at which relative asset paths start."""
