"""What the controllers tell one another, and the REST API, through the store."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from sandbox.compute.rollout import Health, Member
from sandbox.machine.instance import Instance
from sandbox.store import INSTANCE, Json, Store

GROUP: Final = "group"
HEALTH: Final = "health"
AUTOSCALER: Final = "autoscaler"
BALANCER: Final = "balancer"
"""Forwarding rule id -> {"address", "port", "error"}."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupRecord:
    """A managed instance group as its controller last left it; named by the group manager's id."""

    target_size: int = 0
    members: tuple[Member, ...] = ()
    stable: bool = False
    reached: bool = False
    error: str = ""
    """Why the declared group is not being acted on, or empty."""

    def as_json(self) -> dict[str, Any]:
        """For the store."""
        return {**asdict(self), "members": {member.name: member.as_json() for member in self.members}}

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> GroupRecord:
        """From the store."""
        members = tuple(Member.of(member) for member in record["members"].values())
        return cls(**{**record, "members": members})


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthRecord:
    """What one health check last found of one instance."""

    check: str
    instance: str
    """Key of the instance."""
    instance_id: str
    """Numeric id: a later instance of the same name starts afresh."""
    port: int
    state: Health
    reason: str
    """The answer that decided, with the beginning of its body."""
    since: float
    """Unix seconds of the last change of `state`."""

    @property
    def name(self) -> str:
        """Name of the record."""
        return _health_name(self.check, self.instance, self.port)


@dataclass(frozen=True, slots=True, kw_only=True)
class AutoscalerRecord:
    """An autoscaler's recommendation and what it rests on; named by the autoscaler's id."""

    target: str
    """Id of the group manager."""
    recommended: int
    status: str
    details: tuple[tuple[str, str], ...] = ()
    """(type, message) of the API's statusDetails."""
    needed: tuple[tuple[float, int], ...] = ()
    """(Unix seconds, VMs that the load then needed), as far back as scale-in looks."""
    sizes: tuple[tuple[float, int], ...] = ()
    """(Unix seconds, recommendation then), as far back as the scale-in control looks."""


def group_record(store: Store, identifier: str) -> GroupRecord | None:
    """The record of a group manager."""
    record = store.get(GROUP, identifier)
    return GroupRecord.of(record) if record else None


def group_records(store: Store) -> Iterator[tuple[str, GroupRecord]]:
    """All group records."""
    return ((name, GroupRecord.of(record)) for name, record in store.items(GROUP))


def autoscaler_record(store: Store, identifier: str) -> AutoscalerRecord | None:
    """The record of an autoscaler."""
    record = store.get(AUTOSCALER, identifier)
    if record is None:
        return None
    series = {name: tuple((at, size) for at, size in record[name]) for name in ("needed", "sizes")}
    details = tuple((kind, message) for kind, message in record["details"])
    return AutoscalerRecord(**{**record, **series, "details": details})


def health_of(store: Store, check: str, instance: Instance, port: int) -> HealthRecord | None:
    """What a check last found of this very instance at a port."""
    record = store.get(HEALTH, _health_name(check, instance.key, port))
    if record is None or record["instance_id"] != instance.numeric_id:
        return None
    return HealthRecord(**record)


def health_records(store: Store) -> Iterator[HealthRecord]:
    """All health records."""
    return (HealthRecord(**record) for _, record in store.items(HEALTH))


def put_record(store: Store, kind: str, name: str, record: AutoscalerRecord | HealthRecord) -> None:
    """Write a record that is plain data."""
    store.put(kind, name, asdict(record))


def instances(store: Store) -> Iterator[Instance]:
    """Every VM."""
    return (Instance.of(record) for _, record in store.items(INSTANCE))


def instance(store: Store, key: str) -> Instance | None:
    """A VM by its key."""
    record: Json | None = store.get(INSTANCE, key)
    return Instance.of(record) if record else None


def worst(states: Iterable[Health]) -> Health:
    """The worst of several answers; HEALTHY where nobody asks."""
    order: tuple[Health, ...] = ("HEALTHY", "UNKNOWN", "TIMEOUT", "UNHEALTHY")
    return max(states, key=order.index, default="HEALTHY")


def _health_name(check: str, key: str, port: int) -> str:
    return f"{check}|{key}|{port}"
