"""Compute v1 REST: every answer held against Google's discovery document, and who may ask."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from sandbox.compute.names import self_link
from sandbox.compute.records import AUTOSCALER, AutoscalerRecord, instances, put_record
from sandbox.compute.rest import ComputeApi
from sandbox.iam.policy import Policy, operator_email
from sandbox.iam.tokens import Tokens
from sandbox.machine.scratch import Scratch
from sandbox.rest import Access, google_errors
from sandbox.settings import SandboxSettings
from sandbox.store import Store
from tests.sandbox_control import world
from tests.sandbox_control.test_groups import Rig

ZONE = f"projects/{world.PROJECT}/zones/{world.ZONES[0]}"
REGION = f"projects/{world.PROJECT}/regions/{world.REGION}"
GLOBAL = f"projects/{world.PROJECT}/global"


class Api:
    def __init__(
        self,
        settings: SandboxSettings,
        store: Store,
        client: TestClient[web.Request, web.Application],
        app: web.Application,
        stockouts: dict[str, frozenset[str]],
    ) -> None:
        self.store = store
        self.app = app
        self.stockouts = stockouts
        self.vms: dict[str, str] = {}
        self._client = client
        self._tokens = Tokens(store)
        self._operator = operator_email(settings)

    async def call(self, method: str, path: str, email: str | None = None, **more: Any) -> tuple[int, Any]:
        token = self._tokens.issue(email or self._operator)
        headers = {} if email == "" else {"Authorization": f"Bearer {token}"}
        response = await self._client.request(method, f"/compute/v1/{path}", headers=headers, **more)
        return response.status, await response.json()

    async def ok(self, method: str, path: str, **more: Any) -> Any:
        status, body = await self.call(method, path, **more)
        assert status == 200, body
        return body


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    stockouts: dict[str, frozenset[str]] = {}
    rig = Rig(tmp_path, quotas={"NVIDIA_T4_GPUS": 12}, stockouts=stockouts)
    world.declare_chain(rig.store, f"127.{world.BLOCK}.1.5", 8080)
    world.declare_template(rig.store, "v1", gpus=4)
    world.declare_group(rig.store, "v1", size=4)
    policy = {
        "minReplicas": 2,
        "maxReplicas": 4,
        "cooldownPeriod": 360,
        "metrics": [
            {"name": "custom.googleapis.com/gpu", "target": 85, "type": "GAUGE", "filter": 'resource.type = "x"'}
        ],
        "cpuUtilization": {"target": 0.75},
        "scaleInControl": {"timeWindowSec": 600, "maxScaledInReplicas": {"fixed": 1}},
    }
    inputs = {"target": self_link(world.GROUP), "autoscalingPolicy": policy}
    world.declare(rig.store, "gcp:compute/regionAutoscaler:RegionAutoscaler", world.AUTOSCALER, inputs)
    details = (("MISSING_CUSTOM_METRIC_DATA_POINTS", "none"),)
    scaler = AutoscalerRecord(target=world.GROUP, recommended=4, status="ACTIVE", details=details)
    put_record(rig.store, AUTOSCALER, world.AUTOSCALER, scaler)
    await rig.rounds()
    access = Access(rig.settings, Tokens(rig.store), Policy(rig.settings, rig.store))
    app = web.Application(middlewares=[google_errors])
    compute = ComputeApi(rig.settings, rig.store, access).app()
    app.add_subapp("/compute/v1", compute)
    async with TestClient(TestServer(app)) as client:
        yield Api(rig.settings, rig.store, client, compute, stockouts)


def discovery() -> Any:
    document = files("googleapiclient").joinpath("discovery_cache/documents/compute.v1.json")
    return json.loads(document.read_text())


SCHEMAS: dict[str, Any] = discovery()["schemas"]
_TYPES: dict[str, type | tuple[type, ...]] = {
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "array": list,
    "object": dict,
}


def differences(value: Any, schema: dict[str, Any], where: str) -> Iterator[str]:
    """Where a JSON value is not what the schema says: unknown fields, other types, unknown enum values."""
    if "$ref" in schema:
        schema = SCHEMAS[schema["$ref"]]
    matches = isinstance(value, _TYPES[schema["type"]])
    if not matches or (isinstance(value, bool) and schema["type"] != "boolean"):
        yield f"{where}: {value!r} is no {schema['type']}"
        return
    if "enum" in schema and value not in schema["enum"]:
        yield f"{where}: {value!r} is none of {schema['enum']}"
    if schema["type"] == "array":
        for index, item in enumerate(value):
            yield from differences(item, schema["items"], f"{where}[{index}]")
    elif schema["type"] == "object":
        for name, item in value.items():
            inner = schema.get("properties", {}).get(name) or schema.get("additionalProperties")
            if inner is None:
                yield f"{where}.{name}: no such field"
            else:
                yield from differences(item, inner, f"{where}.{name}")


CALLS = [
    ("GET", f"{REGION}/instanceGroupManagers/serve", "InstanceGroupManager"),
    ("GET", f"{REGION}/instanceGroupManagers", "RegionInstanceGroupManagerList"),
    (
        "POST",
        f"{REGION}/instanceGroupManagers/serve/listManagedInstances",
        "RegionInstanceGroupManagersListInstancesResponse",
    ),
    ("GET", f"{REGION}/autoscalers/serve", "Autoscaler"),
    ("GET", f"{REGION}/autoscalers", "RegionAutoscalerList"),
    ("GET", f"{ZONE}/instances", "InstanceList"),
    ("GET", f"{ZONE}/instances/VM", "Instance"),
    ("GET", f"{ZONE}/instances/VM/serialPort", "SerialPortOutput"),
    ("POST", f"{ZONE}/instances/VM/stop", "Operation"),
    ("GET", f"projects/{world.PROJECT}/aggregated/instances", "InstanceAggregatedList"),
    ("GET", f"{GLOBAL}/backendServices", "BackendServiceList"),
    ("GET", f"{GLOBAL}/backendServices/api", "BackendService"),
    ("POST", f"{GLOBAL}/backendServices/api/getHealth", "BackendServiceGroupHealth"),
    ("GET", f"{GLOBAL}/forwardingRules/api", "ForwardingRule"),
    ("GET", f"{GLOBAL}/forwardingRules", "ForwardingRuleList"),
    ("GET", f"{GLOBAL}/instanceTemplates/serve-v1", "InstanceTemplate"),
    ("GET", "projects/debian-cloud/global/images/debian-12-v1", "Image"),
    ("GET", "projects/debian-cloud/global/images", "ImageList"),
    ("GET", f"projects/{world.PROJECT}", "Project"),
    ("GET", REGION, "Region"),
]
GROUP_BODY = {"group": self_link(world.GROUP.replace("Managers", "s"))}


async def a_vm(api: Api) -> str:
    listed = await api.ok("GET", f"{ZONE}/instances")
    name: str = listed["items"][0]["name"]
    return name


@pytest.mark.parametrize(("method", "path", "schema"), CALLS, ids=[f"{call[0]} {call[1][-44:]}" for call in CALLS])
async def test_answers_have_googles_shape(api: Api, method: str, path: str, schema: str) -> None:
    path = path.replace("VM", await a_vm(api)) if "VM" in path else path
    body = await api.ok(method, path, json=GROUP_BODY if "getHealth" in path else None)
    assert list(differences(body, SCHEMAS[schema], schema)) == []
    assert body


def test_the_comparison_with_the_schema_sees_differences() -> None:
    wrong = {"targetSize": "4", "nonsense": 1, "currentActions": {"none": True}, "updatePolicy": {"type": "SOMETIMES"}}
    assert len(list(differences(wrong, SCHEMAS["InstanceGroupManager"], ""))) == 4


async def test_a_group_tells_size_status_and_its_autoscaler(api: Api) -> None:
    found = await api.ok("GET", f"{REGION}/instanceGroupManagers/serve")
    assert (found["targetSize"], found["currentActions"]["none"], found["currentActions"]["creating"]) == (4, 3, 1)
    assert found["status"]["isStable"] is False
    assert found["status"]["autoscaler"] == self_link(world.AUTOSCALER)
    assert found["versions"][0]["instanceTemplate"] == world.template_link("v1")


async def test_managed_instances_tell_action_health_and_faults(api: Api) -> None:
    body = await api.ok("POST", f"{REGION}/instanceGroupManagers/serve/listManagedInstances")
    by_action = {one["currentAction"]: one for one in body["managedInstances"]}
    healthy, blocked = by_action["NONE"], by_action["CREATING"]
    assert healthy["instanceStatus"] == "RUNNING"
    assert healthy["instanceHealth"] == [
        {"healthCheck": self_link(world.LIVENESS_CHECK), "detailedHealthState": "HEALTHY"}
    ]
    assert "instanceStatus" not in blocked
    assert blocked["lastAttempt"]["errors"]["errors"][0]["code"] == "QUOTA_EXCEEDED"


async def test_backend_health_is_per_instance_and_needs_a_backend(api: Api) -> None:
    body = await api.ok("POST", f"{GLOBAL}/backendServices/api/getHealth", json=GROUP_BODY)
    assert [(one["healthState"], one["port"]) for one in body["healthStatus"]] == [("HEALTHY", world.PORT)] * 3
    other = {"group": self_link(f"{REGION}/instanceGroups/other")}
    status, refusal = await api.call("POST", f"{GLOBAL}/backendServices/api/getHealth", json=other)
    assert status == 400
    assert "resource.group" in refusal["error"]["message"]


async def test_an_autoscaler_tells_its_recommendation_and_why(api: Api) -> None:
    found = await api.ok("GET", f"{REGION}/autoscalers/serve")
    assert (found["recommendedSize"], found["status"]) == (4, "ACTIVE")
    assert found["statusDetails"][0]["type"] == "MISSING_CUSTOM_METRIC_DATA_POINTS"
    assert found["autoscalingPolicy"]["customMetricUtilizations"][0]["utilizationTarget"] == 85
    assert found["autoscalingPolicy"]["scaleInControl"]["maxScaledInReplicas"] == {"fixed": 1}


async def test_quota_use_is_counted_by_region(api: Api) -> None:
    found = await api.ok("GET", REGION)
    assert found["quotas"] == [{"metric": "NVIDIA_T4_GPUS", "limit": 12.0, "usage": 12.0}]


async def test_a_stopped_instance_is_desired_terminated_and_its_operation_ends_with_it(api: Api) -> None:
    name = await a_vm(api)
    operation = await api.ok("POST", f"{ZONE}/instances/{name}/stop")
    assert (operation["operationType"], operation["status"]) == ("stop", "RUNNING")
    path = f"{ZONE}/operations/{operation['name']}"
    assert (await api.ok("GET", path))["status"] == "RUNNING"
    world.set_status(api.store, f"{world.ZONES[0]}/{name}", status="TERMINATED")
    assert (await api.ok("GET", path))["status"] == "DONE"


async def test_the_serial_port_is_read_in_parts(api: Api, tmp_path: Path) -> None:
    name = await a_vm(api)
    log = Scratch.of(tmp_path, f"{world.ZONES[0]}/{name}").serial_log
    log.parent.mkdir(parents=True)
    log.write_text("first\nsecond\n")
    whole = await api.ok("GET", f"{ZONE}/instances/{name}/serialPort", params={"port": "1"})
    assert (whole["contents"], whole["start"], whole["next"]) == ("first\nsecond\n", "0", "13")
    rest = await api.ok("GET", f"{ZONE}/instances/{name}/serialPort", params={"start": "6"})
    assert rest["contents"] == "second\n"


@pytest.mark.parametrize(
    ("method", "path", "status", "words"),
    [
        (
            "GET",
            f"{REGION}/instanceGroupManagers/none",
            404,
            f"The resource '{REGION}/instanceGroupManagers/none' was not",
        ),
        ("GET", f"{ZONE}/instances/none", 404, "was not found"),
        ("GET", f"{ZONE}/operations/none", 404, "was not found"),
        ("GET", "projects/other/global/backendServices/api", 404, "projects/other"),
        ("GET", "projects/debian-cloud/global/images/none", 404, "was not found"),
        ("DELETE", f"{ZONE}/instances/none", 404, "was not found"),
        ("POST", f"{ZONE}/instances/none/reset", 501, f"POST /compute/v1/{ZONE}/instances/none/reset"),
        ("GET", f"{GLOBAL}/firewalls", 501, "firewalls"),
        ("GET", f"{ZONE}/instances?filter=name%3Dx", 501, "filter"),
    ],
)
async def test_errors_are_googles_and_unmodelled_calls_name_themselves(
    api: Api, method: str, path: str, status: int, words: str
) -> None:
    found, body = await api.call(method, path)
    assert (found, body["error"]["code"]) == (status, status)
    assert words in body["error"]["message"]


async def test_callers_need_a_token_and_the_permission(api: Api) -> None:
    path = f"{REGION}/instanceGroupManagers/serve"
    status, body = await api.call("GET", path, email="")
    assert (status, body["error"]["status"]) == (401, "UNAUTHENTICATED")
    status, body = await api.call("GET", path, email=world.ACCOUNT)
    assert (status, body["error"]["status"]) == (403, "PERMISSION_DENIED")
    assert "compute.instanceGroupManagers.get" in body["error"]["message"]
    status, _ = await api.call("POST", f"{ZONE}/instances/{await a_vm(api)}/stop", email=world.ACCOUNT)
    assert status == 403


async def test_a_viewer_may_make_every_call_that_only_reads(api: Api) -> None:
    world.declare(
        api.store,
        "gcp:projects/iAMMember:IAMMember",
        f"{world.PROJECT}/roles/compute.viewer/serviceAccount:{world.ACCOUNT}",
        {"project": world.PROJECT, "role": "roles/compute.viewer", "member": f"serviceAccount:{world.ACCOUNT}"},
    )
    place = {"project": world.PROJECT, "region": world.REGION, "zone": world.ZONES[0], "name": "x", "family": "x"}
    paths = {
        resource.canonical.removeprefix("/compute/v1/").format(**place)
        for resource in api.app.router.resources()
        if any(route.method == "GET" for route in resource)
    }
    assert len(paths) > 15
    refused = {path for path in paths if (await api.call("GET", path, email=world.ACCOUNT))[0] == 403}
    assert refused == set()


async def test_a_stopped_vm_does_not_start_where_no_gpu_is_left(api: Api) -> None:
    key = next(vm.key for vm in instances(api.store) if vm.zone == world.ZONES[0])
    world.set_status(api.store, key, status="TERMINATED", desired="TERMINATED")
    path = f"{ZONE}/instances/{key.rpartition('/')[2]}/start"
    api.stockouts["nvidia-tesla-t4"] = frozenset({world.ZONES[0]})
    operation = await api.ok("POST", path)
    assert list(differences(operation, {"$ref": "Operation"}, "Operation")) == []
    again = await api.ok("GET", f"{ZONE}/operations/{operation['name']}")
    for told in (operation, again):
        assert told["status"] == "DONE"
        [fault] = told["error"]["errors"]
        assert fault["code"] == "ZONE_RESOURCE_POOL_EXHAUSTED"
    del api.stockouts["nvidia-tesla-t4"]
    assert "error" not in await api.ok("POST", path)
