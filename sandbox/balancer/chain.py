"""The declared load balancer chain, resolved: which address leads to which instances.

Forwarding rule -> target proxy -> URL map -> backend service -> the healthy instances of its groups.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from sandbox.compute.checks import serving_check, serving_port
from sandbox.compute.declared import (
    BACKEND_SERVICE,
    FORWARDING_RULE,
    GLOBAL_ADDRESS,
    GROUP_MANAGER,
    HTTP_PROXY,
    HTTPS_PROXY,
    URL_MAP,
    Backend,
    BackendService,
    Group,
    UnmodelledError,
    backend_service,
    declared,
    find,
    group,
)
from sandbox.compute.names import relative, short
from sandbox.compute.records import group_record, health_of, instance
from sandbox.machine.instance import Instance
from sandbox.network.addresses import Addresses
from sandbox.store import RESOURCE, Json, Store

CLIENT_KEEP_ALIVE_S: Final = 610
"""Default of the global balancer (compute v1, TargetHttpProxy.httpKeepAliveTimeoutSec)."""

_WEIGHT_SCALE: Final = 100
_REDIRECTS: Final = {
    "MOVED_PERMANENTLY_DEFAULT": "MOVED_PERMANENTLY",
    "FOUND": "FOUND",
    "SEE_OTHER": "SEE_OTHER",
    "TEMPORARY_REDIRECT": "TEMPORARY_REDIRECT",
    "PERMANENT_REDIRECT": "PERMANENT_REDIRECT",
}
"""Compute Engine's names -> Envoy's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """A healthy instance behind a backend service."""

    address: str
    port: int
    weight: int
    zone: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """A backend service and where its requests go now."""

    name: str
    service: BackendService
    endpoints: tuple[Endpoint, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Redirect:
    """Answer with another address."""

    https: bool
    host: str
    path: str
    prefix: str
    code: str
    """Envoy's name of the status."""
    strip_query: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """Paths, and where they lead: a cluster's name, or a redirect."""

    path: str
    """Exact, or a prefix where it ends with `/*`."""
    to: str | Redirect


@dataclass(frozen=True, slots=True, kw_only=True)
class VirtualHost:
    """Routes of some host names, most specific first."""

    name: str
    domains: tuple[str, ...]
    routes: tuple[Route, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteTable:
    """A URL map."""

    name: str
    hosts: tuple[VirtualHost, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Frontend:
    """A forwarding rule that listens."""

    rule: str
    """Id of the forwarding rule."""
    name: str
    address: str
    port: int
    table: str
    client_keep_alive_s: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """Everything that the balancer serves, and the forwarding rules that it cannot serve, with the reason."""

    frontends: tuple[Frontend, ...] = ()
    tables: tuple[RouteTable, ...] = ()
    clusters: tuple[Cluster, ...] = ()
    refused: dict[str, str] = field(default_factory=dict)


def resolve(store: Store, addresses: Addresses) -> Chain:
    """The chain as it is declared and healthy now."""
    frontends: list[Frontend] = []
    tables: dict[str, RouteTable] = {}
    clusters: dict[str, Cluster] = {}
    refused: dict[str, str] = {}
    for identifier, rule in declared(store, FORWARDING_RULE):
        try:
            frontend = _frontend(store, addresses, identifier, rule)
            table = _table(store, frontend.table)
            used = {name: _cluster(store, name) for name in sorted(_cluster_names(table))}
        except UnmodelledError as refusal:
            refused[identifier] = str(refusal)
            continue
        frontends.append(frontend)
        tables[table.name] = table
        clusters |= used
    return Chain(
        frontends=tuple(frontends), tables=tuple(tables.values()), clusters=tuple(clusters.values()), refused=refused
    )


def _frontend(store: Store, addresses: Addresses, identifier: str, rule: Json) -> Frontend:
    scheme = rule.get("loadBalancingScheme", "EXTERNAL_MANAGED")
    if scheme != "EXTERNAL_MANAGED":
        raise UnmodelledError(f"{identifier}: loadBalancingScheme {scheme}: the sandbox models EXTERNAL_MANAGED")
    if find(store, HTTPS_PROXY, rule["target"]) is not None:
        raise UnmodelledError(f"{identifier}: target HTTPS proxy: the sandbox has no certificates to serve HTTPS with")
    proxy = find(store, HTTP_PROXY, rule["target"])
    if proxy is None:
        raise UnmodelledError(f"{identifier}: target {rule['target']}: no such HTTP proxy is declared")
    first, _, last = str(rule["portRange"]).partition("-")
    if last and last != first:
        raise UnmodelledError(f"{identifier}: portRange {rule['portRange']}: the global balancer takes one port")
    return Frontend(
        rule=identifier,
        name=short(identifier),
        address=address_of(store, addresses, identifier, rule.get("ipAddress") or ""),
        port=int(first),
        table=relative(proxy[1]["urlMap"]),
        client_keep_alive_s=int(proxy[1].get("httpKeepAliveTimeoutSec") or CLIENT_KEEP_ALIVE_S),
    )


def address_of(store: Store, addresses: Addresses, rule: str, reference: str) -> str:
    """Address of a forwarding rule: what its `ipAddress` refers to, or an ephemeral one."""
    if reference.startswith("127."):
        return reference
    reserved = find(store, GLOBAL_ADDRESS, reference) if reference else None
    if reserved is not None:
        address: str = reserved[1]["address"]
        return address
    return addresses.for_global_address(f"forwarding rule {short(rule)}")


def _table(store: Store, identifier: str) -> RouteTable:
    found = find(store, URL_MAP, identifier)
    if found is None:
        raise UnmodelledError(f"{identifier}: no such URL map is declared")
    url_map = found[1]
    for name in ("defaultRouteAction", "headerAction", "defaultCustomErrorResponsePolicy"):
        if url_map.get(name):
            raise UnmodelledError(f"{identifier}: {name}: the sandbox's balancer does not model it")
    hosts_of = {rule["pathMatcher"]: tuple(rule["hosts"]) for rule in url_map.get("hostRules") or ()}
    hosts = [
        VirtualHost(
            name=matcher["name"], domains=hosts_of[matcher["name"]], routes=tuple(_routes(store, identifier, matcher))
        )
        for matcher in url_map.get("pathMatchers") or ()
        if matcher["name"] in hosts_of
    ]
    if not any("*" in host.domains for host in hosts):
        default = Route(path="/*", to=_destination(store, identifier, url_map, "default"))
        hosts.append(VirtualHost(name="default", domains=("*",), routes=(default,)))
    return RouteTable(name=short(identifier), hosts=tuple(hosts))


def _routes(store: Store, identifier: str, matcher: Json) -> Iterator[Route]:
    for name in ("routeRules", "defaultRouteAction", "headerAction"):
        if matcher.get(name):
            raise UnmodelledError(f"{identifier}: pathMatchers.{name}: the sandbox's balancer models pathRules")
    rules = [
        (path, _destination(store, identifier, rule, ""))
        for rule in matcher.get("pathRules") or ()
        for path in rule["paths"]
    ]
    for path, to in sorted(rules, key=lambda rule: (rule[0].endswith("/*"), -len(rule[0]), rule[0])):
        yield Route(path=path, to=to)
    yield Route(path="/*", to=_destination(store, identifier, matcher, "default"))


def _destination(store: Store, identifier: str, holder: Json, prefix: str) -> str | Redirect:
    service, redirect = (f"{prefix}Service", f"{prefix}UrlRedirect") if prefix else ("service", "urlRedirect")
    if holder.get(service):
        found = find(store, BACKEND_SERVICE, holder[service])
        if found is None:
            raise UnmodelledError(f"{identifier}: {service} {holder[service]}: no such backend service is declared")
        return found[0]
    if not holder.get(redirect):
        raise UnmodelledError(f"{identifier}: neither {service} nor {redirect}")
    spec: dict[str, Any] = holder[redirect]
    return Redirect(
        https=bool(spec.get("httpsRedirect")),
        host=spec.get("hostRedirect") or "",
        path=spec.get("pathRedirect") or "",
        prefix=spec.get("prefixRedirect") or "",
        code=_REDIRECTS[spec.get("redirectResponseCode") or "MOVED_PERMANENTLY_DEFAULT"],
        strip_query=bool(spec.get("stripQuery")),
    )


def _cluster_names(table: RouteTable) -> set[str]:
    return {route.to for host in table.hosts for route in host.routes if isinstance(route.to, str)}


def _cluster(store: Store, identifier: str) -> Cluster:
    found = find(store, BACKEND_SERVICE, identifier)
    if found is None:
        raise UnmodelledError(f"{identifier}: no such backend service is declared")
    service = backend_service(*found)
    fastest = max((backend.max_rate_per_instance or 0.0 for backend in service.backends), default=0.0)
    endpoints = [
        endpoint
        for backend in service.backends
        if backend.capacity_scaler > 0
        for endpoint in _endpoints(store, service, backend, fastest)
    ]
    return Cluster(name=identifier, service=service, endpoints=tuple(endpoints))


def _endpoints(store: Store, service: BackendService, backend: Backend, fastest: float) -> Iterator[Endpoint]:
    resource, record = store.get(RESOURCE, backend.group), group_record(store, backend.group)
    if resource is None or record is None or resource["type"] != GROUP_MANAGER:
        return
    owner = group(backend.group, resource)
    port = serving_port(service, owner)
    if port is None:
        return
    share = (backend.max_rate_per_instance or fastest) / fastest if fastest else 1.0
    weight = max(1, round(_WEIGHT_SCALE * backend.capacity_scaler * share))
    for member in record.members:
        vm = instance(store, f"{member.zone}/{member.name}")
        if vm is not None and not member.retiring and _healthy(store, service, owner, vm):
            yield Endpoint(address=vm.address, port=port, weight=weight, zone=member.zone)


def _healthy(store: Store, service: BackendService, owner: Group, vm: Instance) -> bool:
    if not service.health_check:
        return vm.status == "RUNNING"
    checked = serving_check(store, service, owner)
    record = health_of(store, checked.check.id, vm, checked.port) if checked else None
    return record is not None and record.state == "HEALTHY"
