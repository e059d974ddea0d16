"""Compute Engine v1 REST: the calls that gates, clients and builders make. Any other is answered 501 by name."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import Final, Literal

from aiohttp import web

from sandbox.balancer.chain import address_of
from sandbox.compute import operations, wire
from sandbox.compute.changes import Changes
from sandbox.compute.checks import autohealing_check, serving_check, serving_port
from sandbox.compute.declared import (
    AUTOSCALER,
    BACKEND_SERVICE,
    FORWARDING_RULE,
    GROUP_MANAGER,
    INSTANCE_TEMPLATE,
    backend_service,
    declared,
    group,
    properties,
)
from sandbox.compute.instances import placement_fault, quota_metric
from sandbox.compute.names import group_manager_of, region_of, relative, same, self_link
from sandbox.compute.records import (
    GroupRecord,
    autoscaler_record,
    group_record,
    health_of,
    instance,
    instances,
)
from sandbox.compute.rollout import Health, Member
from sandbox.machine.instance import Instance
from sandbox.machine.scratch import Scratch
from sandbox.network.addresses import Addresses
from sandbox.rest import Access, ApiError, json_body, only_parameters
from sandbox.settings import SandboxSettings
from sandbox.store import INSTANCE, RESOURCE, Json, Store

_PAGING: Final = ("maxResults", "pageToken", "orderBy", "returnPartialSuccess")
_SERIAL_LIMIT: Final = 1024 * 1024
"""Bytes of one serial port answer (compute v1, instances.getSerialPortOutput)."""


class ComputeApi:
    """Handlers under `/compute/v1`."""

    def __init__(self, settings: SandboxSettings, store: Store, access: Access) -> None:
        self._settings = settings
        self._project = settings.project
        self._store = store
        self._access = access
        self._addresses = Addresses(settings, store)

    def app(self) -> web.Application:
        """The sub-application to mount at `/compute/v1`."""
        app = web.Application()
        project, region, zone = "/projects/{project}", "/regions/{region}", "/zones/{zone}"
        managers = f"{project}{region}/instanceGroupManagers"
        vms = f"{project}{zone}/instances"
        router = app.router
        router.add_get(project, self._get_project)
        router.add_get(f"{project}{region}", self._get_region)
        router.add_get(managers, self._list_groups)
        router.add_get(f"{managers}/{{name}}", self._get_group)
        router.add_post(f"{managers}/{{name}}/listManagedInstances", self._list_managed)
        router.add_get(f"{project}{region}/autoscalers", self._list_autoscalers)
        router.add_get(f"{project}{region}/autoscalers/{{name}}", self._get_autoscaler)
        router.add_get(f"{project}/aggregated/instances", self._aggregate_instances)
        router.add_get(vms, self._list_instances)
        router.add_get(f"{vms}/{{name}}", self._get_instance)
        router.add_get(f"{vms}/{{name}}/serialPort", self._serial_port)
        router.add_post(f"{vms}/{{name}}/start", self._start)
        router.add_post(f"{vms}/{{name}}/stop", self._stop)
        router.add_get(f"{project}{zone}/operations/{{name}}", self._get_operation)
        router.add_get(f"{project}/global/backendServices", self._list_backend_services)
        router.add_get(f"{project}/global/backendServices/{{name}}", self._get_backend_service)
        router.add_post(f"{project}/global/backendServices/{{name}}/getHealth", self._get_health)
        router.add_get(f"{project}/global/forwardingRules", self._list_rules)
        router.add_get(f"{project}/global/forwardingRules/{{name}}", self._get_rule)
        router.add_get(f"{project}/global/instanceTemplates/{{name}}", self._get_template)
        Changes(self._settings, self._store, self._access, self._vm).add_to(router)
        return app

    # --- Project and region ------------------------------------------------------------------------------------------

    async def _get_project(self, request: web.Request) -> web.Response:
        self._access.demand(request, "compute.projects.get")
        only_parameters(request)
        link = self_link(f"projects/{self._project}")
        number = str(self._settings.project_number)
        return web.json_response(
            {"kind": "compute#project", "id": number, "name": self._project, "selfLink": link, "quotas": []}
        )

    async def _get_region(self, request: web.Request) -> web.Response:
        self._access.demand(request, "compute.regions.get")
        only_parameters(request)
        region = request.match_info["region"]
        used: Counter[str] = Counter()
        for vm in instances(self._store):
            if vm.gpus and vm.status != "TERMINATED" and region_of(vm.zone) == region:
                used[quota_metric(vm.gpu_type, preemptible=vm.preemptible)] += vm.gpus
        quotas = [wire.quota(metric, limit, used[metric]) for metric, limit in self._settings.quotas.items()]
        link = self_link(f"projects/{self._project}/regions/{region}")
        return web.json_response({"kind": "compute#region", "name": region, "selfLink": link, "quotas": quotas})

    # --- Groups and autoscalers --------------------------------------------------------------------------------------

    async def _get_group(self, request: web.Request) -> web.Response:
        self._access.demand(request, "compute.instanceGroupManagers.get")
        only_parameters(request)
        identifier = self._regional(request, "instanceGroupManagers")
        return web.json_response(self._group(identifier, self._resource(GROUP_MANAGER, identifier)))

    async def _list_groups(self, request: web.Request) -> web.Response:
        self._access.demand(request, "compute.instanceGroupManagers.list")
        only_parameters(request, *_PAGING)
        items = [self._group(*entry) for entry in self._in_region(request, GROUP_MANAGER)]
        where = f"projects/{self._project}/regions/{request.match_info['region']}/instanceGroupManagers"
        return web.json_response(wire.collection("regionInstanceGroupManagerList", where, items))

    async def _list_managed(self, request: web.Request) -> web.Response:
        self._access.demand(request, "compute.instanceGroupManagers.get")
        only_parameters(request, *_PAGING)
        identifier = self._regional(request, "instanceGroupManagers")
        owner = group(identifier, self._resource(GROUP_MANAGER, identifier))
        record = group_record(self._store, identifier) or GroupRecord()
        healing = autohealing_check(self._store, owner)

        def shape(member: Member) -> Json:
            vm = self._vm_of(member)
            known = health_of(self._store, healing.check.id, vm, healing.port) if healing and vm else None
            liveness: Health = known.state if known else "UNKNOWN"
            return wire.managed_instance(owner, member, vm, liveness)

        items = [shape(member) for member in record.members]
        return web.json_response({"managedInstances": items} if items else {})

    async def _get_autoscaler(self, request: web.Request) -> web.Response:
        self._access.demand(request, "compute.autoscalers.get")
        only_parameters(request)
        identifier = self._regional(request, "autoscalers")
        found = properties(self._resource(AUTOSCALER, identifier))
        return web.json_response(wire.autoscaler(identifier, found, autoscaler_record(self._store, identifier)))

    async def _list_autoscalers(self, request: web.Request) -> web.Response:
        self._access.demand(request, "compute.autoscalers.list")
        only_parameters(request, *_PAGING)
        items = [
            wire.autoscaler(identifier, properties(record), autoscaler_record(self._store, identifier))
            for identifier, record in self._in_region(request, AUTOSCALER)
        ]
        where = f"projects/{self._project}/regions/{request.match_info['region']}/autoscalers"
        return web.json_response(wire.collection("regionAutoscalerList", where, items))

    def _group(self, identifier: str, resource: Json) -> Json:
        owner = group(identifier, resource)
        record = group_record(self._store, identifier) or GroupRecord()
        scaler = next(
            (name for name, found in declared(self._store, AUTOSCALER) if same(found["target"], identifier)), ""
        )
        return wire.group_manager(owner, properties(resource), record, scaler)

    # --- Instances ---------------------------------------------------------------------------------------------------

    async def _get_instance(self, request: web.Request) -> web.Response:
        self._access.demand(request, "compute.instances.get")
        only_parameters(request)
        return web.json_response(wire.instance(self._vm(request), self._project))

    async def _list_instances(self, request: web.Request) -> web.Response:
        self._access.demand(request, "compute.instances.list")
        only_parameters(request, *_PAGING)
        zone = request.match_info["zone"]
        items = [wire.instance(vm, self._project) for vm in instances(self._store) if vm.zone == zone]
        where = f"projects/{self._project}/zones/{zone}/instances"
        return web.json_response(wire.collection("instanceList", where, items))

    async def _aggregate_instances(self, request: web.Request) -> web.Response:
        self._access.demand(request, "compute.instances.list")
        only_parameters(request, *_PAGING)
        zones: defaultdict[str, list[Json]] = defaultdict(list)
        for vm in instances(self._store):
            zones[f"zones/{vm.zone}"].append(wire.instance(vm, self._project))
        where = f"projects/{self._project}/aggregated/instances"
        answer = wire.collection("instanceAggregatedList", where, [])
        return web.json_response(answer | {"items": {zone: {"instances": found} for zone, found in zones.items()}})

    async def _serial_port(self, request: web.Request) -> web.Response:
        self._access.demand(request, "compute.instances.getSerialPortOutput")
        only_parameters(request, "port", "start")
        vm = self._vm(request)
        if request.query.get("port", "1") != "1":
            raise ApiError(501, "The sandbox models serial port 1 only.")
        start = int(request.query.get("start", "0"))
        log = Scratch.of(self._settings.state, vm.key).serial_log
        data = log.read_bytes() if log.exists() else b""
        begin = start if start > 0 else max(0, len(data) - _SERIAL_LIMIT)
        part = data[begin : begin + _SERIAL_LIMIT]
        return web.json_response(
            {
                "kind": "compute#serialPortOutput",
                "selfLink": self_link(f"projects/{self._project}/zones/{vm.zone}/instances/{vm.name}/serialPort"),
                "contents": part.decode(errors="replace"),
                "start": str(begin),
                "next": str(begin + len(part)),
            }
        )

    async def _start(self, request: web.Request) -> web.Response:
        return self._power(request, "start", "RUNNING")

    async def _stop(self, request: web.Request) -> web.Response:
        return self._power(request, "stop", "TERMINATED")

    def _power(self, request: web.Request, verb: str, desired: Literal["RUNNING", "TERMINATED"]) -> web.Response:
        email = self._access.demand(request, f"compute.instances.{verb}")
        only_parameters(request, "requestId")
        vm = self._vm(request)
        if vm.desired == "DELETED":
            raise ApiError(400, f"The resource '{self._path(vm)}' is not ready: it is being deleted")
        asked: Json = {
            "target": self._path(vm),
            "zone": vm.zone,
            "instance": vm.name,
            "numeric_id": vm.numeric_id,
            "desired": desired,
        }
        fault = None
        if verb == "start" and vm.status == "TERMINATED":
            fault = placement_fault(vm, instances(self._store), self._settings)
        if fault is None:
            self._store.put(INSTANCE, vm.key, replace(vm, desired=desired).as_json())
            self._store.event(vm.name, f"{verb} asked for by {email}")
        else:
            asked["fault"] = asdict(fault)
            self._store.event(vm.name, f"{verb} asked for by {email}: {fault.code}: {fault.message}")
        return self._operation(operations.begin(self._store, request, email, verb, asked))

    async def _get_operation(self, request: web.Request) -> web.Response:
        self._access.demand(request, "compute.zoneOperations.get")
        only_parameters(request)
        record = operations.find(self._store, request.match_info["name"], request.match_info["zone"])
        if record is None:
            raise _not_found(relative(request.path))
        return self._operation(record)

    def _operation(self, record: Json) -> web.Response:
        done = operations.is_done(self._store, record)
        return web.json_response(wire.operation(record, done=done, project=self._project))

    # --- Load balancing ----------------------------------------------------------------------------------------------

    async def _get_backend_service(self, request: web.Request) -> web.Response:
        self._access.demand(request, "compute.backendServices.get")
        only_parameters(request)
        identifier = self._global(request, "backendServices")
        found = properties(self._resource(BACKEND_SERVICE, identifier))
        return web.json_response(wire.backend_service(backend_service(identifier, found), found))

    async def _list_backend_services(self, request: web.Request) -> web.Response:
        self._access.demand(request, "compute.backendServices.list")
        only_parameters(request, *_PAGING)
        items = [
            wire.backend_service(backend_service(identifier, found), found)
            for identifier, found in declared(self._store, BACKEND_SERVICE)
        ]
        where = f"projects/{self._project}/global/backendServices"
        return web.json_response(wire.collection("backendServiceList", where, items))

    async def _get_health(self, request: web.Request) -> web.Response:
        self._access.demand(request, "compute.backendServices.get")
        only_parameters(request)
        identifier = self._global(request, "backendServices")
        service = backend_service(identifier, properties(self._resource(BACKEND_SERVICE, identifier)))
        wanted = str((await json_body(request)).get("group", ""))
        manager = group_manager_of(wanted)
        if not any(backend.group == manager for backend in service.backends):
            raise ApiError(
                400, f"Invalid value for field 'resource.group': '{wanted}'. The group is no backend of {identifier}."
            )
        owner = group(manager, self._resource(GROUP_MANAGER, manager))
        record = group_record(self._store, manager) or GroupRecord()
        checked = serving_check(self._store, service, owner)
        port = serving_port(service, owner) or 0
        statuses = [
            wire.health_status(
                vm,
                self._project,
                port,
                health_of(self._store, checked.check.id, vm, checked.port) if checked else None,
            )
            for member in record.members
            if (vm := self._vm_of(member)) is not None
        ]
        answer: Json = {"kind": "compute#backendServiceGroupHealth"}
        return web.json_response({**answer, "healthStatus": statuses} if statuses else answer)

    async def _get_rule(self, request: web.Request) -> web.Response:
        self._access.demand(request, "compute.globalForwardingRules.get")
        only_parameters(request)
        identifier = self._global(request, "forwardingRules")
        return web.json_response(self._rule(identifier, properties(self._resource(FORWARDING_RULE, identifier))))

    async def _list_rules(self, request: web.Request) -> web.Response:
        self._access.demand(request, "compute.globalForwardingRules.list")
        only_parameters(request, *_PAGING)
        items = [self._rule(identifier, found) for identifier, found in declared(self._store, FORWARDING_RULE)]
        where = f"projects/{self._project}/global/forwardingRules"
        return web.json_response(wire.collection("forwardingRuleList", where, items))

    def _rule(self, identifier: str, found: Json) -> Json:
        address = address_of(self._store, self._addresses, identifier, found.get("ipAddress") or "")
        return wire.forwarding_rule(identifier, found, address)

    # --- Templates --------------------------------------------------------------------------------------------------

    async def _get_template(self, request: web.Request) -> web.Response:
        self._access.demand(request, "compute.instanceTemplates.get")
        only_parameters(request)
        identifier = self._global(request, "instanceTemplates")
        return web.json_response(
            wire.instance_template(identifier, properties(self._resource(INSTANCE_TEMPLATE, identifier)))
        )

    # --- Finding -----------------------------------------------------------------------------------------------------

    def _resource(self, type_token: str, identifier: str) -> Json:
        record = self._store.get(RESOURCE, identifier)
        if record is None or record["type"] != type_token:
            raise _not_found(identifier)
        return record

    def _in_region(self, request: web.Request, type_token: str) -> Iterator[tuple[str, Json]]:
        where = f"/regions/{request.match_info['region']}/"
        return ((name, record) for name, record in self._store.resources(type_token) if where in name)

    def _regional(self, request: web.Request, kind: str) -> str:
        region, name = request.match_info["region"], request.match_info["name"]
        return f"projects/{self._project}/regions/{region}/{kind}/{name}"

    def _global(self, request: web.Request, kind: str) -> str:
        return f"projects/{self._project}/global/{kind}/{request.match_info['name']}"

    def _vm(self, request: web.Request) -> Instance:
        vm = instance(self._store, f"{request.match_info['zone']}/{request.match_info['name']}")
        if vm is None:
            raise _not_found(relative(request.path))
        return vm

    def _vm_of(self, member: Member) -> Instance | None:
        return instance(self._store, f"{member.zone}/{member.name}")

    def _path(self, vm: Instance) -> str:
        return f"projects/{self._project}/zones/{vm.zone}/instances/{vm.name}"


def _not_found(identifier: str) -> ApiError:
    return ApiError(404, f"The resource '{identifier}' was not found")
