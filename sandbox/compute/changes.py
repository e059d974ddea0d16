"""Compute Engine v1 REST calls that make and delete instances and images."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from typing import Any, Final

from aiohttp import web

from sandbox.compute import operations, wire
from sandbox.compute.images import Images
from sandbox.compute.instances import from_template, placement_fault
from sandbox.compute.names import relative, short
from sandbox.compute.records import instance, instances
from sandbox.compute.rollout import Member
from sandbox.machine.instance import Instance
from sandbox.network.addresses import Addresses
from sandbox.rest import Access, ApiError, json_body, only_parameters
from sandbox.settings import SandboxSettings
from sandbox.store import INSTANCE, Json, Store

_NAME = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")
_METADATA_VALUE_LIMIT: Final = 256 * 1024
_METADATA_LIMIT: Final = 512 * 1024
"""Bytes of one value and of all (Google Cloud, "About VM metadata", 2026-11)."""

_INSTANCE_FIELDS: Final = frozenset(
    {
        "name",
        "description",
        "machineType",
        "minCpuPlatform",
        "disks",
        "networkInterfaces",
        "metadata",
        "tags",
        "labels",
        "scheduling",
        "serviceAccounts",
        "guestAccelerators",
        "shieldedInstanceConfig",
    }
)
_DISK_FIELDS: Final = frozenset({"boot", "autoDelete", "initializeParams"})
_DISK_PARAMETERS: Final = frozenset({"sourceImage", "diskSizeGb", "diskType"})
_INTERFACE_FIELDS: Final = frozenset({"network", "subnetwork", "accessConfigs"})
_SCHEDULING_FIELDS: Final = frozenset(
    {
        "preemptible",
        "automaticRestart",
        "provisioningModel",
        "onHostMaintenance",
        "maxRunDuration",
        "instanceTerminationAction",
    }
)
_IMAGE_FIELDS: Final = frozenset({"name", "description", "family", "labels", "sourceDisk"})


class Changes:
    """Handlers; `vm_of` finds the instance that a request names, or raises ApiError."""

    def __init__(
        self, settings: SandboxSettings, store: Store, access: Access, vm_of: Callable[[web.Request], Instance]
    ) -> None:
        self._settings = settings
        self._project = settings.project
        self._store = store
        self._access = access
        self._vm_of = vm_of
        self._images = Images(settings, store)
        self._addresses = Addresses(settings, store)

    def add_to(self, router: web.UrlDispatcher) -> None:
        """Add the routes."""
        vms = "/projects/{project}/zones/{zone}/instances"
        images = "/projects/{project}/global/images"
        router.add_post(vms, self._insert_instance)
        router.add_delete(f"{vms}/{{name}}", self._delete_instance)
        router.add_get(images, self._list_images)
        router.add_post(images, self._insert_image)
        router.add_get(f"{images}/family/{{family}}", self._newest_image)
        router.add_get(f"{images}/{{name}}", self._get_image)
        router.add_delete(f"{images}/{{name}}", self._delete_image)
        router.add_get("/projects/{project}/global/operations/{name}", self._get_operation)

    # --- Instances ---------------------------------------------------------------------------------------------------

    async def _insert_instance(self, request: web.Request) -> web.Response:
        email = self._access.demand(request, "compute.instances.create")
        only_parameters(request, "requestId")
        if (earlier := operations.repeated(self._store, request)) is not None:
            return self._operation(earlier)
        body, zone = await json_body(request), request.match_info["zone"]
        template = self._template(body)
        name = _checked_name(body)
        if instance(self._store, f"{zone}/{name}") is not None:
            raise ApiError(409, f"The resource '{self._path(zone, name)}' already exists")
        self._require_image(template["disks"][0]["sourceImage"])
        member = Member(name=name, zone=zone, template="", created=time.time())
        vm = from_template(template, member, group="", now=time.time())
        fault = placement_fault(vm, instances(self._store), self._settings)
        if fault is not None and fault.code == "QUOTA_EXCEEDED":
            raise ApiError(403, fault.message)
        if fault is not None:
            return self._begin(request, email, "insert", self._asked(vm) | {"fault": asdict(fault)})
        vm = replace(vm, address=self._addresses.for_instance(vm.key))
        self._store.put(INSTANCE, vm.key, vm.as_json())
        self._store.event(vm.name, f"inserted by {email}")
        return self._begin(request, email, "insert", self._asked(vm))

    async def _delete_instance(self, request: web.Request) -> web.Response:
        email = self._access.demand(request, "compute.instances.delete")
        only_parameters(request, "requestId")
        if (earlier := operations.repeated(self._store, request)) is not None:
            return self._operation(earlier)
        vm = replace(self._vm_of(request), desired="DELETED")
        self._store.put(INSTANCE, vm.key, vm.as_json())
        # It is the last to be handed out again, so the VM has long shut down by then.
        self._addresses.release_instance(vm.key)
        self._store.event(vm.name, f"delete asked for by {email}")
        return self._begin(request, email, "delete", self._asked(vm))

    def _template(self, body: Mapping[str, Any]) -> Json:
        """An Instance of the API in the form that instance templates have here."""
        _only(body, _INSTANCE_FIELDS, "")
        disks = body.get("disks") or []
        if len(disks) != 1 or not disks[0].get("boot"):
            raise ApiError(501, "The sandbox models instances with one disk, which they boot from.")
        _only(disks[0], _DISK_FIELDS, "disks[0].")
        parameters = disks[0].get("initializeParams") or {}
        _only(parameters, _DISK_PARAMETERS, "disks[0].initializeParams.")
        interfaces = body.get("networkInterfaces") or []
        if len(interfaces) != 1:
            raise ApiError(501, "The sandbox models instances with one network interface.")
        _only(interfaces[0], _INTERFACE_FIELDS, "networkInterfaces[0].")
        _only(body.get("scheduling") or {}, _SCHEDULING_FIELDS, "scheduling.")
        account = (body.get("serviceAccounts") or [{}])[0]
        return {
            "machineType": body.get("machineType", ""),
            "disks": [
                {
                    "boot": True,
                    "sourceImage": relative(str(parameters.get("sourceImage", ""))),
                    "diskSizeGb": parameters.get("diskSizeGb"),
                }
            ],
            "networkInterfaces": [dict(interfaces[0])],
            "metadata": _metadata(body),
            "tags": (body.get("tags") or {}).get("items") or [],
            "labels": body.get("labels") or {},
            "scheduling": body.get("scheduling") or {},
            "serviceAccount": {"email": account.get("email", ""), "scopes": account.get("scopes") or []},
            "guestAccelerators": [
                {"type": one["acceleratorType"], "count": one["acceleratorCount"]}
                for one in body.get("guestAccelerators") or ()
            ],
        }

    def _require_image(self, name: str) -> None:
        if self._images.find(name) is None:
            raise ApiError(404, f"The resource '{name}' was not found")

    def _asked(self, vm: Instance) -> Json:
        return {
            "target": self._path(vm.zone, vm.name),
            "zone": vm.zone,
            "instance": vm.name,
            "numeric_id": vm.numeric_id,
            "desired": vm.desired,
        }

    # --- Images ------------------------------------------------------------------------------------------------------

    async def _list_images(self, request: web.Request) -> web.Response:
        self._access.recognise(request)
        only_parameters(request, "maxResults", "pageToken", "orderBy", "returnPartialSuccess")
        project = request.match_info["project"]
        where = f"projects/{project}/global/images"
        return web.json_response(wire.collection("imageList", where, self._images.of_project(project)))

    async def _get_image(self, request: web.Request) -> web.Response:
        self._access.recognise(request)
        only_parameters(request)
        found = self._images.find(self._image_name(request))
        if found is None:
            raise ApiError(404, f"The resource '{self._image_name(request)}' was not found")
        return web.json_response(found)

    async def _newest_image(self, request: web.Request) -> web.Response:
        self._access.recognise(request)
        only_parameters(request)
        project, family = request.match_info["project"], request.match_info["family"]
        found = self._images.newest(project, family)
        if found is None:
            raise ApiError(404, f"The resource 'projects/{project}/global/images/family/{family}' was not found")
        return web.json_response(found)

    async def _insert_image(self, request: web.Request) -> web.Response:
        email = self._access.demand(request, "compute.images.create")
        only_parameters(request, "requestId")
        if (earlier := operations.repeated(self._store, request)) is not None:
            return self._operation(earlier)
        body = await json_body(request)
        _only(body, _IMAGE_FIELDS, "")
        name = f"projects/{self._project}/global/images/{_checked_name(body)}"
        if self._images.find(name) is not None:
            raise ApiError(409, f"The resource '{name}' already exists")
        vm = self._vm_with_disk(str(body.get("sourceDisk", "")))
        described = {field: body[field] for field in ("description", "family", "labels", "sourceDisk") if field in body}
        await asyncio.to_thread(self._images.copy, name, vm)
        self._images.record(name, vm, described)
        self._store.event(short(name), f"image made of {vm.name}'s disk by {email}")
        return self._begin(request, email, "insert", {"target": name})

    async def _delete_image(self, request: web.Request) -> web.Response:
        email = self._access.demand(request, "compute.images.delete")
        only_parameters(request, "requestId")
        if (earlier := operations.repeated(self._store, request)) is not None:
            return self._operation(earlier)
        name = self._image_name(request)
        if not self._images.remove(name):
            raise ApiError(404, f"The resource '{name}' was not found")
        self._store.event(short(name), f"image deleted by {email}")
        return self._begin(request, email, "delete", {"target": name})

    def _vm_with_disk(self, disk: str) -> Instance:
        """The stopped instance whose boot disk this is: disks here live and go with their instances."""
        match = re.fullmatch(r"projects/[^/]+/zones/(?P<zone>[^/]+)/disks/(?P<name>[^/]+)", relative(disk))
        vm = instance(self._store, f"{match['zone']}/{match['name']}") if match else None
        if vm is None:
            raise ApiError(404, f"The resource '{relative(disk)}' was not found")
        if vm.status != "TERMINATED":
            user = self._path(vm.zone, vm.name)
            raise ApiError(400, f"The disk resource '{relative(disk)}' is already being used by '{user}'")
        return vm

    def _image_name(self, request: web.Request) -> str:
        return f"projects/{request.match_info['project']}/global/images/{request.match_info['name']}"

    # --- Operations --------------------------------------------------------------------------------------------------

    async def _get_operation(self, request: web.Request) -> web.Response:
        self._access.demand(request, "compute.globalOperations.get")
        only_parameters(request)
        record = operations.find(self._store, request.match_info["name"], None)
        if record is None:
            raise ApiError(404, f"The resource '{relative(request.path)}' was not found")
        return self._operation(record)

    def _begin(self, request: web.Request, email: str, verb: str, asked: Json) -> web.Response:
        return self._operation(operations.begin(self._store, request, email, verb, asked))

    def _operation(self, record: Json) -> web.Response:
        done = operations.is_done(self._store, record)
        return web.json_response(wire.operation(record, done=done, project=self._project))

    def _path(self, zone: str, name: str) -> str:
        return f"projects/{self._project}/zones/{zone}/instances/{name}"


def _only(body: Mapping[str, Any], known: frozenset[str], where: str) -> None:
    """Refuse fields that the sandbox would ignore. Raises ApiError 501."""
    unknown = sorted(set(body) - known)
    if unknown:
        raise ApiError(501, f"The sandbox does not model the field {where}{unknown[0]} here.")


def _checked_name(body: Mapping[str, Any]) -> str:
    name = str(body.get("name", ""))
    if not _NAME.fullmatch(name):
        raise ApiError(
            400,
            f"Invalid value for field 'resource.name': '{name}'. Must be a match of regex "
            "'(?:[a-z](?:[-a-z0-9]{0,61}[a-z0-9])?)'",
        )
    return name


def _metadata(body: Mapping[str, Any]) -> dict[str, str]:
    items = (body.get("metadata") or {}).get("items") or []
    sizes = [len(str(item["value"]).encode()) for item in items]
    if any(size > _METADATA_VALUE_LIMIT for size in sizes) or sum(sizes) > _METADATA_LIMIT:
        raise ApiError(
            400,
            "Value for field 'resource.metadata.items' is too large: maximum size "
            f"{_METADATA_VALUE_LIMIT} character(s) a value, {_METADATA_LIMIT} in all.",
        )
    return {str(item["key"]): str(item["value"]) for item in items}
