"""Instances and images over REST, and what reaches the internet."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from sandbox.compute.images import Images
from sandbox.compute.names import relative
from sandbox.compute.records import instance
from sandbox.compute.rest import ComputeApi
from sandbox.iam.policy import Policy
from sandbox.iam.tokens import Tokens
from sandbox.machine.disks import DiskImage
from sandbox.machine.scratch import Scratch
from sandbox.network.egress import reaches_internet
from sandbox.rest import Access, google_errors
from sandbox.settings import SandboxSettings
from sandbox.store import INSTANCE, Store
from tests.sandbox_control import world
from tests.sandbox_control.test_compute_rest import SCHEMAS, Api, differences

ZONE = f"projects/{world.PROJECT}/zones/{world.ZONES[0]}"
IMAGES = f"projects/{world.PROJECT}/global/images"
PUBLISHER = "projects/ubuntu-os-accelerator-images/global/images"
FAMILY = "ubuntu-accelerator-2404-amd64-with-nvidia-580"
STOCK = f"{PUBLISHER}/{FAMILY}-v20260820"
KEY = f"{world.ZONES[0]}/vm"


@pytest.fixture
def settings(tmp_path: Path) -> SandboxSettings:
    return world.settings(tmp_path, quotas={"NVIDIA_T4_GPUS": 1})


@pytest.fixture
async def api(settings: SandboxSettings) -> AsyncIterator[Api]:
    store = Store(settings.state / "store.db")
    access = Access(settings, Tokens(store), Policy(settings, store))
    app = web.Application(middlewares=[google_errors])
    compute = ComputeApi(settings, store, access).app()
    app.add_subapp("/compute/v1", compute)
    async with TestClient(TestServer(app)) as client:
        yield Api(settings, store, client, compute, {})
    store.close()


def body(**changes: Any) -> dict[str, Any]:
    return {
        "name": "vm",
        "machineType": f"zones/{world.ZONES[0]}/machineTypes/e2-standard-4",
        "disks": [{"boot": True, "autoDelete": True, "initializeParams": {"sourceImage": STOCK, "diskSizeGb": "50"}}],
        "networkInterfaces": [{"network": "global/networks/default"}],
        "metadata": {"items": [{"key": "startup-script", "value": "true"}]},
        "scheduling": {"maxRunDuration": {"seconds": "600"}, "instanceTerminationAction": "DELETE"},
        **changes,
    }


async def insert(api: Api, **changes: Any) -> tuple[int, Any]:
    return await api.call("POST", f"{ZONE}/instances", json=body(**changes))


async def stopped(api: Api) -> None:
    """A VM whose disk can become an image."""
    await insert(api)
    world.set_status(api.store, KEY, status="TERMINATED", desired="TERMINATED")


async def test_an_inserted_instance_is_what_was_asked_for(api: Api) -> None:
    status, operation = await insert(api, networkInterfaces=[{"network": "default", "accessConfigs": [{}]}])
    assert (status, operation["operationType"], operation["status"]) == (200, "insert", "RUNNING")
    assert list(differences(operation, SCHEMAS["Operation"], "")) == []
    vm = instance(api.store, KEY)
    assert vm is not None
    assert (vm.status, vm.image, vm.machine_type, vm.disk_gib) == ("PROVISIONING", STOCK, "e2-standard-4", 50)
    assert (vm.max_run_s, vm.at_limit, vm.external_address) == (600.0, "DELETED", True)
    assert vm.metadata == {"startup-script": "true"}
    told = await api.ok("GET", f"{ZONE}/instances/vm")
    assert list(differences(told, SCHEMAS["Instance"], "")) == []
    assert relative(told["disks"][0]["source"]) == f"{ZONE}/disks/vm"
    world.set_status(api.store, KEY, status="RUNNING")
    assert (await api.ok("GET", relative(operation["selfLink"])))["status"] == "DONE"


async def test_a_deleted_instance_is_wanted_no_more(api: Api) -> None:
    await insert(api)
    operation = await api.ok("DELETE", f"{ZONE}/instances/vm")
    assert operation["status"] == "RUNNING"
    vm = instance(api.store, KEY)
    assert vm is not None
    assert vm.desired == "DELETED"
    api.store.delete(INSTANCE, KEY)
    assert (await api.ok("GET", relative(operation["selfLink"])))["status"] == "DONE"


async def test_a_repeated_request_changes_nothing_more(api: Api) -> None:
    path = f"{ZONE}/instances?requestId=5b1f"
    first = await api.ok("POST", path, json=body())
    again = await api.ok("POST", path, json=body())
    assert again["name"] == first["name"]
    assert (await insert(api))[0] == 409


@pytest.mark.parametrize(
    ("changes", "status", "words"),
    [
        ({"name": "Vm"}, 400, "resource.name"),
        ({"canIpForward": True}, 501, "canIpForward"),
        ({"scheduling": {"minNodeCpus": 4}}, 501, "scheduling.minNodeCpus"),
        ({"disks": []}, 501, "one disk"),
        ({"networkInterfaces": []}, 501, "one network interface"),
        ({"disks": [{"boot": True, "initializeParams": {"sourceImage": f"{IMAGES}/none"}}]}, 404, f"{IMAGES}/none"),
        ({"metadata": {"items": [{"key": "a", "value": "x" * 262145}]}}, 400, "too large"),
        ({"metadata": {"items": [{"key": k, "value": "x" * 200000} for k in "abc"]}}, 400, "too large"),
        (
            {"guestAccelerators": [{"acceleratorType": "nvidia-tesla-t4", "acceleratorCount": 2}]},
            403,
            "NVIDIA_T4_GPUS",
        ),
    ],
)
async def test_what_the_cloud_refuses_or_nobody_models_makes_no_instance(
    api: Api, changes: dict[str, Any], status: int, words: str
) -> None:
    found, answer = await insert(api, **changes)
    assert (found, words in answer["error"]["message"]) == (status, True), answer
    assert list(api.store.items(INSTANCE)) == []


async def test_vms_may_not_make_vms_or_images(api: Api) -> None:
    for path in (f"{ZONE}/instances", IMAGES):
        assert (await api.call("POST", path, email=world.ACCOUNT, json=body()))[0] == 403


# --- Images ----------------------------------------------------------------------------------------------------------


async def test_the_newest_of_a_family_is_the_latest_that_is_not_deprecated(api: Api) -> None:
    listed = (await api.ok("GET", PUBLISHER))["items"]
    members = [one for one in listed if one["family"] == FAMILY]
    assert len(members) == 3
    assert "deprecated" in max(members, key=lambda one: str(one["creationTimestamp"]))
    newest = await api.ok("GET", f"{PUBLISHER}/family/{FAMILY}")
    good = [one for one in members if "deprecated" not in one]
    assert newest == max(good, key=lambda one: str(one["creationTimestamp"]))
    for one in listed:
        assert list(differences(one, SCHEMAS["Image"], "")) == []
    assert (await api.call("GET", f"{PUBLISHER}/family/none"))[0] == 404


async def test_an_image_is_made_of_a_stopped_vm_and_deleted(api: Api, settings: SandboxSettings) -> None:
    await stopped(api)
    scratch = Scratch.of(settings.state, KEY)
    scratch.disk.mkdir(parents=True)
    (scratch.disk / "marker").write_text("here")
    wanted = {"name": "mine", "family": "ours", "description": "why", "sourceDisk": f"{ZONE}/disks/vm"}
    operation = await api.ok("POST", IMAGES, json=wanted)
    assert (await api.ok("GET", relative(operation["selfLink"])))["status"] == "DONE"
    made = await api.ok("GET", f"{IMAGES}/mine")
    assert list(differences(made, SCHEMAS["Image"], "")) == []
    assert (made["status"], made["diskSizeGb"], made["description"]) == ("READY", "50", "why")
    assert (await api.ok("GET", f"{IMAGES}/family/ours"))["name"] == "mine"
    disk = DiskImage.of(settings.state, f"{IMAGES}/mine")
    fresh = Scratch(settings.state / "fresh")
    disk.restore(fresh)
    assert ((fresh.disk / "marker").read_text(), disk.origin) == ("here", STOCK)
    assert (await api.call("POST", IMAGES, json=wanted))[0] == 409
    await api.ok("DELETE", f"{IMAGES}/mine")
    assert not disk.exists
    assert (await api.call("GET", f"{IMAGES}/mine"))[0] == 404
    assert (await api.call("DELETE", f"{IMAGES}/mine"))[0] == 404


async def test_an_image_of_an_image_goes_back_to_the_stock_image(api: Api, settings: SandboxSettings) -> None:
    await stopped(api)
    await api.ok("POST", IMAGES, json={"name": "mine", "sourceDisk": f"{ZONE}/disks/vm"})
    world.set_status(api.store, KEY, image=f"{IMAGES}/mine")
    await api.ok("POST", IMAGES, json={"name": "second", "sourceDisk": f"{ZONE}/disks/vm"})
    assert DiskImage.of(settings.state, f"{IMAGES}/second").origin == STOCK


@pytest.mark.parametrize(
    ("wanted", "status", "words"),
    [
        ({"name": "mine", "sourceDisk": f"{ZONE}/disks/none"}, 404, "disks/none"),
        ({"name": "mine", "sourceDisk": f"{ZONE}/disks/vm"}, 400, "is already being used by"),
        ({"name": "mine", "sourceSnapshot": "x"}, 501, "sourceSnapshot"),
    ],
)
async def test_an_image_needs_a_disk_that_is_not_in_use(
    api: Api, wanted: dict[str, str], status: int, words: str
) -> None:
    await insert(api)
    found, answer = await api.call("POST", IMAGES, json=wanted)
    assert (found, words in answer["error"]["message"]) == (status, True), answer


async def test_an_image_is_known_once_it_is_whole(api: Api, settings: SandboxSettings) -> None:
    await stopped(api)
    vm = instance(api.store, KEY)
    assert vm is not None
    images = Images(settings, api.store)
    images.copy(f"{IMAGES}/mine", vm)  # A daemon that is killed here has left a copy that nobody knows.
    assert images.find(f"{IMAGES}/mine") is None
    await api.ok("POST", IMAGES, json={"name": "mine", "sourceDisk": f"{ZONE}/disks/vm"})
    assert images.find(f"{IMAGES}/mine") is not None


# --- The internet ----------------------------------------------------------------------------------------------------

SUBNET = f"projects/{world.PROJECT}/regions/{world.REGION}/subnetworks/sub"
ROUTER = f"projects/{world.PROJECT}/regions/{world.REGION}/routers/router"


def declare_network(store: Store) -> None:
    world.declare(store, "gcp:compute/network:Network", world.NETWORK, {})
    world.declare(store, "gcp:compute/subnetwork:Subnetwork", SUBNET, {"network": world.NETWORK})
    world.declare(store, "gcp:compute/router:Router", ROUTER, {"network": world.NETWORK})


def declare_nat(store: Store, region: str = world.REGION, subnetworks: tuple[str, ...] | None = None) -> None:
    which = "ALL_SUBNETWORKS_ALL_IP_RANGES" if subnetworks is None else "LIST_OF_SUBNETWORKS"
    inputs: dict[str, Any] = {"sourceSubnetworkIpRangesToNat": which}
    if subnetworks is not None:
        inputs["subnetworks"] = [{"name": name} for name in subnetworks]
    world.declare(store, "gcp:compute/routerNat:RouterNat", f"{world.PROJECT}/{region}/router/nat", inputs)


@pytest.mark.parametrize(
    ("interface", "nat", "reaches"),
    [
        ({"network": "global/networks/default"}, None, False),
        ({"network": "global/networks/default", "accessConfigs": [{}]}, None, True),
        ({"network": "projects/other/global/networks/shared"}, None, True),
        ({"network": world.NETWORK, "subnetwork": SUBNET}, None, False),
        ({"network": world.NETWORK, "subnetwork": SUBNET}, {}, True),
        ({"network": world.NETWORK, "subnetwork": SUBNET}, {"subnetworks": (SUBNET,)}, True),
        ({"network": world.NETWORK, "subnetwork": SUBNET}, {"subnetworks": (f"{SUBNET}2",)}, False),
        ({"network": world.NETWORK, "subnetwork": SUBNET}, {"region": "europe-west1", "subnetworks": (SUBNET,)}, False),
    ],
)
async def test_the_internet_is_behind_an_external_address_or_nat(
    api: Api, interface: dict[str, Any], nat: dict[str, Any] | None, reaches: bool
) -> None:
    declare_network(api.store)
    if nat is not None:
        declare_nat(api.store, **nat)
    await insert(api, networkInterfaces=[interface])
    vm = instance(api.store, KEY)
    assert vm is not None
    assert reaches_internet(api.store, vm) is reaches
