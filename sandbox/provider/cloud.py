"""What a kind of resource works with: the declared world, and the services that hold what is not a declaration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from sandbox.network.addresses import Addresses
from sandbox.settings import SandboxSettings
from sandbox.storage.errors import StorageError, not_modelled
from sandbox.store import Store


class BucketBackend(Protocol):
    """Cloud Storage as the provider uses it, with the operator's rights. Its calls raise StorageError."""

    async def create_bucket(self, name: str) -> Mapping[str, Any]:
        """Make an empty bucket; 409 if there is one."""

    async def delete_bucket(self, name: str, force: bool) -> None:
        """Remove a bucket, with `force` together with its objects; 404 if there is none."""

    async def put_object(self, bucket: str, name: str, data: bytes, content_type: str) -> Mapping[str, Any]:
        """Write an object; its resource with `generation`, `md5Hash` and `crc32c`."""

    async def delete_object(self, bucket: str, name: str) -> None:
        """Remove an object; 404 if there is none."""

    async def object_count(self, bucket: str) -> int:
        """How many objects a bucket holds; 404 if there is no bucket."""


class NoBuckets:
    """Cloud Storage where only plans are made: every call is a mistake of the sandbox's own."""

    async def create_bucket(self, name: str) -> Mapping[str, Any]:
        """Raises StorageError."""
        raise _no_storage(name)

    async def delete_bucket(self, name: str, force: bool) -> None:
        """Raises StorageError."""
        raise _no_storage(name)

    async def put_object(self, bucket: str, name: str, data: bytes, content_type: str) -> Mapping[str, Any]:
        """Raises StorageError."""
        raise _no_storage(bucket)

    async def delete_object(self, bucket: str, name: str) -> None:
        """Raises StorageError."""
        raise _no_storage(bucket)

    async def object_count(self, bucket: str) -> int:
        """Raises StorageError."""
        raise _no_storage(bucket)


def _no_storage(bucket: str) -> StorageError:
    return not_modelled(f"a change of {bucket} while only the provider runs: start the sandbox first")


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
