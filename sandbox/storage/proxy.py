"""The JSON API in front of the store: reads a request, asks IAM, and does what it says.

Paths are split before they are decoded, so an object's name must be percent-encoded as Google demands. A request that
is not modelled, by path or by parameter, is refused by name.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from aiohttp import hdrs, web

from sandbox.storage.access import Access, Caller
from sandbox.storage.backend import Backend, Resource
from sandbox.storage.content import Content, split_multipart, spool
from sandbox.storage.errors import StorageError, bad_request, not_modelled
from sandbox.storage.objects import Objects
from sandbox.storage.preconditions import Preconditions
from sandbox.storage.uploads import Session, Sessions, chunk

_COMMON = frozenset({"alt", "fields", "key", "prettyPrint", "projection", "quotaUser", "userIp", "userProject"})
_CONDITIONS = frozenset(
    {"ifGenerationMatch", "ifGenerationNotMatch", "ifMetagenerationMatch", "ifMetagenerationNotMatch"}
)
_LISTING = frozenset(
    {"prefix", "delimiter", "includeTrailingDelimiter", "pageToken", "maxResults", "startOffset", "endOffset"}
)
_UPLOAD = frozenset({"uploadType", "name", "upload_id", "contentEncoding"}) | _CONDITIONS
_PASSED_DOWN = ("Range", "Accept-Encoding")
_PASSED_UP = (
    "Accept-Ranges",
    "Cache-Control",
    "Content-Disposition",
    "Content-Encoding",
    "Content-Language",
    "Content-Length",
    "Content-Range",
    "Content-Type",
    "ETag",
    "Last-Modified",
    "X-Goog-Generation",
    "X-Goog-Hash",
    "X-Goog-Metageneration",
    "X-Goog-Storage-Class",
    "X-Goog-Stored-Content-Encoding",
    "X-Goog-Stored-Content-Length",
)
_BLOCK_BYTES = 1 << 18
_RESUME_INCOMPLETE = 308
_CANCELLED = 499


@dataclass(frozen=True, slots=True)
class Write:
    """An object that is about to be written."""

    bucket: str
    caller: Caller
    resource: dict[str, Any]
    query: Mapping[str, str]
    """Parameters of the request that began it: name, preconditions."""


class Proxy:
    """Handles every request to a storage address."""

    def __init__(
        self, objects: Objects, backend: Backend, access: Access, sessions: Sessions, spool_folder: Path
    ) -> None:
        self._objects = objects
        self._backend = backend
        self._access = access
        self._sessions = sessions
        self._spool = spool_folder

    def application(self) -> web.Application:
        """The web application."""
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", self._handle)
        return application

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        try:
            return await self._route(request)
        except StorageError as error:
            return _refusal(request, error)

    async def _route(self, request: web.Request) -> web.StreamResponse:
        parts = tuple(unquote(part) for part in request.rel_url.raw_path.split("/")[1:])
        match parts:
            case ("storage", "v1", "b", *rest):
                return await self._route_metadata(request, tuple(rest))
            case ("download", "storage", "v1", "b", bucket, "o", name) if request.method in {"GET", "HEAD"}:
                return await self._get_object(request, bucket, name, media=True)
            case ("upload", "storage", "v1", "b", bucket, "o") if request.method == "POST":
                return await self._upload(request, bucket)
            case ("upload", "storage", "v1", "b", bucket, "o") if request.method in {"PUT", "DELETE"}:
                return await self._resume(request, bucket)
            case _:
                raise not_modelled(f"{request.method} {request.rel_url.raw_path}")

    async def _route_metadata(self, request: web.Request, parts: tuple[str, ...]) -> web.StreamResponse:
        match (request.method, *parts):
            case ("GET",):
                return await self._list_buckets(request)
            case ("POST",):
                return await self._create_bucket(request)
            case ("GET", bucket):
                return await self._get_bucket(request, bucket)
            case ("DELETE", bucket):
                return await self._delete_bucket(request, bucket)
            case ("GET", bucket, "iam", "testPermissions"):
                return self._test_permissions(request, bucket)
            case ("GET", bucket, "o"):
                return await self._list_objects(request, bucket)
            case ("GET" | "HEAD", bucket, "o", name):
                return await self._get_object(request, bucket, name, media=request.query.get("alt") == "media")
            case ("DELETE", bucket, "o", name):
                return await self._delete_object(request, bucket, name)
            case ("POST", bucket, "o", name, "rewriteTo", "b", to_bucket, "o", to_name):
                return await self._rewrite(request, (bucket, name), (to_bucket, to_name))
            case ("PATCH" | "PUT", bucket, "o", _):
                self._access.require(self._access.caller(request), "storage.objects.update", bucket)
                raise not_modelled("changes of an object's metadata: write the object again")
            case _:
                raise not_modelled(f"{request.method} {request.rel_url.raw_path}")

    # --- Buckets -----------------------------------------------------------------------------------------------------

    async def _list_buckets(self, request: web.Request) -> web.Response:
        _only(request, {"project", "prefix", "maxResults", "pageToken"})
        self._access.require(self._access.caller(request), "storage.buckets.list", None)
        prefix = request.query.get("prefix", "")
        found = [bucket for bucket in await self._objects.buckets() if bucket["name"].startswith(prefix)]
        return _answer(request, {"kind": "storage#buckets", "items": found})

    async def _create_bucket(self, request: web.Request) -> web.Response:
        _only(request, {"project", "predefinedAcl", "predefinedDefaultObjectAcl"})
        self._access.require(self._access.caller(request), "storage.buckets.create", None)
        resource = await _json(request)
        return _answer(request, await self._objects.create_bucket(str(resource.get("name", ""))))

    async def _get_bucket(self, request: web.Request, bucket: str) -> web.Response:
        _only(request, set())
        caller = self._access.caller(request)
        found = await self._objects.bucket(bucket)
        self._access.require(caller, "storage.buckets.get", bucket)
        return _answer(request, found)

    async def _delete_bucket(self, request: web.Request, bucket: str) -> web.Response:
        _only(request, set())
        caller = self._access.caller(request)
        await self._objects.bucket(bucket)
        self._access.require(caller, "storage.buckets.delete", bucket)
        await self._objects.delete_bucket(bucket)
        return web.Response(status=204)

    def _test_permissions(self, request: web.Request, bucket: str) -> web.Response:
        _only(request, {"permissions"})
        caller = self._access.caller(request)
        held = [one for one in request.query.getall("permissions", []) if self._access.allows(caller, one, bucket)]
        return _answer(request, {"kind": "storage#testIamPermissionsResponse", "permissions": held})

    # --- Objects -----------------------------------------------------------------------------------------------------

    async def _list_objects(self, request: web.Request, bucket: str) -> web.Response:
        _only(request, _LISTING | {"versions"})
        caller = self._access.caller(request)
        await self._objects.bucket(bucket)
        self._access.require(caller, "storage.objects.list", bucket)
        query = {name: value for name, value in request.query.items() if name in _LISTING}
        return _answer(request, await self._backend.listing(bucket, query))

    async def _get_object(self, request: web.Request, bucket: str, name: str, *, media: bool) -> web.StreamResponse:
        _only(request, _CONDITIONS | {"generation"})
        caller = self._access.caller(request)
        await self._objects.bucket(bucket)
        self._access.require(caller, "storage.objects.get", bucket)
        try:
            conditions = Preconditions.of(request.query)
            found = await self._objects.get(bucket, name, conditions, request.query.get("generation"))
        except StorageError as error:
            if error.code == 404:
                # Whoever may not list must not learn which objects there are.
                self._access.require(caller, "storage.objects.list", bucket)
            raise
        return await self._download(request, bucket, name) if media else _answer(request, found)

    async def _download(self, request: web.Request, bucket: str, name: str) -> web.StreamResponse:
        headers = {header: request.headers[header] for header in _PASSED_DOWN if header in request.headers}
        headers.setdefault("Accept-Encoding", "identity")
        async with self._backend.download(bucket, name, headers) as source:
            passed = {header: source.headers[header] for header in _PASSED_UP if header in source.headers}
            response = web.StreamResponse(status=source.status, headers=passed)
            await response.prepare(request)
            if request.method != "HEAD":
                async for block in source.content.iter_chunked(_BLOCK_BYTES):
                    await response.write(block)
            await response.write_eof()
        return response

    async def _delete_object(self, request: web.Request, bucket: str, name: str) -> web.Response:
        _only(request, _CONDITIONS | {"generation"})
        caller = self._access.caller(request)
        await self._objects.bucket(bucket)
        self._access.require(caller, "storage.objects.delete", bucket)
        await self._objects.delete(bucket, name, Preconditions.of(request.query))
        return web.Response(status=204)

    async def _rewrite(self, request: web.Request, source: tuple[str, str], target: tuple[str, str]) -> web.Response:
        _only(request, _CONDITIONS | {"rewriteToken", "maxBytesRewrittenPerCall"})
        caller = self._access.caller(request)
        self._access.require(caller, "storage.objects.get", source[0])
        self._access.require(caller, "storage.objects.create", target[0])
        answer = await self._objects.rewrite(
            source, target, Preconditions.of(request.query), self._overwriting(caller, target[0])
        )
        return _answer(request, answer)

    # --- Uploads -----------------------------------------------------------------------------------------------------

    async def _upload(self, request: web.Request, bucket: str) -> web.Response:
        _only(request, _UPLOAD)
        kinds: dict[str, Callable[[web.Request, str, Caller], Awaitable[web.Response]]] = {
            "media": self._upload_media,
            "multipart": self._upload_multipart,
            "resumable": self._begin_resumable,
        }
        kind = request.query.get("uploadType", "")
        if kind not in kinds:
            raise bad_request(f"Invalid value for uploadType: '{kind}'; allowed: {', '.join(kinds)}")
        caller = self._access.caller(request)
        await self._objects.bucket(bucket)
        self._access.require(caller, "storage.objects.create", bucket)
        return await kinds[kind](request, bucket, caller)

    async def _upload_media(self, request: web.Request, bucket: str, caller: Caller) -> web.Response:
        resource = {"contentType": request.headers.get(hdrs.CONTENT_TYPE, "")}
        with self._spool_file() as path:
            size = await spool(_body(request), path)
            return await self._commit(request, Write(bucket, caller, resource, request.query), Content(path, 0, size))

    async def _upload_multipart(self, request: web.Request, bucket: str, caller: Caller) -> web.Response:
        with self._spool_file() as path:
            await spool(_body(request), path)
            resource, content_type, content = split_multipart(path, request.headers.get(hdrs.CONTENT_TYPE, ""))
            resource.setdefault("contentType", content_type)
            return await self._commit(request, Write(bucket, caller, resource, request.query), content)

    async def _begin_resumable(self, request: web.Request, bucket: str, caller: Caller) -> web.Response:
        resource = await _json(request)
        if "X-Upload-Content-Type" in request.headers:
            resource.setdefault("contentType", request.headers["X-Upload-Content-Type"])
        name = _object_name(resource, request.query)
        session = self._sessions.open(bucket, name, caller.email, resource, dict(request.query))
        location = f"{_root(request)}{request.rel_url.raw_path}?uploadType=resumable&upload_id={session.id}"
        return web.Response(headers={"Location": location, "X-GUploader-UploadID": session.id})

    async def _resume(self, request: web.Request, bucket: str) -> web.Response:
        session = self._sessions.find(request.query.get("upload_id", ""))
        if session.bucket != bucket:
            raise StorageError(404, "notFound", "Upload session not found: it was opened for another bucket.")
        if request.method == "DELETE":
            self._sessions.close(session)
            return web.Response(status=_CANCELLED)
        path = self._sessions.part(session)
        have = path.stat().st_size
        piece = chunk(request.headers.get("Content-Range"), request.content_length)
        if piece.start is not None:
            if piece.start > have:
                raise StorageError(503, "backendError", f"Expected the chunk that starts at byte {have}.")
            have = piece.start + await self._append(request, path, piece.start)
        if piece.total is None or have < piece.total:
            headers = {"Range": f"bytes=0-{have - 1}"} if have else {}
            return web.Response(status=_RESUME_INCOMPLETE, headers=headers)
        caller = Caller(session.email, frozenset({"cloud-platform"}))
        return await self._finish(request, session, caller, Content(path, 0, have))

    async def _append(self, request: web.Request, path: Path, start: int) -> int:
        """Write a chunk at its place; a client that repeats bytes overwrites them with the same."""
        with path.open("r+b") as file:
            file.truncate(start)
        return await spool(_body(request), path)

    async def _finish(self, request: web.Request, session: Session, caller: Caller, content: Content) -> web.Response:
        write = Write(session.bucket, caller, {**session.resource, "name": session.name}, session.query)
        try:
            answer = await self._commit(request, write, content)
        except StorageError as error:
            if error.code < 500:
                self._sessions.close(session)
            raise
        self._sessions.close(session)
        return answer

    async def _commit(self, request: web.Request, write: Write, content: Content) -> web.Response:
        name = _object_name(write.resource, write.query)
        if "contentEncoding" in write.query:
            write.resource["contentEncoding"] = write.query["contentEncoding"]
        await asyncio.to_thread(content.check, write.resource, request.headers.get("X-Goog-Hash", ""))
        written = await self._objects.put(
            (write.bucket, name),
            write.resource,
            content,
            Preconditions.of(write.query),
            self._overwriting(write.caller, write.bucket),
        )
        return _answer(request, written)

    def _overwriting(self, caller: Caller, bucket: str) -> Callable[[], None]:
        return lambda: self._access.require(caller, "storage.objects.delete", bucket)

    def _spool_file(self) -> _SpoolFile:
        return _SpoolFile(self._spool)


class _SpoolFile:
    """A file that is gone after use."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, suffix=".part", delete=False) as file:
            self._path = Path(file.name)

    def __enter__(self) -> Path:
        return self._path

    def __exit__(self, *_: object) -> None:
        self._path.unlink(missing_ok=True)


async def _body(request: web.Request) -> AsyncIterator[bytes]:
    async for block in request.content.iter_chunked(_BLOCK_BYTES):
        yield block


async def _json(request: web.Request) -> dict[str, Any]:
    if not await request.read():
        return {}
    try:
        document = await request.json()
    except ValueError:
        raise bad_request("Parse Error: the body is not JSON") from None
    if not isinstance(document, dict):
        raise bad_request("Parse Error: the body is not a JSON object")
    return document


def _object_name(resource: Mapping[str, Any], query: Mapping[str, str]) -> str:
    name = query.get("name") or resource.get("name")
    if not name:
        raise bad_request("Required parameter: name")
    return str(name)


def _only(request: web.Request, known: set[str] | frozenset[str]) -> None:
    unknown = sorted(set(request.query) - known - _COMMON)
    if unknown:
        raise not_modelled(f"the parameter {', '.join(unknown)} of {request.method} {request.rel_url.raw_path}")


def _root(request: web.Request) -> str:
    return f"http://{request.host}"


def _answer(request: web.Request, resource: Resource) -> web.Response:
    return web.json_response(_public(resource, _root(request)))


def _public(value: Any, root: str) -> Any:  # noqa: ANN401 - JSON
    """With links that lead back to the address that was asked, not to the store behind it."""
    if isinstance(value, dict):
        return {
            key: root + urlsplit(item)._replace(scheme="", netloc="").geturl()
            if key in {"selfLink", "mediaLink"}
            else _public(item, root)
            for key, item in value.items()
        }
    return [_public(item, root) for item in value] if isinstance(value, list) else value


def _refusal(request: web.Request, error: StorageError) -> web.Response:
    headers = {"WWW-Authenticate": 'Bearer realm="https://accounts.google.com/"'} if error.code == 401 else {}
    if error.code == 304:
        return web.Response(status=304)
    if request.query.get("alt") == "media":
        return web.Response(status=error.code, text=error.message, headers=headers)
    return web.json_response(error.body(), status=error.code, headers=headers)
