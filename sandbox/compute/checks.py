"""Which health checks ask which instances, and at which port."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from sandbox.compute.declared import (
    HEALTH_CHECK,
    BackendService,
    Group,
    HealthCheck,
    UnmodelledError,
    find,
    health_check,
)
from sandbox.store import Store


@dataclass(frozen=True, slots=True)
class Checked:
    """A health check at a port."""

    check: HealthCheck
    port: int


def autohealing_check(store: Store, group: Group) -> Checked | None:
    """The group's autohealing check; None without one, or where it is not (or no longer) declared."""
    if group.healing is None:
        return None
    check = _check(store, group.healing.health_check)
    return Checked(check, check.port) if check is not None and check.port is not None else None


def serving_check(store: Store, service: BackendService, group: Group) -> Checked | None:
    """The check of a backend service at the group's port; None without check or named port."""
    check = _check(store, service.health_check)
    port = check.port if check and check.port is not None else serving_port(service, group)
    return Checked(check, port) if check is not None and port is not None else None


def serving_port(service: BackendService, group: Group) -> int | None:
    """Port of the group's instances that a backend service sends requests to."""
    return group.named_ports.get(service.port_name)


def services_of(group: Group, services: Iterable[BackendService]) -> Iterator[BackendService]:
    """Backend services that have the group as a backend."""
    return (service for service in services if any(backend.group == group.id for backend in service.backends))


def _check(store: Store, identifier: str) -> HealthCheck | None:
    found = find(store, HEALTH_CHECK, identifier) if identifier else None
    if found is None:
        return None
    try:
        return health_check(*found)
    except UnmodelledError:
        return None
