from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
import pytest
from google.api_core import exceptions
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage as gcs

from sandbox.iam.policy import Policy
from sandbox.iam.tokens import Tokens
from sandbox.machine.processes import marked
from sandbox.storage.errors import StorageError
from sandbox.storage.service import StorageService
from tests.sandbox_machine.machines import ACCOUNT, World, until

pytestmark = pytest.mark.servers

T = TypeVar("T")
CLIENTS = ThreadPoolExecutor(8)
OPERATOR = 0
"""Octet that stands for the operator in `url`; others are the last octet of a VM's address."""


def url(world: World, who: int) -> str:
    block = world.settings.block
    return f"http://127.{block}.0.1:8078" if who == OPERATOR else f"http://127.{block}.16.{who}:8078"


def client(world: World, who: int = OPERATOR) -> gcs.Client:
    return gcs.Client(
        project=world.settings.project,
        credentials=AnonymousCredentials(),
        client_options={"api_endpoint": url(world, who)},
    )


@pytest.fixture
async def bucket(storage: StorageService) -> str:
    await storage.create_bucket("models")
    return "models"


@pytest.fixture
async def vm(world: World, storage: StorageService) -> int:
    """A VM with a service account, served."""
    assert storage.root_url == url(world, OPERATOR)
    world.insert(last_octet=7)
    await served(world, 7)
    return 7


async def served(world: World, who: int) -> None:
    async def answers() -> bool:
        try:
            async with aiohttp.ClientSession() as session, session.get(f"{url(world, who)}/storage/v1/b"):
                return True
        except aiohttp.ClientConnectionError:
            return False

    for _ in range(200):
        if await answers():
            return
        await asyncio.sleep(0.02)
    raise AssertionError(f"{url(world, who)} is not served")


async def in_thread(call: Callable[..., T], *arguments: Any) -> T:
    """Run a blocking client beside the service, not on the threads that the service itself uses."""
    return await asyncio.get_running_loop().run_in_executor(CLIENTS, call, *arguments)


def upload(blob: gcs.Blob, data: bytes, kind: str, tmp_path: Path, **conditions: int) -> None:
    """Upload by the client library's multipart or resumable way."""
    if kind == "multipart":
        blob.upload_from_string(data, **conditions)
        return
    path = tmp_path / f"upload-{os.urandom(4).hex()}"
    path.write_bytes(data)
    blob.chunk_size = 256 * 1024
    blob.upload_from_filename(str(path), **conditions)


async def media(world: World, who: int, bucket: str, name: str, data: bytes, **query: str) -> tuple[int, Any]:
    address = f"{url(world, who)}/upload/storage/v1/b/{bucket}/o"
    async with (
        aiohttp.ClientSession() as session,
        session.post(address, params={"uploadType": "media", "name": name, **query}, data=data) as answer,
    ):
        return answer.status, await answer.json()


@pytest.mark.parametrize("kind", ["multipart", "resumable"])
async def test_objects_come_back_as_they_went(world: World, bucket: str, tmp_path: Path, kind: str) -> None:
    data = os.urandom(700_000)

    def check() -> None:
        blob = client(world).bucket(bucket).blob("a folder/ä+b.bin")
        upload(blob, data, kind, tmp_path)
        again = client(world).bucket(bucket).get_blob("a folder/ä+b.bin")
        assert (again.size, again.generation, again.crc32c, again.md5_hash) == (
            len(data),
            blob.generation,
            blob.crc32c,
            blob.md5_hash,
        )
        assert again.download_as_bytes() == data
        assert again.download_as_bytes(start=5, end=99) == data[5:100]
        assert [one.name for one in client(world).list_blobs(bucket, prefix="a folder/")] == ["a folder/ä+b.bin"]

    await in_thread(check)


async def test_curl_downloads_media_by_a_percent_encoded_name(
    world: World, storage: StorageService, bucket: str
) -> None:
    await storage.put_object(bucket, "a/b", b"hello", "text/plain")
    root = f"{url(world, OPERATOR)}/storage/v1/b/{bucket}/o"
    for path, expected in ((f"{root}/a%2Fb?alt=media", "200 hello"), (f"{root}/a/b?alt=media", "501")):
        curl = await asyncio.create_subprocess_exec(
            "curl", "-s", "-o", "-", "-w", " %{http_code}", path, stdout=asyncio.subprocess.PIPE
        )
        output, _ = await curl.communicate()
        body, _, code = output.decode().rpartition(" ")
        assert f"{code} {body}".startswith(expected)


async def test_links_lead_back_to_the_address_that_was_asked(
    world: World, storage: StorageService, bucket: str
) -> None:
    await storage.put_object(bucket, "a", b"x", "text/plain")
    async with aiohttp.ClientSession() as session:
        async with session.get(f"{url(world, OPERATOR)}/storage/v1/b/{bucket}/o/a") as answer:
            resource = await answer.json()
        assert resource["mediaLink"].startswith(url(world, OPERATOR))
        async with session.get(resource["mediaLink"]) as answer:
            assert await answer.read() == b"x"


@pytest.mark.parametrize("kind", ["multipart", "resumable"])
async def test_generation_preconditions_hold(world: World, bucket: str, tmp_path: Path, kind: str) -> None:
    def check() -> None:
        blob = client(world).bucket(bucket).blob("manifest.json")
        upload(blob, b"1", kind, tmp_path, if_generation_match=0)
        first = blob.generation
        with pytest.raises(exceptions.PreconditionFailed):
            upload(client(world).bucket(bucket).blob("manifest.json"), b"2", kind, tmp_path, if_generation_match=0)
        assert client(world).bucket(bucket).blob("manifest.json").download_as_bytes() == b"1"
        upload(blob, b"3", kind, tmp_path, if_generation_match=first)
        assert blob.generation > first
        with pytest.raises(exceptions.PreconditionFailed):
            blob.delete(if_generation_match=first)
        with pytest.raises(exceptions.NotFound):
            client(world).bucket(bucket).blob("manifest.json", generation=first).download_as_bytes()
        assert blob.download_as_bytes() == b"3"

    await in_thread(check)


async def test_media_upload_obeys_preconditions(world: World, bucket: str) -> None:
    assert (await media(world, OPERATOR, bucket, "m", b"1", ifGenerationMatch="0"))[0] == 200
    status, body = await media(world, OPERATOR, bucket, "m", b"2", ifGenerationMatch="0")
    assert status == 412
    assert body["error"]["errors"][0]["reason"] == "conditionNotMet"


@pytest.mark.parametrize("kind", ["media", "multipart", "resumable"])
async def test_racing_creators_yield_one_winner(world: World, bucket: str, tmp_path: Path, kind: str) -> None:
    async def create(turn: int) -> int:
        if kind == "media":
            return (await media(world, OPERATOR, bucket, "race", str(turn).encode(), ifGenerationMatch="0"))[0]

        def attempt() -> int:
            blob = client(world).bucket(bucket).blob("race")
            try:
                upload(blob, str(turn).encode(), kind, tmp_path, if_generation_match=0)
            except exceptions.PreconditionFailed as error:
                return int(error.code)
            return 200

        return await in_thread(attempt)

    codes = await asyncio.gather(*(create(turn) for turn in range(8)))
    assert sorted(codes) == [200] + [412] * 7
    winner = str(codes.index(200)).encode()
    content = await in_thread(lambda: client(world).bucket(bucket).blob("race").download_as_bytes())
    assert content == winner


async def test_interrupted_resumable_upload_goes_on_in_another_daemon(
    world: World, storage: StorageService, bucket: str
) -> None:
    data = os.urandom(1000)
    async with aiohttp.ClientSession() as session:
        address = f"{url(world, OPERATOR)}/upload/storage/v1/b/{bucket}/o"
        async with session.post(address, params={"uploadType": "resumable", "name": "big"}, json={}) as answer:
            location = answer.headers["Location"]
        headers = {"Content-Range": "bytes 0-599/1000"}
        async with session.put(location, data=data[:600], headers=headers) as answer:
            assert (answer.status, answer.headers["Range"]) == (308, "bytes=0-599")
    await storage.stop()
    successor = StorageService(world.settings, world.store, Policy(world.settings, world.store))
    await successor.start()
    try:
        async with aiohttp.ClientSession() as session:
            async with session.put(location, headers={"Content-Range": "bytes */1000"}) as answer:
                assert (answer.status, answer.headers["Range"]) == (308, "bytes=0-599")
            headers = {"Content-Range": "bytes 600-999/1000"}
            async with session.put(location, data=data[600:], headers=headers) as answer:
                assert (await answer.json())["size"] == "1000"
            async with session.get(f"{url(world, OPERATOR)}/storage/v1/b/{bucket}/o/big?alt=media") as answer:
                assert await answer.read() == data
        assert list((world.settings.state / "storage/uploads").iterdir()) == []
    finally:
        await successor.stop()


async def test_damaged_upload_is_refused_and_leaves_nothing(world: World, storage: StorageService, bucket: str) -> None:
    body = b'--x\r\n\r\n{"name": "a", "crc32c": "AAAAAA=="}\r\n--x\r\ncontent-type: text/plain\r\n\r\ndata\r\n--x--'
    async with (
        aiohttp.ClientSession() as session,
        session.post(
            f"{url(world, OPERATOR)}/upload/storage/v1/b/{bucket}/o?uploadType=multipart",
            data=body,
            headers={"Content-Type": "multipart/related; boundary=x"},
        ) as answer,
    ):
        assert answer.status == 400
        assert "CRC32C" in await answer.text()
    assert await storage.object_count(bucket) == 0
    assert list((world.settings.state / "storage/uploads").iterdir()) == []


Call = Callable[[gcs.Bucket], object]
CALLS: dict[str, Call] = {
    "get": lambda bucket: bucket.blob("here").download_as_bytes(),
    "list": lambda bucket: list(bucket.list_blobs()),
    "create": lambda bucket: bucket.blob("new").upload_from_string("x"),
    "overwrite": lambda bucket: bucket.blob("here").upload_from_string("x"),
    "delete": lambda bucket: bucket.blob("here").delete(),
}


@pytest.mark.parametrize(
    ("role", "allowed"),
    [
        ("", set()),
        ("roles/storage.objectViewer", {"get", "list"}),
        ("roles/storage.objectCreator", {"create"}),
        ("roles/storage.legacyObjectReader", {"get"}),
        ("roles/storage.objectAdmin", set(CALLS)),
    ],
)
async def test_role_decides_every_call_of_a_vm(
    world: World, storage: StorageService, vm: int, role: str, allowed: set[str]
) -> None:
    bucket = (await storage.create_bucket("models"))["name"]
    if role:
        world.bind(bucket, role)
    succeeded = set()
    for name, call in CALLS.items():
        await storage.put_object(bucket, "here", b"x", "text/plain")
        try:
            await in_thread(call, client(world, vm).bucket(bucket))
        except exceptions.Forbidden as error:
            assert ACCOUNT in str(error), name  # noqa: PT017 - the message is the point
        else:
            succeeded.add(name)
    assert succeeded == allowed


@pytest.mark.parametrize(
    ("role", "expected"),
    [("roles/storage.legacyObjectReader", exceptions.Forbidden), ("roles/storage.objectViewer", exceptions.NotFound)],
)
async def test_missing_object_is_told_only_to_those_who_may_list(
    world: World, bucket: str, vm: int, role: str, expected: type[Exception]
) -> None:
    world.bind(bucket, role)
    with pytest.raises(expected):
        await in_thread(lambda: client(world, vm).bucket(bucket).blob("missing").download_as_bytes())


async def test_creator_that_lost_a_race_learns_that_and_cannot_overwrite(
    world: World, storage: StorageService, bucket: str, vm: int
) -> None:
    world.bind(bucket, "roles/storage.objectCreator")
    await storage.put_object(bucket, "manifest.json", b"winner", "application/json")
    assert (await media(world, vm, bucket, "manifest.json", b"late", ifGenerationMatch="0"))[0] == 412
    status, body = await media(world, vm, bucket, "manifest.json", b"late")
    assert status == 403
    assert "storage.objects.delete" in body["error"]["message"]


async def test_vm_without_account_is_nobody(world: World, bucket: str) -> None:
    world.insert(name="bare", last_octet=9, service_account="", scopes=[])
    await served(world, 9)
    address = f"{url(world, 9)}/storage/v1/b/{bucket}/o/x"
    async with aiohttp.ClientSession() as session, session.get(address) as answer:
        assert answer.status == 401
        assert "Anonymous caller does not have storage.objects.get" in await answer.text()


async def test_scopes_bound_what_an_account_may(world: World, bucket: str) -> None:
    world.bind(bucket, "roles/storage.objectAdmin")
    read_only = "https://www.googleapis.com/auth/devstorage.read_only"
    world.insert(name="reader", last_octet=9, scopes=[read_only])
    await served(world, 9)
    assert await in_thread(lambda: list(client(world, 9).list_blobs(bucket))) == []
    status, body = await media(world, 9, bucket, "x", b"1")
    assert (status, body["error"]["errors"][0]["reason"]) == (403, "insufficientPermissions")


async def test_token_decides_over_the_address(world: World, bucket: str) -> None:
    tokens = Tokens(world.store)
    address = f"{url(world, OPERATOR)}/storage/v1/b/{bucket}/o"
    for token, status in ((tokens.issue(ACCOUNT), 403), ("forged", 401)):
        headers = {"Authorization": f"Bearer {token}"}
        async with aiohttp.ClientSession() as session, session.get(address, headers=headers) as answer:
            assert answer.status == status


async def test_address_of_a_stopped_vm_is_not_served(world: World, vm: int) -> None:
    world.store.put("instance", "us-central1-a/vm", {**_record(world), "status": "TERMINATED"})

    def refused() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex((f"127.{world.settings.block}.16.{vm}", 8078)) != 0

    await until(refused, "the address is closed")


def _record(world: World) -> dict[str, Any]:
    record = world.store.get("instance", "us-central1-a/vm")
    assert record is not None
    return record


@pytest.mark.usefixtures("storage")
async def test_operator_makes_and_removes_buckets(world: World) -> None:
    def check() -> None:
        operator = client(world)
        operator.create_bucket("team-models")
        with pytest.raises(exceptions.Conflict):
            operator.create_bucket("team-models")
        with pytest.raises(exceptions.BadRequest, match="Invalid bucket name"):
            operator.create_bucket("Team Models")
        operator.bucket("team-models").blob("x").upload_from_string("1")
        with pytest.raises(exceptions.Conflict, match="not empty"):
            operator.bucket("team-models").delete()
        operator.bucket("team-models").blob("x").delete()
        operator.bucket("team-models").delete()
        assert list(operator.list_buckets()) == []

    await in_thread(check)


async def test_provider_calls(storage: StorageService) -> None:
    await storage.create_bucket("inputs")
    with pytest.raises(StorageError, match="Error 409"):
        await storage.create_bucket("inputs")
    first = await storage.put_object("inputs", "a/b", b"123", "text/plain")
    assert (first["size"], first["crc32c"], first["md5Hash"]) == ("3", "EHsvsg==", "ICy5YqxZB1uWSwcVLSNLcA==")
    second = await storage.put_object("inputs", "a/b", b"1234", "text/plain")
    assert int(second["generation"]) > int(first["generation"])
    assert await storage.object_count("inputs") == 1
    with pytest.raises(StorageError, match="not empty"):
        await storage.delete_bucket("inputs", force=False)
    await storage.delete_object("inputs", "a/b")
    with pytest.raises(StorageError, match="No such object: inputs/a/b"):
        await storage.delete_object("inputs", "a/b")
    await storage.put_object("inputs", "c", b"1", "text/plain")
    await storage.delete_bucket("inputs", force=True)
    with pytest.raises(StorageError, match="bucket does not exist"):
        await storage.object_count("inputs")


async def test_objects_survive_the_store_being_killed(world: World, storage: StorageService, bucket: str) -> None:
    written = await storage.put_object(bucket, "kept", b"x", "text/plain")
    (process,) = marked({"SANDBOX_STATE": str(world.settings.state), "SANDBOX_SERVICE": "storage"})
    process.signal(9)
    await process.ended()
    await until(
        lambda: marked({"SANDBOX_STATE": str(world.settings.state), "SANDBOX_SERVICE": "storage"}), "a new store runs"
    )
    async with aiohttp.ClientSession() as session:
        for _ in range(100):
            async with session.get(f"{url(world, OPERATOR)}/storage/v1/b/{bucket}/o/kept") as answer:
                if answer.status == 200:
                    assert (await answer.json())["generation"] == written["generation"]
                    return
            await asyncio.sleep(0.05)
    raise AssertionError("the object did not come back")


async def test_stop_leaves_no_process(world: World) -> None:
    service = StorageService(world.settings, world.store, Policy(world.settings, world.store))
    await service.start()
    await service.stop()
    assert marked({"SANDBOX_STATE": str(world.settings.state)}) == []


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/models/object"),
        ("POST", "/batch/storage/v1"),
        ("POST", "/storage/v1/b/models/o/a/compose"),
        ("GET", "/storage/v1/b/models/o?matchGlob=**"),
        ("PATCH", "/storage/v1/b/models/o/a"),
    ],
)
@pytest.mark.usefixtures("bucket")
async def test_what_is_not_modelled_is_refused_by_name(world: World, method: str, path: str) -> None:
    async with aiohttp.ClientSession() as session, session.request(method, url(world, OPERATOR) + path) as answer:
        assert answer.status == 501
        assert "does not model" in json.loads(await answer.text())["error"]["message"]
