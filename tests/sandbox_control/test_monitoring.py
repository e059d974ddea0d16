"""Monitoring: what the API takes and refuses, and what comes back."""

from __future__ import annotations

import copy
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from sandbox.iam.policy import Policy, operator_email
from sandbox.iam.tokens import Tokens
from sandbox.monitoring.descriptors import CPU_UTILIZATION, Descriptor
from sandbox.monitoring.filters import Filter, FilterError
from sandbox.monitoring.rest import MonitoringApi
from sandbox.monitoring.series import Point, Series, TimeSeriesStore
from sandbox.monitoring.writing import Known, RejectedError, check
from sandbox.rest import Access, google_errors
from sandbox.store import RESOURCE, Store
from tests.sandbox_control import world

METRIC = "custom.googleapis.com/fleet/gpu"
NOW = 1_800_000_000.0


def at(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()


def entry(value: float = 50.0, when: float = NOW, **changes: Any) -> dict[str, Any]:
    return {
        "metric": {"type": METRIC},
        "resource": {
            "type": "gce_instance",
            "labels": {"instance_id": "42", "zone": "us-central1-a", "project_id": "p"},
        },
        "metricKind": "GAUGE",
        "valueType": "DOUBLE",
        "points": [{"interval": {"endTime": at(when)}, "value": {"doubleValue": value}}],
        **changes,
    }


def known(last: Point | None = None, descriptor: Descriptor | None = None) -> Known:
    return Known("p", NOW, lambda _: descriptor, lambda _: last)


def test_a_good_point_is_taken_as_it_is() -> None:
    [write] = check({"timeSeries": [entry(12.5)]}, known())
    assert write.point == Point(NOW, 12.5)
    assert write.series.resource["labels"]["instance_id"] == "42"
    assert (write.descriptor.kind, write.descriptor.value_type) == ("GAUGE", "DOUBLE")


def altered(path: str, value: Any) -> dict[str, Any]:
    body = copy.deepcopy(entry())
    *parents, last = path.split(".")
    holder: Any = body
    for name in parents:
        holder = holder[int(name)] if name.isdigit() else holder[name]
    if value is None:
        del holder[last]
    else:
        holder[last] = value
    return body


GAUGE = Descriptor(type=METRIC, kind="GAUGE", value_type="DOUBLE")
REFUSED = [
    ([], "missing field timeSeries"),
    ([entry()] * 201, "at most 200"),
    ([entry(), entry()], "Only one point can be written per TimeSeries"),
    ([altered("metric.type", "compute.googleapis.com/instance/cpu/utilization")], "metric type must be"),
    ([altered("metric.type", None)], "metric.type was missing"),
    ([altered("resource.type", "gke_container")], 'had an invalid value of "gke_container"'),
    ([altered("resource.labels.zone", None)], "Missing labels: (zone)"),
    ([altered("resource.labels.instance_id", "vm-1")], "numeric id"),
    ([altered("resource.labels.zone", "projects/p/zones/z")], "zone's name"),
    ([altered("resource.labels.color", "red")], "Unrecognized resource label: color"),
    ([altered("points", [])], "exactly one point"),
    ([altered("points", entry()["points"] * 2)], "exactly one point"),
    ([altered("points.0.value", {"doubleValue": 1, "int64Value": "1"})], "exactly one of"),
    ([altered("points.0.value", {"stringValue": "x"})], "exactly one of"),
    ([altered("points.0.value", {"doubleValue": "NaN"})], "finite"),
    ([altered("points.0.value", {"int64Value": "1"})], "value type"),
    ([altered("points.0.interval.endTime", "yesterday")], "RFC 3339"),
    ([altered("points.0.interval.endTime", "2026-11-24T10:00:00")], "RFC 3339"),
    ([altered("points.0.interval.startTime", at(NOW - 60))], "must equal the end time"),
    ([entry(when=NOW + 400)], "in the future"),
    ([entry(when=NOW - 26 * 3600)], "25h in the past"),
    ([altered("metricKind", "CUMULATIVE")], "metricKind of the metric"),
    ([altered("valueType", "INT64")], "valueType of the metric"),
    ([altered("metric.labels", {"gpu": "0"})], "Unrecognized metric label: gpu"),
]


@pytest.mark.parametrize(("series", "words"), REFUSED)
def test_refuses_what_the_api_refuses(series: list[dict[str, Any]], words: str) -> None:
    with pytest.raises(RejectedError) as refusal:
        check({"timeSeries": series}, known(descriptor=GAUGE))
    assert words in str(refusal.value)


@pytest.mark.parametrize(("age", "words"), [(0.0, "written in order"), (-3.0, "written in order"), (3.0, "frequently")])
def test_points_come_in_order_and_five_seconds_apart(age: float, words: str) -> None:
    with pytest.raises(RejectedError, match=words):
        check({"timeSeries": [entry()]}, known(last=Point(NOW - age, 1.0)))
    assert check({"timeSeries": [entry()]}, known(last=Point(NOW - 5.0, 1.0)))


def test_filters_are_equalities_joined_by_and() -> None:
    wanted = Filter.parse(
        f'metric.type = "{METRIC}" AND resource.labels.zone="us-central1-a" AND metric.label."x" = "1"'
    )
    resource = {"type": "gce_instance", "labels": {"zone": "us-central1-a"}}
    assert wanted.matches({"type": METRIC, "labels": {"x": "1"}}, resource)
    assert not wanted.matches({"type": METRIC, "labels": {"x": "2"}}, resource)
    assert not wanted.matches({"type": METRIC, "labels": {}}, resource)
    assert Filter.parse("").matches({"type": "any", "labels": {}}, resource)


@pytest.mark.parametrize(
    "text",
    [
        'metric.type != "x"',
        'metric.type = "x" OR metric.type = "y"',
        'metric.type = starts_with("x")',
        'metric.type = "x" AND',
        'metric.type = "x" metric.type = "x"',
        'metadata.system_labels.name = "x"',
        'metric.type = "x" AND metric.type = "y"',
    ],
)
def test_other_filters_are_refused(text: str) -> None:
    with pytest.raises(FilterError):
        Filter.parse(text)


def test_series_are_bounded(tmp_path: Path) -> None:
    store = TimeSeriesStore(Store(tmp_path / "store.db"))
    series = Series(
        metric={"type": METRIC, "labels": {}}, resource={"type": "global", "labels": {}}, kind="G", value_type="D"
    )
    for n in range(450):
        store.append(series, Point(NOW + n, n))
    [found] = store.matching(Filter.parse(""))
    assert len(found.points) == 400
    assert found.points[-1] == Point(NOW + 449, 449)


class Api:
    """The REST API with a serving account that may write, another that may not, and the operator."""

    def __init__(self, store: Store, client: TestClient[web.Request, web.Application], tokens: Tokens) -> None:
        self.store = store
        self.client = client
        self.tokens = tokens
        self.operator = operator_email(world.settings(Path("state")))

    async def write(self, email: str, *entries: dict[str, Any]) -> tuple[int, Any]:
        return await self.call("POST", "timeSeries", email, json={"timeSeries": list(entries)})

    async def read(self, email: str = "", **parameters: str) -> tuple[int, Any]:
        return await self.call("GET", "timeSeries", email or self.operator, params=parameters)

    async def call(self, method: str, path: str, email: str, **more: Any) -> tuple[int, Any]:
        headers = {"Authorization": f"Bearer {self.tokens.issue(email)}"} if email else {}
        response = await self.client.request(method, f"/v3/projects/{world.PROJECT}/{path}", headers=headers, **more)
        return response.status, await response.json()


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    settings = world.settings(tmp_path)
    store = Store(tmp_path / "store.db")
    inputs = {
        "project": world.PROJECT,
        "role": "roles/monitoring.metricWriter",
        "member": f"serviceAccount:{world.ACCOUNT}",
    }
    record = {"type": "gcp:projects/iAMMember:IAMMember", "urn": "", "inputs": inputs, "state": inputs, "created": 0.0}
    store.put(RESOURCE, "member", record)
    tokens = Tokens(store)
    app = web.Application(middlewares=[google_errors])
    app.add_subapp("/v3", MonitoringApi(settings, store, Access(settings, tokens, Policy(settings, store))).app())
    async with TestClient(TestServer(app)) as client:
        yield Api(store, client, tokens)


def fresh(value: float, age_s: float = 0.0, **changes: Any) -> dict[str, Any]:
    return entry(value, datetime.now(UTC).timestamp() - age_s, **changes)


async def test_what_an_agent_wrote_comes_back_newest_first(api: Api) -> None:
    assert await api.write(world.ACCOUNT, fresh(10.0, 20.0)) == (200, {})
    assert await api.write(world.ACCOUNT, fresh(20.0, 10.0)) == (200, {})
    now = datetime.now(UTC).timestamp()
    wanted = {
        "filter": f'metric.type = "{METRIC}" AND resource.type = "gce_instance"',
        "interval.startTime": at(now - 600),
        "interval.endTime": at(now),
    }
    status, body = await api.read(**wanted)
    assert status == 200
    [series] = body["timeSeries"]
    assert [point["value"]["doubleValue"] for point in series["points"]] == [20.0, 10.0]
    assert series["resource"]["labels"]["instance_id"] == "42"
    assert (await api.read(**{**wanted, "interval.startTime": at(now - 12)}))[1]["timeSeries"][0]["points"][1:] == []
    assert await api.read(**{**wanted, "filter": f'metric.type="{METRIC}" AND resource.labels.zone="z"'}) == (200, {})


@pytest.mark.parametrize(
    ("email", "status"), [("", 401), (f"other@{world.PROJECT}.iam.gserviceaccount.com", 403), (world.ACCOUNT, 200)]
)
async def test_writing_needs_a_token_and_the_permission(api: Api, email: str, status: int) -> None:
    found, body = await api.write(email, fresh(1.0))
    assert found == status
    assert status == 200 or body["error"]["code"] == status


async def test_a_writer_may_not_read(api: Api) -> None:
    status, body = await api.read(world.ACCOUNT, filter=f'metric.type = "{METRIC}"')
    assert status == 403
    assert "monitoring.timeSeries.list" in body["error"]["message"]


async def test_a_refused_request_writes_nothing(api: Api) -> None:
    status, body = await api.write(world.ACCOUNT, fresh(1.0), fresh(1.0, metric={"type": "bad"}))
    assert (status, body["error"]["status"]) == (400, "INVALID_ARGUMENT")
    assert not list(TimeSeriesStore(api.store).matching(Filter.parse("")))


async def test_a_declared_descriptor_rules_and_a_first_write_makes_one(api: Api) -> None:
    declared = {"type": METRIC, "metricKind": "GAUGE", "valueType": "INT64", "labels": []}
    identifier = f"projects/{world.PROJECT}/metricDescriptors/{METRIC}"
    world.declare(api.store, "gcp:monitoring/metricDescriptor:MetricDescriptor", identifier, declared)
    status, body = await api.write(world.ACCOUNT, fresh(1.0))
    assert (status, "INT64" in body["error"]["message"]) == (400, True)
    other = "custom.googleapis.com/other"
    assert (await api.call("GET", f"metricDescriptors/{other}", api.operator))[0] == 404
    assert (await api.write(world.ACCOUNT, fresh(1.0, metric={"type": other})))[0] == 200
    status, body = await api.call("GET", f"metricDescriptors/{other}", api.operator)
    assert (status, body["valueType"]) == (200, "DOUBLE")
    _, listed = await api.call("GET", "metricDescriptors", api.operator)
    assert {METRIC, other, CPU_UTILIZATION} <= {one["type"] for one in listed["metricDescriptors"]}


async def test_an_unknown_metric_is_not_found(api: Api) -> None:
    status, body = await api.read(
        **{"filter": 'metric.type = "custom.googleapis.com/none"', "interval.endTime": at(NOW)}
    )
    assert (status, body["error"]["status"]) == (404, "NOT_FOUND")


@pytest.mark.parametrize(
    ("method", "path", "parameters", "named"),
    [
        ("GET", "timeSeries", {"aggregation.alignmentPeriod": "60s"}, "aggregation.alignmentPeriod"),
        ("POST", "timeSeries:query", {}, "timeSeries:query"),
        ("DELETE", f"metricDescriptors/{METRIC}", {}, "DELETE"),
        ("GET", "alertPolicies", {}, "alertPolicies"),
    ],
)
async def test_calls_that_are_not_modelled_say_so(
    api: Api, method: str, path: str, parameters: dict[str, str], named: str
) -> None:
    status, body = await api.call(method, path, api.operator, params=parameters)
    assert status == 501
    assert named in body["error"]["message"]
