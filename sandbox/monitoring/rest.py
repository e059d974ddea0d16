"""Monitoring v3 REST: the calls that agents write with and clients read with."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from aiohttp import web

from sandbox.compute.names import timestamp
from sandbox.monitoring.descriptors import Descriptors
from sandbox.monitoring.filters import Filter, FilterError
from sandbox.monitoring.series import Point, Series, TimeSeriesStore
from sandbox.monitoring.writing import Known, RejectedError, check, parse_time
from sandbox.rest import Access, ApiError, json_body, only_parameters
from sandbox.settings import SandboxSettings
from sandbox.store import Store

_PAGE = 10_000
_VALUE_FIELDS = {"BOOL": "boolValue", "INT64": "int64Value", "DOUBLE": "doubleValue"}


class MonitoringApi:
    """Handlers under `/v3`."""

    def __init__(self, settings: SandboxSettings, store: Store, access: Access) -> None:
        self._project = settings.project
        self._access = access
        self._series = TimeSeriesStore(store)
        self._descriptors = Descriptors(store)

    def app(self) -> web.Application:
        """The sub-application to mount at `/v3`."""
        app = web.Application()
        app.router.add_post("/projects/{project}/timeSeries", self._create)
        app.router.add_get("/projects/{project}/timeSeries", self._list)
        app.router.add_get("/projects/{project}/metricDescriptors", self._list_descriptors)
        app.router.add_get("/projects/{project}/metricDescriptors/{type:.+}", self._get_descriptor)
        return app

    async def _create(self, request: web.Request) -> web.Response:
        self._access.demand(request, "monitoring.timeSeries.create")
        only_parameters(request)
        body = await json_body(request)
        known = Known(self._project, time.time(), self._descriptors.find, self._series.last)
        try:
            writes = check(body, known)
        except RejectedError as rejection:
            raise ApiError(400, str(rejection)) from None
        for write in writes:
            if self._descriptors.find(write.descriptor.type) is None:
                self._descriptors.learn(write.descriptor)
            self._series.append(write.series, write.point)
        return web.json_response({})

    async def _list(self, request: web.Request) -> web.Response:
        self._access.demand(request, "monitoring.timeSeries.list")
        only_parameters(request, "filter", "interval.startTime", "interval.endTime", "view", "pageSize", "orderBy")
        wanted = _filter(request)
        if "metric.type" not in wanted.terms:
            raise ApiError(400, "The provided filter doesn't refer to a metric: it must specify metric.type.")
        end = _time(request, "interval.endTime")
        start = _time(request, "interval.startTime") if "interval.startTime" in request.query else end
        if start > end:
            raise ApiError(400, "Field interval.endTime had an invalid value: The end time precedes the start time.")
        metric_type = wanted.terms["metric.type"]
        if self._descriptors.find(metric_type) is None:
            raise ApiError(
                404,
                f'Cannot find metric(s) that match type = "{metric_type}". If a metric was created recently, it could '
                "take up to 10 minutes to become available. Please try again soon.",
            )
        headers_only = request.query.get("view", "FULL") == "HEADERS"
        found: list[dict[str, Any]] = []
        for series in self._series.matching(wanted):
            # A point in time means the newest point up to it, as an interval without start does for gauges.
            points = series.between(start, end) if start < end else series.between(float("-inf"), end)[-1:]
            if points:
                found.append(_as_api(series, () if headers_only else points))
        size = int(request.query.get("pageSize", _PAGE))
        if len(found) > size:
            found = found[:size]
        return web.json_response({"timeSeries": found} if found else {})

    async def _list_descriptors(self, request: web.Request) -> web.Response:
        self._access.demand(request, "monitoring.metricDescriptors.list")
        only_parameters(request, "filter", "pageSize")
        wanted = _filter(request)
        found = [
            one.as_api(self._project)
            for one in self._descriptors.all()
            if wanted.matches({"type": one.type, "labels": {}}, {"type": "", "labels": {}})
        ]
        return web.json_response({"metricDescriptors": found} if found else {})

    async def _get_descriptor(self, request: web.Request) -> web.Response:
        self._access.demand(request, "monitoring.metricDescriptors.get")
        only_parameters(request)
        found = self._descriptors.find(request.match_info["type"])
        if found is None:
            raise ApiError(404, f"Could not find descriptor for metric '{request.match_info['type']}'.")
        return web.json_response(found.as_api(self._project))


def _filter(request: web.Request) -> Filter:
    try:
        return Filter.parse(request.query.get("filter", ""))
    except FilterError as failure:
        raise ApiError(400, f"Field filter had an invalid value: {failure}.") from None


def _time(request: web.Request, name: str) -> float:
    try:
        return parse_time(request.query.get(name, ""))
    except ValueError:
        raise ApiError(400, f"Field {name} had an invalid value: it must be an RFC 3339 time.") from None


def _as_api(series: Series, points: Sequence[Point]) -> dict[str, Any]:
    return {
        "metric": dict(series.metric),
        "resource": dict(series.resource),
        "metricKind": series.kind,
        "valueType": series.value_type,
        "points": [_point(series.value_type, point) for point in reversed(points)],
    }


def _point(value_type: str, point: Point) -> dict[str, Any]:
    at = timestamp(point.end)
    value = str(point.value) if value_type == "INT64" else point.value
    return {"interval": {"startTime": at, "endTime": at}, "value": {_VALUE_FIELDS[value_type]: value}}
