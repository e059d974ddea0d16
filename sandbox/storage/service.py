"""Cloud Storage as one part of the daemon: the store, the proxy on every address, and what the provider calls."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

from sandbox.iam.policy import Policy
from sandbox.machine.sites import Sites
from sandbox.settings import STORAGE_PORT, SandboxSettings
from sandbox.storage.access import Access
from sandbox.storage.backend import Backend, Resource
from sandbox.storage.content import Content
from sandbox.storage.objects import Objects
from sandbox.storage.proxy import Proxy
from sandbox.storage.uploads import Sessions
from sandbox.store import INSTANCE, Store

_RECHECK_S = 5.0


class StorageService:
    """Serves Cloud Storage to the operator and to every VM."""

    def __init__(self, settings: SandboxSettings, store: Store, policy: Policy) -> None:
        self._settings = settings
        self._store = store
        folder = settings.state / "storage"
        self._spool = folder / "uploads"
        self._backend = Backend(settings, store, folder / "data")
        self._objects = Objects(self._backend, settings.project_number)
        access = Access(settings, store, policy)
        proxy = Proxy(self._objects, self._backend, access, Sessions(self._spool), self._spool)
        self._sites = Sites(proxy.application(), STORAGE_PORT)
        self._watch: asyncio.Task[None] | None = None

    @property
    def root_url(self) -> str:
        """The operator's address of the JSON API, without a path."""
        return f"http://{self._settings.operator_address}:{STORAGE_PORT}"

    async def start(self) -> None:
        """Start the store and serve everybody."""
        await self._backend.start()
        await self._sites.start()
        await self._sites.open(self._settings.operator_address)
        self._watch = asyncio.create_task(self._follow_instances())

    async def stop(self) -> None:
        """Close every address and end the store."""
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.gather(self._watch, return_exceptions=True)
        await self._sites.stop()
        await self._backend.stop()

    # --- For the provider --------------------------------------------------------------------------------------------

    async def create_bucket(self, name: str) -> Resource:
        """Make a bucket. Raises StorageError, whose text is the cloud's: 400 for a bad name, 409 for a taken one."""
        return await self._objects.create_bucket(name)

    async def delete_bucket(self, name: str, force: bool) -> None:
        """Remove a bucket, with what is in it only by `force`. Raises StorageError: 404, 409 if it is not empty."""
        if force:
            await self._objects.bucket(name)
            for item in await self._objects.names(name):
                await self._objects.delete(name, item)
        await self._objects.delete_bucket(name)

    async def put_object(self, bucket: str, name: str, data: bytes, content_type: str) -> Resource:
        """Write an object: its resource, with generation, md5Hash, crc32c, size. Raises StorageError (404)."""
        self._spool.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=self._spool, suffix=".part") as file:
            file.write(data)
            file.flush()
            content = Content(Path(file.name), 0, len(data))
            return await self._objects.put((bucket, name), {"contentType": content_type}, content)

    async def delete_object(self, bucket: str, name: str) -> None:
        """Remove an object. Raises StorageError (404)."""
        await self._objects.delete(bucket, name)

    async def object_count(self, bucket: str) -> int:
        """How many objects a bucket holds. Raises StorageError (404)."""
        return len(await self._objects.names(bucket))

    # --- Addresses ---------------------------------------------------------------------------------------------------

    async def _follow_instances(self) -> None:
        """Cloud Storage is there before a VM boots and goes with its address."""
        while True:
            revision = self._store.revision
            wanted = {
                record["address"] for _, record in self._store.items(INSTANCE) if record["status"] != "TERMINATED"
            }
            wanted.add(self._settings.operator_address)
            for address in self._sites.addresses - wanted:
                await self._sites.close(address)
            for address in wanted - self._sites.addresses:
                try:
                    await self._sites.open(address)
                except OSError as error:
                    self._store.event("storage", f"Cannot serve {address}:{STORAGE_PORT}: {error.strerror}")
            await self._store.changed(revision, _RECHECK_S)
