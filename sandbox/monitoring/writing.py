"""`timeSeries.create` as the API judges it: pure checks from a request body to series and points.

Sources: Monitoring v3 discovery document (projects.timeSeries.create, TimeSeries, Point) and Google Cloud, "Create
user-defined metrics with the API" and "Quotas and limits" (2026-11).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sandbox.monitoring.descriptors import USER_DOMAINS, Descriptor, MetricKind, ValueType
from sandbox.monitoring.series import Point, Series, Value

MOST_SERIES: Final = 200
"""Of one request."""
_FASTEST_S: Final = 5.0
"""Between two points of one series."""
_OLDEST_S: Final = 25 * 3600.0
_NEWEST_S: Final = 5 * 60.0
_RESOURCE_LABELS: Final = {
    "gce_instance": frozenset({"project_id", "instance_id", "zone"}),
    "global": frozenset({"project_id"}),
}
_VALUE_FIELDS: Final[dict[ValueType, str]] = {"BOOL": "boolValue", "INT64": "int64Value", "DOUBLE": "doubleValue"}


@dataclass(frozen=True, slots=True)
class Write:
    """One accepted point, and the descriptor that it implies."""

    series: Series
    point: Point
    descriptor: Descriptor


class RejectedError(ValueError):
    """A request that the API answers with INVALID_ARGUMENT, in its words."""


@dataclass(frozen=True, slots=True)
class Known:
    """What a check may ask of the world."""

    project: str
    now: float
    descriptor: Callable[[str], Descriptor | None]
    last: Callable[[Series], Point | None]


def check(body: Mapping[str, Any], known: Known) -> list[Write]:
    """Every series of a `timeSeries.create` body. Raises RejectedError for the first that the API would refuse."""
    entries = body.get("timeSeries") or []
    if not entries:
        raise RejectedError("Request was missing field timeSeries: must contain at least one TimeSeries")
    if len(entries) > MOST_SERIES:
        raise RejectedError(f"Field timeSeries had {len(entries)} entries; at most {MOST_SERIES} are allowed.")
    writes: list[Write] = []
    seen: set[str] = set()
    for index, entry in enumerate(entries):
        write = _check_one(f"timeSeries[{index}]", entry, known)
        if write.series.name in seen:
            raise RejectedError(
                f"Field timeSeries[{index}] had an invalid value: Duplicate TimeSeries encountered. Only one point can "
                "be written per TimeSeries per request."
            )
        seen.add(write.series.name)
        writes.append(write)
    return writes


def _check_one(where: str, entry: Mapping[str, Any], known: Known) -> Write:
    given = entry.get("metric") or {}
    metric = {"type": _text(where, "metric.type", given.get("type")), "labels": dict(given.get("labels") or {})}
    if not str(metric["type"]).startswith(USER_DOMAINS):
        domains = " or ".join(domain.rstrip("/") for domain in USER_DOMAINS)
        raise _invalid(
            where,
            "metric.type",
            f"The metric type must be a URL-formatted string with a domain of {domains}.",
            metric["type"],
        )
    resource = _resource(where, entry.get("resource") or {}, known.project)
    points = entry.get("points") or []
    if len(points) != 1:
        raise _invalid(where, "points", f"exactly one point must be provided per time series, not {len(points)}.")
    value_type, value = _value(where, points[0].get("value") or {})
    descriptor = _descriptor(where, entry, metric, value_type, known)
    series = Series(metric=metric, resource=resource, kind=descriptor.kind, value_type=descriptor.value_type)
    end = _interval(where, points[0].get("interval") or {}, descriptor.kind, known.now)
    last = known.last(series)
    if last is not None and end <= last.end:
        raise _invalid(
            where,
            "points[0].interval.endTime",
            "Points must be written in order. One or more of the points specified had an older end time than the most "
            "recent point.",
        )
    if last is not None and end - last.end < _FASTEST_S:
        raise _invalid(
            where,
            "points[0]",
            "One or more points were written more frequently than the maximum sampling period configured for the "
            "metric.",
        )
    return Write(series, Point(end, value), descriptor)


def _descriptor(
    where: str, entry: Mapping[str, Any], metric: Mapping[str, Any], value_type: ValueType, known: Known
) -> Descriptor:
    found = known.descriptor(str(metric["type"]))
    if found is None:
        kind: MetricKind = entry.get("metricKind") or "GAUGE"
        labels = dict.fromkeys(metric["labels"], "STRING")
        found = Descriptor(type=str(metric["type"]), kind=kind, value_type=value_type, labels=labels)
    for name, expected in (("metricKind", found.kind), ("valueType", found.value_type)):
        if (entry.get(name) or expected) != expected:
            raise _invalid(where, name, f"The {name} of the metric {found.type} is {expected}.", entry[name])
    if value_type != found.value_type:
        raise _invalid(
            where, "points[0].value", f"The value type of {found.type} is {found.value_type}, not {value_type}."
        )
    if found.kind not in {"GAUGE", "CUMULATIVE"}:
        raise _invalid(where, "metricKind", "User-defined metrics are GAUGE or CUMULATIVE.", found.kind)
    unknown = sorted(set(metric["labels"]) - set(found.labels))
    if unknown:
        raise _invalid(where, "metric.labels", f"Unrecognized metric label: {unknown[0]}.")
    return found


def _resource(where: str, resource: Mapping[str, Any], project: str) -> dict[str, Any]:
    kind = _text(where, "resource.type", resource.get("type"))
    expected = _RESOURCE_LABELS.get(kind)
    if expected is None:
        raise _invalid(where, "resource.type", f"the sandbox models {', '.join(sorted(_RESOURCE_LABELS))}.", kind)
    labels = {"project_id": project, **(resource.get("labels") or {})}
    missing = [label for label in sorted(expected) if not labels.get(label)]
    if missing:
        raise _invalid(
            where,
            "resource.labels",
            f"The set of resource labels is incomplete. Missing labels: ({' '.join(missing)}).",
        )
    extra = sorted(set(labels) - expected)
    if extra:
        raise _invalid(where, "resource.labels", f"Unrecognized resource label: {extra[0]}.")
    if kind == "gce_instance" and not str(labels["instance_id"]).isdigit():
        raise _invalid(
            where, "resource.labels", "instance_id is the numeric id of the instance.", labels["instance_id"]
        )
    if kind == "gce_instance" and "/" in labels["zone"]:
        raise _invalid(where, "resource.labels", "zone is the zone's name, not its URL.", labels["zone"])
    return {"type": kind, "labels": {key: str(value) for key, value in labels.items()}}


def _value(where: str, value: Mapping[str, Any]) -> tuple[ValueType, Value]:
    given = [kind for kind, name in _VALUE_FIELDS.items() if name in value]
    if len(given) != 1 or len(value) != 1:
        raise _invalid(where, "points[0].value", f"exactly one of {', '.join(_VALUE_FIELDS.values())} must be set.")
    kind = given[0]
    raw = value[_VALUE_FIELDS[kind]]
    parse: Callable[[Any], Value] = {"BOOL": bool, "INT64": int, "DOUBLE": float}[kind]
    try:
        parsed = parse(raw)
    except (TypeError, ValueError):
        raise _invalid(where, "points[0].value", f"not a value of {_VALUE_FIELDS[kind]}.", raw) from None
    if isinstance(parsed, float) and not math.isfinite(parsed):
        raise _invalid(where, "points[0].value.doubleValue", "it must be finite.", raw)
    return kind, parsed


def _interval(where: str, interval: Mapping[str, Any], kind: str, now: float) -> float:
    end = _time(where, "endTime", interval.get("endTime"))
    start = _time(where, "startTime", interval["startTime"]) if interval.get("startTime") else end
    place = "points[0].interval"
    if kind == "GAUGE" and start != end:
        raise _invalid(where, f"{place}.startTime", "For GAUGE metrics it must equal the end time.")
    if kind == "CUMULATIVE" and start >= end:
        raise _invalid(where, f"{place}.startTime", "The start time must be before the end time.")
    if end > now + _NEWEST_S:
        raise _invalid(where, f"{place}.endTime", "Data points cannot be written in the future.")
    if end < now - _OLDEST_S:
        raise _invalid(where, f"{place}.endTime", "Data points cannot be written more than 25h in the past.")
    return end


def _time(where: str, name: str, text: object) -> float:
    try:
        return parse_time(str(text or ""))
    except ValueError:
        raise _invalid(where, f"points[0].interval.{name}", "it must be an RFC 3339 time.", text) from None


def parse_time(text: str) -> float:
    """Unix seconds of an RFC 3339 time with zone. Raises ValueError."""
    at = datetime.fromisoformat(text)
    if at.tzinfo is None:
        raise ValueError(f"{text!r} has no time zone")
    return at.timestamp()


def _text(where: str, name: str, value: object) -> str:
    if not isinstance(value, str) or not value:
        raise RejectedError(f"Field {where}.{name} was missing.")
    return value


def _invalid(where: str, field: str, why: str, value: object = None) -> RejectedError:
    given = "" if value is None else f' of "{value}"'
    return RejectedError(f"Field {where}.{field} had an invalid value{given}: {why}")
