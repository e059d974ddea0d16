"""Time series: bounded, in the store."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sandbox.monitoring.filters import Filter
from sandbox.store import Store

_KIND: Final = "timeseries"
_MOST_POINTS: Final = 400
"""Of one series; 100 minutes at a point every 15 s."""
_MOST_SERIES: Final = 1000
"""The series that has been silent for longest goes first."""

Value = bool | int | float


@dataclass(frozen=True, slots=True)
class Point:
    """A value at the end of an interval, in Unix seconds."""

    end: float
    value: Value


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One time series; points oldest first."""

    metric: Mapping[str, Any]
    """{"type", "labels"}."""
    resource: Mapping[str, Any]
    """{"type", "labels"}."""
    kind: str
    value_type: str
    points: tuple[Point, ...] = ()

    @property
    def name(self) -> str:
        """Name of the record: a digest of what identifies the series."""
        identity = json.dumps([self.metric, self.resource], sort_keys=True)
        return hashlib.sha256(identity.encode()).hexdigest()[:32]

    def between(self, start: float, end: float) -> Sequence[Point]:
        """Points with start < end of interval <= end, oldest first."""
        return [point for point in self.points if start < point.end <= end]


class TimeSeriesStore:
    """Appends points and finds series."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def last(self, series: Series) -> Point | None:
        """The newest point of the series with this metric and resource."""
        record = self._store.get(_KIND, series.name)
        return Point(*record["points"][-1]) if record else None

    def append(self, series: Series, point: Point) -> None:
        """Add a point that is newer than the last one; the oldest beyond the bound is dropped."""
        record = self._store.get(_KIND, series.name)
        if record is None:
            self._make_room()
        points = [*(record["points"] if record else ()), [point.end, point.value]][-_MOST_POINTS:]
        self._store.put(
            _KIND,
            series.name,
            {
                "metric": dict(series.metric),
                "resource": dict(series.resource),
                "kind": series.kind,
                "value_type": series.value_type,
                "points": points,
            },
        )

    def matching(self, wanted: Filter) -> Iterator[Series]:
        """Series that a filter means."""
        for _, record in self._store.items(_KIND):
            if wanted.matches(record["metric"], record["resource"]):
                yield Series(
                    metric=record["metric"],
                    resource=record["resource"],
                    kind=record["kind"],
                    value_type=record["value_type"],
                    points=tuple(Point(end, value) for end, value in record["points"]),
                )

    def _make_room(self) -> None:
        ages = sorted((record["points"][-1][0], name) for name, record in self._store.items(_KIND))
        for _, name in ages[: max(0, len(ages) + 1 - _MOST_SERIES)]:
            self._store.delete(_KIND, name)
