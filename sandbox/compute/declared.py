"""Declared resources as the controllers read them: typed, with Google's defaults filled in.

Properties have the names of the Pulumi provider. Defaults are the API's (Compute Engine v1 discovery document,
2026-11).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from sandbox.compute.names import group_manager_of, relative, same, short
from sandbox.store import RESOURCE, Json, Store

GROUP_MANAGER: Final = "gcp:compute/regionInstanceGroupManager:RegionInstanceGroupManager"
INSTANCE_TEMPLATE: Final = "gcp:compute/instanceTemplate:InstanceTemplate"
AUTOSCALER: Final = "gcp:compute/regionAutoscaler:RegionAutoscaler"
HEALTH_CHECK: Final = "gcp:compute/healthCheck:HealthCheck"
BACKEND_SERVICE: Final = "gcp:compute/backendService:BackendService"
URL_MAP: Final = "gcp:compute/uRLMap:URLMap"
HTTP_PROXY: Final = "gcp:compute/targetHttpProxy:TargetHttpProxy"
HTTPS_PROXY: Final = "gcp:compute/targetHttpsProxy:TargetHttpsProxy"
FORWARDING_RULE: Final = "gcp:compute/globalForwardingRule:GlobalForwardingRule"
GLOBAL_ADDRESS: Final = "gcp:compute/globalAddress:GlobalAddress"

DRAINING_DEFAULT_S: Final = 300
BACKEND_TIMEOUT_DEFAULT_S: Final = 30


def properties(record: Json) -> Json:
    """Properties of a resource record: what was declared, overlaid by what the provider computed."""
    return {**record["inputs"], **record["state"]}


def declared(store: Store, type_token: str) -> Iterator[tuple[str, Json]]:
    """Resources of a type as (id, properties)."""
    return ((name, properties(record)) for name, record in store.resources(type_token))


def find(store: Store, type_token: str, reference: str) -> tuple[str, Json] | None:
    """The resource of a type that a link, an id or a name refers to, as (id, properties)."""
    record = store.get(RESOURCE, relative(reference))
    if record is not None and record["type"] == type_token:
        found = properties(record)
        if same(str(found.get("selfLinkUnique", "")) or reference, reference):
            return relative(reference), found
        return None
    return next(
        (
            (identifier, found)
            for identifier, found in declared(store, type_token)
            if same(reference, str(found.get("selfLinkUnique") or found.get("selfLink") or identifier))
        ),
        None,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdatePolicy:
    """How a group replaces instances of an old template."""

    proactive: bool
    recreate: bool
    """Same names again, instead of new instances beside the old ones."""
    max_surge: int
    max_unavailable: int
    min_ready_s: float
    may_replace: bool
    """False where `mostDisruptiveAllowedAction` forbids it: then nothing is updated."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Healing:
    """Autohealing check (its id) and the time in which its failures are ignored."""

    health_check: str
    initial_delay_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Lifecycle:
    """What happens to failed instances."""

    repair_failed: bool
    repair_unhealthy: bool
    force_update: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """A regional managed instance group."""

    id: str
    region: str
    base_name: str
    zones: tuple[str, ...]
    """Names, in declared order."""
    even: bool
    """Shape EVEN: no zone is left out, not even one without capacity."""
    template: str
    """Link of the template that its one version names."""
    version: str
    target_size: int | None
    named_ports: Mapping[str, int]
    update: UpdatePolicy
    healing: Healing | None
    lifecycle: Lifecycle


class UnmodelledError(Exception):
    """A declaration asks for something that the sandbox does not do."""


def group(identifier: str, record: Json) -> Group:
    """A group from its resource record. Raises UnmodelledError.

    The target size is the declared one: the state also carries what the API computed.
    """
    found = properties(record)
    versions = found["versions"]
    if len(versions) != 1 or versions[0].get("targetSize"):
        raise UnmodelledError(
            f"{identifier}: versions: the sandbox models one version without targetSize, not {len(versions)}"
        )
    zones = tuple(short(zone) for zone in found["distributionPolicyZones"])
    healing = found.get("autoHealingPolicies")
    lifecycle = found.get("instanceLifecyclePolicy") or {}
    repair_failed = lifecycle.get("defaultActionOnFailure", "REPAIR") == "REPAIR"
    unhealthy = lifecycle.get("onFailedHealthCheck", "DEFAULT_ACTION")
    size = record["inputs"].get("targetSize")
    return Group(
        id=identifier,
        region=short(found["region"]),
        base_name=found["baseInstanceName"],
        zones=zones,
        even=(found.get("distributionPolicyTargetShape") or "EVEN") == "EVEN",
        template=versions[0]["instanceTemplate"],
        version=versions[0].get("name") or "",
        target_size=None if size is None else int(size),
        named_ports={port["name"]: int(port["port"]) for port in found.get("namedPorts") or ()},
        update=_update_policy(identifier, found.get("updatePolicy") or {}, len(zones)),
        healing=Healing(
            health_check=relative(healing["healthCheck"]), initial_delay_s=float(healing["initialDelaySec"])
        )
        if healing
        else None,
        lifecycle=Lifecycle(
            repair_failed=repair_failed,
            repair_unhealthy=repair_failed if unhealthy == "DEFAULT_ACTION" else unhealthy == "REPAIR",
            force_update=lifecycle.get("forceUpdateOnRepair", "NO") == "YES",
        ),
    )


def _update_policy(identifier: str, declared_policy: Json, zones: int) -> UpdatePolicy:
    for percentage in ("maxSurgePercent", "maxUnavailablePercent"):
        if declared_policy.get(percentage):
            raise UnmodelledError(f"{identifier}: updatePolicy.{percentage}: the sandbox models fixed numbers only")
    recreate = declared_policy.get("replacementMethod", "SUBSTITUTE") == "RECREATE"
    return UpdatePolicy(
        proactive=declared_policy.get("type", "OPPORTUNISTIC") == "PROACTIVE",
        recreate=recreate,
        max_surge=0 if recreate else int(declared_policy.get("maxSurgeFixed", zones)),
        max_unavailable=int(declared_policy.get("maxUnavailableFixed", zones)),
        min_ready_s=float(declared_policy.get("minReadySec", 0)),
        may_replace=declared_policy.get("mostDisruptiveAllowedAction", "REPLACE") == "REPLACE",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Backend:
    """One group behind a backend service."""

    group: str
    """Id of the instance group manager."""
    balancing_mode: str
    capacity_scaler: float
    max_rate_per_instance: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendService:
    """What a URL map sends requests to."""

    id: str
    backends: tuple[Backend, ...]
    port_name: str
    health_check: str
    """Id, or empty: then every instance counts as healthy."""
    timeout_s: float
    draining_s: float
    locality_policy: str


def backend_service(identifier: str, found: Json) -> BackendService:
    """A backend service from its properties. Raises UnmodelledError."""
    protocol = found.get("protocol") or "HTTP"
    if protocol != "HTTP":
        raise UnmodelledError(f"{identifier}: protocol {protocol}: the sandbox's balancer speaks HTTP to backends")
    for name in ("customRequestHeaders", "customResponseHeaders", "iap", "cdnPolicy", "outlierDetection"):
        if found.get(name):
            raise UnmodelledError(f"{identifier}: {name}: the sandbox's balancer does not model it")
    checks = found.get("healthChecks") or ""
    check = checks if isinstance(checks, str) else next(iter(checks), "")
    return BackendService(
        id=identifier,
        backends=tuple(_backend(one) for one in found.get("backends") or ()),
        port_name=found.get("portName") or "http",
        health_check=relative(check),
        timeout_s=float(found.get("timeoutSec") or BACKEND_TIMEOUT_DEFAULT_S),
        draining_s=float(found.get("connectionDrainingTimeoutSec", DRAINING_DEFAULT_S)),
        locality_policy=found.get("localityLbPolicy") or "ROUND_ROBIN",
    )


def _backend(found: Json) -> Backend:
    rate = found.get("maxRatePerInstance")
    return Backend(
        group=group_manager_of(found["group"]),
        balancing_mode=found.get("balancingMode", "UTILIZATION"),
        capacity_scaler=float(found.get("capacityScaler", 1.0)),
        max_rate_per_instance=float(rate) if rate else None,
    )


def backend_services(store: Store) -> list[BackendService]:
    """Every backend service that the sandbox can model."""
    found: list[BackendService] = []
    for identifier, one in declared(store, BACKEND_SERVICE):
        try:
            found.append(backend_service(identifier, one))
        except UnmodelledError:
            continue
    return found


Probe = Literal["http", "https", "tcp"]


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthCheck:
    """A health check: how to ask, how often, and how many answers in a row decide."""

    id: str
    probe: Probe
    port: int | None
    """None: the serving port of whatever is checked."""
    path: str
    host: str
    expected: str
    """Text that the first kilobyte of the answer must hold."""
    interval_s: float
    timeout_s: float
    healthy_threshold: int
    unhealthy_threshold: int


def health_check(identifier: str, found: Json) -> HealthCheck:
    """A health check from its properties. Raises UnmodelledError."""
    kinds: tuple[tuple[Probe, str], ...] = (
        ("http", "httpHealthCheck"),
        ("https", "httpsHealthCheck"),
        ("tcp", "tcpHealthCheck"),
    )
    probe, name = next(((probe, name) for probe, name in kinds if found.get(name)), ("http", ""))
    if not name:
        raise UnmodelledError(f"{identifier}: the sandbox probes by HTTP, HTTPS and TCP only")
    spec = found[name]
    if probe == "tcp" and (spec.get("request") or spec.get("response")):
        raise UnmodelledError(f"{identifier}: {name}.request and .response: the sandbox only connects")
    if spec.get("portName"):
        raise UnmodelledError(f"{identifier}: {name}.portName: name a port, or use USE_SERVING_PORT")
    port = spec.get("port")
    if port is None and spec.get("portSpecification") != "USE_SERVING_PORT":
        port = {"http": 80, "https": 443, "tcp": 80}[probe]
    return HealthCheck(
        id=identifier,
        probe=probe,
        port=None if port is None else int(port),
        path=spec.get("requestPath") or "/",
        host=spec.get("host") or "",
        expected=spec.get("response") or "",
        interval_s=float(found.get("checkIntervalSec", 5)),
        timeout_s=float(found.get("timeoutSec", 5)),
        healthy_threshold=int(found.get("healthyThreshold", 2)),
        unhealthy_threshold=int(found.get("unhealthyThreshold", 2)),
    )
