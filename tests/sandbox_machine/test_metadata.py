from __future__ import annotations

import asyncio
import base64
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass

import aiohttp
import pytest

from sandbox.iam.tokens import Tokens
from sandbox.machine.instance import Instance
from sandbox.machine.metadata import MetadataServer
from sandbox.machine.record import MachineRecord
from sandbox.store import INSTANCE
from tests.sandbox_machine.machines import ACCOUNT, World

FLAVOR = {"Metadata-Flavor": "Google"}


@dataclass
class Asker:
    """Asks the metadata server of one address."""

    root: str
    session: aiohttp.ClientSession

    async def status(self, path: str, headers: Mapping[str, str] = FLAVOR, **query: str) -> int:
        async with self.session.get(f"{self.root}/{path}", params=query, headers=headers) as answer:
            return answer.status

    async def text(self, path: str, **query: str) -> str:
        async with self.session.get(f"{self.root}/{path}", params=query, headers=FLAVOR) as answer:
            assert answer.status == 200, await answer.text()
            assert answer.headers["Metadata-Flavor"] == "Google"
            return await answer.text()


@pytest.fixture
async def server(world: World) -> AsyncIterator[MetadataServer]:
    server = MetadataServer(world.settings, world.store, Tokens(world.store))
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def vm(world: World, server: MetadataServer) -> AsyncIterator[Asker]:
    key = world.insert("echo hi", gpus=4, metadata={"fleet-stack": "p/s", "enable-guest-attributes": "TRUE"})
    instance = world.instance(key)
    assert instance is not None
    await server.open(instance)
    async with aiohttp.ClientSession() as session:
        yield Asker(f"http://{instance.address}:8079/computeMetadata/v1", session)


async def test_answers_only_to_metadata_flavor_google(vm: Asker) -> None:
    assert await vm.status("instance/id", headers={}) == 403
    assert await vm.status("instance/id", headers={"Metadata-Flavor": "Other"}) == 403
    assert await vm.status("instance/id", headers={**FLAVOR, "X-Forwarded-For": "10.0.0.1"}) == 403
    assert await vm.status("instance/id") == 200


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("instance/id", "1234567890123456789"),
        ("instance/name", "vm"),
        ("instance/zone", "projects/123456789012/zones/us-central1-a"),
        ("instance/machine-type", "projects/123456789012/machineTypes/n1-standard-16"),
        ("instance/hostname", "vm.us-central1-a.c.sandbox-project.internal"),
        ("instance/tags", '["http-server"]'),
        ("instance/preempted", "FALSE"),
        ("instance/maintenance-event", "NONE"),
        ("instance/scheduling/on-host-maintenance", "TERMINATE"),
        ("instance/attributes/startup-script", "echo hi"),
        ("instance/attributes/fleet-stack", "p/s"),
        ("instance/service-accounts/default/email", ACCOUNT),
        ("instance/service-accounts/default/scopes", "https://www.googleapis.com/auth/cloud-platform\n"),
        ("project/project-id", "sandbox-project"),
        ("project/numeric-project-id", "123456789012"),
        ("instance/attributes/", "enable-guest-attributes\nfleet-stack\nstartup-script\n"),
        ("instance/service-accounts/", f"default/\n{ACCOUNT}/\n"),
    ],
)
async def test_values(vm: Asker, path: str, value: str) -> None:
    assert await vm.text(path) == value


async def test_own_address_is_the_interface_s(vm: Asker, world: World) -> None:
    assert await vm.text("instance/network-interfaces/0/ip") == f"127.{world.settings.block}.16.1"


@pytest.mark.parametrize("path", ["instance/nothing", "instance/attributes/nothing", "nothing", "instance/id/deeper"])
async def test_unknown_paths_are_404(vm: Asker, path: str) -> None:
    assert await vm.status(path) == 404


async def test_directories_redirect_to_their_slash(vm: Asker) -> None:
    async with vm.session.get(f"{vm.root}/instance", headers=FLAVOR, allow_redirects=False) as answer:
        assert (answer.status, answer.headers["Location"]) == (301, "/computeMetadata/v1/instance/")


async def test_recursive_json_has_camel_case_names_but_the_user_s_own_keys(vm: Asker) -> None:
    instance = json.loads(await vm.text("instance/", recursive="true", alt="json"))
    assert instance["id"] == 1234567890123456789
    assert instance["attributes"]["fleet-stack"] == "p/s"
    assert instance["serviceAccounts"]["default"]["email"] == ACCOUNT
    assert instance["networkInterfaces"][0]["ip"].startswith("127.")
    assert "token" not in instance["serviceAccounts"]["default"]


async def test_token_is_the_account_s_and_expires(vm: Asker, world: World) -> None:
    token = json.loads(await vm.text("instance/service-accounts/default/token"))
    assert (token["token_type"], token["expires_in"]) == ("Bearer", 3599)
    assert Tokens(world.store).email_of(token["access_token"]) == ACCOUNT


async def test_identity_needs_an_audience_and_names_it(vm: Asker) -> None:
    assert await vm.status("instance/service-accounts/default/identity") == 400
    token = await vm.text("instance/service-accounts/default/identity", audience="https://a.example")
    claims = json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))
    assert (claims["aud"], claims["email"]) == ("https://a.example", ACCOUNT)


async def test_vm_without_account_has_no_token(world: World, server: MetadataServer) -> None:
    instance = world.instance(world.insert(name="bare", last_octet=2, service_account="", scopes=[]))
    assert instance is not None
    await server.open(instance)
    async with aiohttp.ClientSession() as session:
        bare = Asker(f"http://{instance.address}:8079/computeMetadata/v1", session)
        assert await bare.text("instance/name") == "bare"
        assert await bare.status("instance/service-accounts/default/token") == 404


async def test_waits_for_change_and_tells_the_new_value(vm: Asker, world: World) -> None:
    waiting = asyncio.create_task(vm.text("instance/preempted", wait_for_change="true", timeout_sec="20"))
    other = asyncio.create_task(vm.status("instance/name", wait_for_change="true", timeout_sec="1"))
    await asyncio.sleep(0.1)
    assert not waiting.done()
    record = MachineRecord.load(world.store, "us-central1-a/vm")
    record.preempted = True
    record.save(world.store)
    assert await asyncio.wait_for(waiting, 5) == "TRUE"
    assert not other.done()
    assert await other == 200


async def test_old_etag_answers_at_once(vm: Asker) -> None:
    started = time.monotonic()
    query = {"wait_for_change": "true", "timeout_sec": "20", "last_etag": "0"}
    assert await vm.text("instance/preempted", **query) == "FALSE"
    assert time.monotonic() - started < 10


async def test_guest_attributes_are_kept_where_enabled(vm: Asker, world: World, server: MetadataServer) -> None:
    path = f"{vm.root}/instance/guest-attributes/boot/stage"
    async with vm.session.put(path, data="ready", headers=FLAVOR) as answer:
        assert answer.status == 200
    assert await vm.text("instance/guest-attributes/boot/stage") == "ready"
    instance = world.instance(world.insert(name="plain", last_octet=3))
    assert instance is not None
    await server.open(instance)
    path = f"http://{instance.address}:8079/computeMetadata/v1/instance/guest-attributes/boot/stage"
    async with vm.session.put(path, data="ready", headers=FLAVOR) as answer:
        assert answer.status == 403


async def test_address_tells_who_asks(vm: Asker, world: World, server: MetadataServer) -> None:
    instance = world.instance(world.insert(name="second", last_octet=2))
    assert instance is not None
    await server.open(instance)
    second = Asker(f"http://{instance.address}:8079/computeMetadata/v1", vm.session)
    assert (await vm.text("instance/name"), await second.text("instance/name")) == ("vm", "second")


async def test_address_of_a_gone_vm_says_so(vm: Asker, world: World) -> None:
    world.store.delete(INSTANCE, "us-central1-a/vm")
    assert await vm.status("instance/name") == 404


@pytest.mark.usefixtures("server")
async def test_google_auth_finds_project_and_account_of_the_operator(world: World) -> None:
    address = f"{world.settings.operator_address}:8079"
    program = (
        "import google.auth, google.auth.transport.requests as r\n"
        "credentials, project = google.auth.default()\n"
        "credentials.refresh(r.Request())\n"
        "print(project, credentials.service_account_email, credentials.token)\n"
    )
    environment = {
        **{name: value for name, value in os.environ.items() if name not in {"NO_GCE_CHECK", "HOME"}},
        "GCE_METADATA_HOST": address,
        "GCE_METADATA_IP": address,
        "HOME": str(world.settings.state),
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, env=environment, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    project, email, token = output.decode().split()
    assert (project, email) == ("sandbox-project", "operator@sandbox-project.iam.gserviceaccount.com")
    assert Tokens(world.store).email_of(token) == email


def test_instance_record_survives_the_store(world: World) -> None:
    key = world.insert("x", gpus=2)
    record = world.store.get(INSTANCE, key)
    assert record is not None
    assert Instance.of(record).as_json() == record
