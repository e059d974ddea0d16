"""Buckets and objects with the rules that the store itself does not know: existence, overwriting, preconditions.

Every change of an object happens under that object's lock, with the question what the object is now inside it: of two
racing creators exactly one wins.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any
from weakref import WeakValueDictionary

from sandbox.storage.backend import Backend, Resource
from sandbox.storage.content import Content
from sandbox.storage.errors import StorageError, bad_request, no_such_bucket, no_such_object
from sandbox.storage.preconditions import Preconditions

_BUCKET_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{1,61}[a-z0-9]")
_LONGEST_NAME = 1024
_NO_CONDITIONS = Preconditions()


class Objects:
    """All buckets and objects."""

    def __init__(self, backend: Backend, project_number: int) -> None:
        self._backend = backend
        self._project_number = str(project_number)
        self._locks: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()

    # --- Buckets -----------------------------------------------------------------------------------------------------

    async def buckets(self) -> list[Resource]:
        """All buckets."""
        return [self._owned(bucket) for bucket in await self._backend.buckets()]

    async def bucket(self, name: str) -> Resource:
        """One bucket; raises StorageError (404)."""
        found = await self._backend.bucket(name)
        if found is None:
            raise no_such_bucket()
        return self._owned(found)

    async def create_bucket(self, name: str) -> Resource:
        """Raises StorageError: 400 for a bad name, 409 for a taken one."""
        if not _BUCKET_NAME.fullmatch(name) or ".." in name or name.startswith("goog"):
            raise bad_request(f"Invalid bucket name: '{name}'")
        async with self._locked(name, ""):
            if await self._backend.bucket(name) is not None:
                raise StorageError(
                    409,
                    "conflict",
                    "Your previous request to create the named bucket succeeded and you already own it.",
                )
            return self._owned(await self._backend.create_bucket(name))

    async def delete_bucket(self, name: str) -> None:
        """Raises StorageError: 404, and 409 for a bucket that is not empty."""
        async with self._locked(name, ""):
            await self.bucket(name)
            if (await self._backend.listing(name, {"maxResults": "1"})).get("items"):
                raise StorageError(409, "conflict", "The bucket you tried to delete is not empty.")
            await self._backend.delete_bucket(name)

    async def names(self, bucket: str) -> list[str]:
        """Names of all objects of a bucket."""
        names: list[str] = []
        query: dict[str, str] = {}
        while True:
            page = await self._backend.listing(bucket, query)
            names += [item["name"] for item in page.get("items", [])]
            if not page.get("nextPageToken"):
                return names
            query = {"pageToken": page["nextPageToken"]}

    # --- Objects -----------------------------------------------------------------------------------------------------

    async def get(
        self, bucket: str, name: str, conditions: Preconditions = _NO_CONDITIONS, generation: str | None = None
    ) -> Resource:
        """An object's resource; raises StorageError: 404, 412, 304."""
        await self.bucket(bucket)
        found = await self._backend.stat(bucket, name)
        if found is None or generation not in {None, found["generation"]}:
            raise no_such_object(bucket, name)
        failure = conditions.failure(*_numbers(found), reading=True)
        if failure is not None:
            raise failure
        return found

    async def put(
        self,
        target: tuple[str, str],
        resource: Mapping[str, Any],
        content: Content,
        conditions: Preconditions = _NO_CONDITIONS,
        authorize_overwrite: Callable[[], None] = lambda: None,
    ) -> Resource:
        """Write an object whole. Raises StorageError (404, 412) and what `authorize_overwrite` raises.

        A precondition that fails is told before a missing right to overwrite, so a creator that lost a race learns
        that it lost.
        """
        async with self._creating(target, conditions, authorize_overwrite):
            return await self._backend.put(*target, resource, content)

    async def delete(self, bucket: str, name: str, conditions: Preconditions = _NO_CONDITIONS) -> None:
        """Remove an object; raises StorageError: 404, 412."""
        async with self._locked(bucket, name):
            found = await self.get(bucket, name)
            failure = conditions.failure(*_numbers(found), reading=False)
            if failure is not None:
                raise failure
            await self._backend.delete(bucket, name)

    async def rewrite(
        self,
        source: tuple[str, str],
        target: tuple[str, str],
        conditions: Preconditions,
        authorize_overwrite: Callable[[], None],
    ) -> Resource:
        """Copy an object; raises what `get` and `put` raise."""
        async with self._creating(target, conditions, authorize_overwrite):
            await self.get(*source)
            return await self._backend.rewrite(source, target)

    @asynccontextmanager
    async def _creating(
        self, target: tuple[str, str], conditions: Preconditions, authorize_overwrite: Callable[[], None]
    ) -> AsyncIterator[None]:
        """Hold an object's lock once it is clear that it may be written."""
        bucket, name = target
        if not 1 <= len(name.encode()) <= _LONGEST_NAME or "\n" in name or "\r" in name or name in {".", ".."}:
            raise bad_request(f"Invalid object name: '{name}'")
        async with self._locked(bucket, name):
            await self.bucket(bucket)
            current = await self._backend.stat(bucket, name)
            failure = conditions.failure(*_numbers(current), reading=False)
            if failure is not None:
                raise failure
            if current is not None:
                authorize_overwrite()
            yield

    @asynccontextmanager
    async def _locked(self, bucket: str, name: str) -> AsyncIterator[None]:
        lock = self._locks.setdefault((bucket, name), asyncio.Lock())
        async with lock:
            yield

    def _owned(self, bucket: Resource) -> Resource:
        return {**bucket, "projectNumber": self._project_number}


def _numbers(resource: Resource | None) -> tuple[int, int]:
    return (int(resource["generation"]), int(resource["metageneration"])) if resource else (0, 0)
