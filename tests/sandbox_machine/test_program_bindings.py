"""What the program's own bindings allow its VMs: asked from inside a VM, of the real storage service."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

import aiohttp
import pytest
from google.api_core import exceptions
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage as gcs

from sandbox.storage.service import StorageService
from sandbox.store import RESOURCE
from tests.program.harness import run_program, stack_config
from tests.sandbox_machine.machines import World

pytestmark = pytest.mark.servers

STACKS = ("blue", "green")
HELD = {"inputs": "code/bundle.tar.gz", "artifacts": "models/key/manifest.json"}
"""What lies in each bucket, by its role."""


@dataclass(frozen=True)
class Vm:
    """A VM of one of the stacks, as a client of Cloud Storage."""

    world: World
    octet: int

    @property
    def url(self) -> str:
        return f"http://127.{self.world.settings.block}.16.{self.octet}:8078"

    def bucket(self, stack: str, role: str) -> gcs.Bucket:
        client = gcs.Client(
            project=self.world.settings.project,
            credentials=AnonymousCredentials(),
            client_options={"api_endpoint": self.url},
        )
        return client.bucket(bucket_name(stack, role))


def bucket_name(stack: str, role: str) -> str:
    return f"sandbox-project-tensorrt-fleet-{stack}-{role}"


async def declare(world: World, stack: str) -> None:
    """Buckets' and project's IAM members, as the program registers them for a stack."""
    # In a thread, because the program's harness makes an event loop of its own.
    graph = await asyncio.to_thread(lambda: run_program(stack_config("local"), stack=stack))
    for resource in (*graph.of_type(":BucketIAMMember"), *graph.of_type(":IAMMember")):
        record = {"type": resource.type, "urn": resource.urn, "inputs": resource.inputs, "state": resource.inputs}
        world.store.put(RESOURCE, resource.urn, record | {"created": time.time() - 60})


async def answers(vm: Vm) -> None:
    for _ in range(500):
        try:
            async with aiohttp.ClientSession() as session, session.get(f"{vm.url}/storage/v1/b"):
                return
        except aiohttp.ClientConnectionError:
            await asyncio.sleep(0.02)
    raise AssertionError(f"{vm.url} is not served")


@pytest.fixture
async def vms(world: World, storage: StorageService) -> dict[str, Vm]:
    """`serving` and `builder` of the stack blue; green has the same buckets under its own names."""
    for stack in STACKS:
        await declare(world, stack)
        for role, name in HELD.items():
            await storage.create_bucket(bucket_name(stack, role))
            await storage.put_object(bucket_name(stack, role), name, b"published", "application/json")
    found = {}
    for octet, role in enumerate(("serving", "builder"), start=1):
        email = f"fleet-blue-{role}@sandbox-project.iam.gserviceaccount.com"
        world.insert(name=role, last_octet=octet, service_account=email)
        found[role] = Vm(world, octet)
        await answers(found[role])
    return found


async def code_of(call: Callable[[], object]) -> int:
    """HTTP status of a call."""
    try:
        await asyncio.to_thread(call)
    except exceptions.GoogleAPICallError as error:
        return int(error.code or 0)
    return 200


READ, LIST, CREATE, OVERWRITE, DELETE, MISSING = "read", "list", "create", "overwrite", "delete", "missing"


def calls(bucket: gcs.Bucket, there: str) -> dict[str, Callable[[], object]]:
    return {
        READ: lambda: bucket.blob(there).download_as_bytes(),
        LIST: lambda: list(bucket.list_blobs()),
        MISSING: lambda: bucket.blob("missing").download_as_bytes(),
        CREATE: lambda: bucket.blob("models/key/new").upload_from_string("x"),
        OVERWRITE: lambda: bucket.blob(there).upload_from_string("x"),
        DELETE: lambda: bucket.blob(there).delete(),
    }


READS = {READ: 200, LIST: 200, MISSING: 404}
NOTHING = {READ: 403, LIST: 403, MISSING: 403, CREATE: 403, OVERWRITE: 403, DELETE: 403}


@pytest.mark.parametrize(
    ("who", "stack", "role", "expected"),
    [
        ("serving", "blue", "artifacts", NOTHING | READS),
        ("serving", "blue", "inputs", NOTHING | READS),
        ("serving", "green", "artifacts", NOTHING),
        ("serving", "green", "inputs", NOTHING),
        ("builder", "blue", "artifacts", NOTHING | READS | {CREATE: 200}),
        ("builder", "blue", "inputs", NOTHING | READS),
        ("builder", "green", "artifacts", NOTHING),
    ],
)
async def test_a_vm_may_do_what_its_role_needs_and_no_more(
    vms: dict[str, Vm], who: str, stack: str, role: str, expected: dict[str, int]
) -> None:
    bucket = vms[who].bucket(stack, role)
    found = {name: await code_of(call) for name, call in calls(bucket, HELD[role]).items()}
    assert found == expected
