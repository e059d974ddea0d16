"""Google's Compute Engine, Monitoring and Cloud Storage APIs, as far as the client asks them, with a healthy fleet.

Tests change `GoogleFake`'s plain data; every body that it sends is checked against Google's discovery documents, so a
test cannot pass on a field that Google does not have.
"""

from __future__ import annotations

import datetime as dt
import re
from typing import Any

from aiohttp import web

from tests.client.discovery import unknown_fields

PROJECT = "my-project"
REGION = "us-central1"
ROOT = "https://www.googleapis.com/compute/v1"
GROUP = f"projects/{PROJECT}/regions/{REGION}/instanceGroupManagers/fleet-main"
INSTANCE_GROUP = f"{ROOT}/projects/{PROJECT}/regions/{REGION}/instanceGroups/fleet-main"
AUTOSCALER = f"projects/{PROJECT}/regions/{REGION}/autoscalers/fleet-scaler"
BACKEND = f"projects/{PROJECT}/global/backendServices/fleet-backend"
TEMPLATE = f"{ROOT}/projects/{PROJECT}/global/instanceTemplates/fleet-abc"
METRIC = "custom.googleapis.com/tensorrt_fleet/test/gpu_utilization"

Json = dict[str, Any]


def default_outputs() -> Json:
    """Outputs of the stack that the fake's fleet belongs to."""
    return {
        "endpoint": "http://127.0.0.1:1",
        "modelKey": "0123456789abcdef0123",
        "instanceGroups": [INSTANCE_GROUP],
        "instanceTemplates": [f"{TEMPLATE}?uniqueId=42"],
        "backendService": f"{ROOT}/{BACKEND}",
        "gpuMetric": METRIC,
        "quotaRequired": {"global": {"GPUS_ALL_REGIONS": 24}, REGION: {"NVIDIA_T4_GPUS": 24}},
    }


def managed_instance(name: str, zone: str, number: str) -> Json:
    """A VM as listManagedInstances tells of it when all is well."""
    return {
        "id": number,
        "name": name,
        "instance": f"{ROOT}/projects/{PROJECT}/zones/{zone}/instances/{name}",
        "instanceStatus": "RUNNING",
        "currentAction": "NONE",
        "version": {"instanceTemplate": TEMPLATE},
        "instanceHealth": [{"detailedHealthState": "HEALTHY", "healthCheck": f"{ROOT}/healing"}],
    }


def health_status(name: str, zone: str, state: str = "HEALTHY") -> Json:
    """A VM as getHealth tells of it."""
    return {
        "instance": f"{ROOT}/projects/{PROJECT}/zones/{zone}/instances/{name}",
        "ipAddress": "10.0.0.2",
        "port": 8888,
        "healthState": state,
    }


class GoogleFake:
    """The fake's world: change it, then run the client."""

    def __init__(self) -> None:
        self.manager: Json = {
            "name": "fleet-main",
            "instanceGroup": INSTANCE_GROUP,
            "targetSize": 2,
            "versions": [{"instanceTemplate": TEMPLATE}],
            "updatePolicy": {"type": "PROACTIVE"},
            "status": {
                "isStable": True,
                "versionTarget": {"isReached": True},
                "autoscaler": f"{ROOT}/{AUTOSCALER}",
            },
        }
        self.instances = [
            managed_instance("vm-a", "us-central1-a", "111"),
            managed_instance("vm-b", "us-central1-b", "222"),
        ]
        self.health = [health_status("vm-a", "us-central1-a"), health_status("vm-b", "us-central1-b")]
        self.autoscaler: Json = {
            "name": "fleet-scaler",
            "status": "ACTIVE",
            "recommendedSize": 2,
            "autoscalingPolicy": {"minNumReplicas": 2, "maxNumReplicas": 4, "mode": "ON"},
        }
        self.gpu = [("111", 41.0), ("222", 62.5)]
        """Newest value of each series, with its VM's number."""
        self.consoles: dict[str, str] = {}
        self.quotas = {"GPUS_ALL_REGIONS": 24.0, "NVIDIA_T4_GPUS": 24.0}
        self.page_size = 500
        self.refusals: dict[str, tuple[int, Json]] = {}
        """Path pattern -> status and error object to answer instead."""
        self.calls: list[str] = []

    def refuse(self, pattern: str, status: int, message: str, details: list[Json] | None = None) -> None:
        """Answer calls whose path matches with a Google error."""
        self.refusals[pattern] = (status, {"code": status, "message": message, "details": details or []})

    def application(self) -> web.Application:
        """Routes of everything that the client may ask."""
        application = web.Application(middlewares=[self._guard])
        compute = "/compute/v1/"
        application.add_routes(
            [
                web.post("/token", self._token),
                web.get(f"{compute}{GROUP}", self._manager),
                web.post(f"{compute}{GROUP}/listManagedInstances", self._managed_instances),
                web.get(f"{compute}{AUTOSCALER}", self._autoscaler),
                web.post(f"{compute}{BACKEND}/getHealth", self._health),
                web.get(f"{compute}projects/{PROJECT}/zones/{{zone}}/instances/{{vm}}/serialPort", self._serial),
                web.get(f"{compute}projects/{PROJECT}", self._project),
                web.get(f"{compute}projects/{PROJECT}/regions/{REGION}", self._region),
                web.get(f"/v3/projects/{PROJECT}/timeSeries", self._time_series),
                web.get(f"/v3/projects/{PROJECT}/metricDescriptors", self._descriptors),
                web.get("/storage/v1/b", self._buckets),
            ]
        )
        return application

    @web.middleware
    async def _guard(self, request: web.Request, handler: Any) -> web.StreamResponse:
        self.calls.append(f"{request.method} {request.path}")
        if request.path != "/token" and request.headers.get("Authorization") != "Bearer good-token":
            return _error(401, {"code": 401, "message": "Request had invalid authentication credentials."})
        for pattern, (status, error) in self.refusals.items():
            if re.search(pattern, request.path):
                return _error(status, error)
        try:
            response: web.StreamResponse = await handler(request)
        except web.HTTPNotFound:
            return _error(404, {"code": 404, "message": f"The resource '{request.path}' was not found"})
        return response

    async def _token(self, request: web.Request) -> web.Response:
        assert (await request.post())["assertion"]
        return web.json_response({"access_token": "good-token", "expires_in": 3600, "token_type": "Bearer"})

    async def _manager(self, _: web.Request) -> web.Response:
        return _answer("compute.v1", "InstanceGroupManager", self.manager)

    async def _managed_instances(self, request: web.Request) -> web.Response:
        page = self._page(request, "managedInstances", self.instances)
        return _answer("compute.v1", "RegionInstanceGroupManagersListInstancesResponse", page)

    def _page(self, request: web.Request, field: str, items: list[Json]) -> Json:
        start = int(request.query.get("pageToken", "0"))
        end = start + self.page_size
        return {field: items[start:end], **({"nextPageToken": str(end)} if end < len(items) else {})}

    async def _autoscaler(self, _: web.Request) -> web.Response:
        return _answer("compute.v1", "Autoscaler", self.autoscaler)

    async def _health(self, request: web.Request) -> web.Response:
        body = await request.json()
        assert not unknown_fields("compute.v1", "ResourceGroupReference", body)
        if body["group"] != INSTANCE_GROUP:
            return _error(400, {"code": 400, "message": f"{body['group']} is no backend"})
        return _answer("compute.v1", "BackendServiceGroupHealth", {"healthStatus": self.health})

    async def _serial(self, request: web.Request) -> web.Response:
        vm = request.match_info["vm"]
        if vm not in self.consoles:
            return _error(404, {"code": 404, "message": f"The resource '{vm}' was not found"})
        return _answer("compute.v1", "SerialPortOutput", {"contents": self.consoles[vm], "start": "0", "next": "9"})

    async def _project(self, _: web.Request) -> web.Response:
        return _answer("compute.v1", "Project", {"name": PROJECT, "quotas": self._quotas("GPUS_ALL_REGIONS")})

    async def _region(self, _: web.Request) -> web.Response:
        return _answer("compute.v1", "Region", {"name": REGION, "quotas": self._quotas("NVIDIA_T4_GPUS")})

    def _quotas(self, metric: str) -> list[Json]:
        return [{"metric": metric, "limit": self.quotas[metric], "usage": 8.0}] if metric in self.quotas else []

    async def _time_series(self, request: web.Request) -> web.Response:
        if METRIC not in request.query["filter"]:
            return web.json_response({})
        end = dt.datetime.fromisoformat(request.query["interval.endTime"])

        def point(age_s: float, value: float) -> Json:
            at = (end - dt.timedelta(seconds=age_s)).isoformat().replace("+00:00", "Z")
            return {"interval": {"endTime": at}, "value": {"doubleValue": value}}

        series = [
            {
                "metric": {"type": METRIC},
                "resource": {"type": "gce_instance", "labels": {"instance_id": number, "zone": "us-central1-a"}},
                "points": [point(10, value), point(25, 99.0)],
            }
            for number, value in self.gpu
        ]
        page = self._page(request, "timeSeries", series) if series else {}
        return _answer("monitoring.v3", "ListTimeSeriesResponse", page)

    async def _descriptors(self, _: web.Request) -> web.Response:
        descriptors = [{"type": METRIC, "metricKind": "GAUGE", "valueType": "DOUBLE"}]
        return _answer("monitoring.v3", "ListMetricDescriptorsResponse", {"metricDescriptors": descriptors})

    async def _buckets(self, request: web.Request) -> web.Response:
        assert request.query["project"] == PROJECT
        return web.json_response({"kind": "storage#buckets"})


def _answer(api: str, schema: str, body: Json) -> web.Response:
    unknown = unknown_fields(api, schema, body)
    assert not unknown, f"Google's {schema} has no {unknown}"
    return web.json_response(body)


def _error(status: int, error: Json) -> web.Response:
    return web.json_response({"error": error}, status=status)
