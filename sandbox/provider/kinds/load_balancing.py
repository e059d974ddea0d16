"""The chain of a global external Application Load Balancer, from health check to forwarding rule."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, Final

from sandbox.compute.names import short
from sandbox.provider.check import Failure
from sandbox.provider.cloud import Cloud
from sandbox.provider.errors import CloudError, invalid
from sandbox.provider.kinds.base import Kind, Plan, Reference, filled_in, known
from sandbox.provider.kinds.compute import GROUP_MANAGER, HEALTH_CHECK
from sandbox.provider.kinds.compute_kind import ComputeKind, is_set
from sandbox.provider.wire import Json

BACKEND_SERVICE: Final = "gcp:compute/backendService:BackendService"
URL_MAP: Final = "gcp:compute/uRLMap:URLMap"
HTTP_PROXY: Final = "gcp:compute/targetHttpProxy:TargetHttpProxy"
HTTPS_PROXY: Final = "gcp:compute/targetHttpsProxy:TargetHttpsProxy"
CERTIFICATE: Final = "gcp:compute/managedSslCertificate:ManagedSslCertificate"
ADDRESS: Final = "gcp:compute/globalAddress:GlobalAddress"
SECURITY_POLICY: Final = "gcp:compute/securityPolicy:SecurityPolicy"

_PROBES: Final = {"httpHealthCheck": ("HTTP", 80), "httpsHealthCheck": ("HTTPS", 443), "tcpHealthCheck": ("TCP", 80)}
_DEFAULT_RULE_PRIORITY: Final = 2147483647


class HealthCheck(ComputeKind):
    """A health check; sandbox.compute.health probes by it."""

    pulumi_type = HEALTH_CHECK
    noun = "health_check"
    filled: ClassVar[Json] = {"logConfig": {"enable": False}}

    def failures(self, inputs: Json) -> Iterator[Failure]:
        """One protocol, and a time-out within the interval.

        Source: terraform-provider-google `resource_compute_health_check.go`: ExactlyOneOf of its schema; and the API,
        "Health checks overview": a time-out may not exceed the interval.
        """
        yield from super().failures(inputs)
        given = [key for key in _PROBES if key in inputs]
        if len(given) != 1:
            yield Failure("httpHealthCheck", f"set exactly one of {', '.join(_PROBES)}")
        interval, timeout = inputs.get("checkIntervalSec", 5), inputs.get("timeoutSec", 5)
        if isinstance(interval, int) and isinstance(timeout, int) and timeout > interval:
            yield Failure("timeoutSec", f"timeoutSec {timeout} must not exceed checkIntervalSec {interval}")

    def outputs(self, plan: Plan, cloud: Cloud) -> Json:
        """Protocol and port as the API gives them."""
        key = next(key for key in _PROBES if key in plan.inputs)
        protocol, port = _PROBES[key]
        probe = plan.inputs[key]
        if probe.get("portSpecification", "USE_FIXED_PORT") == "USE_FIXED_PORT":
            probe = filled_in(probe, {"port": port})
        return super().outputs(plan, cloud) | {"type": protocol, key: probe}


class BackendService(ComputeKind):
    """Groups behind the balancer."""

    pulumi_type = BACKEND_SERVICE
    noun = "backend_service"
    numeric = ("generatedId",)
    fingerprints = ("fingerprint",)
    references = (
        Reference(path="backends[].group", targets=(GROUP_MANAGER,)),
        Reference(path="healthChecks", targets=(HEALTH_CHECK,)),
        Reference(path="securityPolicy", targets=(SECURITY_POLICY,)),
    )
    filled: ClassVar[Json] = {"protocol": "HTTP", "portName": "http", "timeoutSec": 30, "sessionAffinity": "NONE"}

    def refuse(self, plan: Plan, cloud: Cloud) -> None:
        """The API's rules for balancing modes, and a check for groups."""
        backends = plan.inputs.get("backends") or []
        for index, backend in enumerate(backends):
            mode = backend.get("balancingMode", "UTILIZATION")
            if mode == "RATE" and not (backend.get("maxRate") or backend.get("maxRatePerInstance")):
                raise invalid(
                    f"backends[{index}].balancingMode",
                    mode,
                    "Max rate or max rate per instance must be set for RATE mode",
                )
            for key in ("maxUtilization", "capacityScaler"):
                value = backend.get(key, 0)
                if not 0 <= value <= 1:
                    raise invalid(f"backends[{index}].{key}", value, "Must be a value between 0 and 1")
        if backends and not plan.inputs.get("healthChecks"):
            raise CloudError(
                400, "Invalid value for field 'resource.healthChecks': ''. Health check is required", "invalid"
            )

    def outputs(self, plan: Plan, cloud: Cloud) -> Json:
        """UTILIZATION without a target means 0.8."""
        backends = [
            filled_in(backend, {"maxUtilization": 0.8} if backend.get("balancingMode") == "UTILIZATION" else {})
            for backend in plan.inputs.get("backends") or ()
        ]
        return super().outputs(plan, cloud) | {"backends": backends}


class URLMap(ComputeKind):
    """Which backend service answers; the sandbox models the default service only."""

    pulumi_type = URL_MAP
    noun = "url_map"
    numeric = ("mapId",)
    fingerprints = ("fingerprint",)
    references = (Reference(path="defaultService", targets=(BACKEND_SERVICE,)),)

    def failures(self, inputs: Json) -> Iterator[Failure]:
        """Exactly one default (terraform-provider-google `resource_compute_url_map.go`, ExactlyOneOf)."""
        yield from super().failures(inputs)
        if is_set(inputs, "defaultService") == is_set(inputs, "defaultUrlRedirect"):
            yield Failure("defaultService", "set exactly one of defaultService and defaultUrlRedirect")


class TargetHttpProxy(ComputeKind):
    """HTTP front of a URL map."""

    pulumi_type = HTTP_PROXY
    noun = "target_http_proxy"
    numeric = ("proxyId",)
    fingerprints = ("fingerprint",)
    references = (Reference(path="urlMap", targets=(URL_MAP,)),)


class TargetHttpsProxy(ComputeKind):
    """HTTPS front of a URL map. The sandbox's balancer does not listen for it."""

    pulumi_type = HTTPS_PROXY
    noun = "target_https_proxy"
    numeric = ("proxyId",)
    fingerprints = ("fingerprint",)
    references = (
        Reference(path="urlMap", targets=(URL_MAP,)),
        Reference(path="sslCertificates[]", targets=(CERTIFICATE,)),
    )

    def failures(self, inputs: Json) -> Iterator[Failure]:
        """A certificate."""
        yield from super().failures(inputs)
        if not is_set(inputs, "sslCertificates"):
            yield Failure("sslCertificates", "sslCertificates is empty: an HTTPS proxy needs a certificate")


class ManagedSslCertificate(ComputeKind):
    """A certificate that Google would issue; none is issued here."""

    pulumi_type = CERTIFICATE
    noun = "ssl_certificate"
    numeric = ("certificateId",)

    def outputs(self, plan: Plan, cloud: Cloud) -> Json:
        """Not issued yet."""
        return super().outputs(plan, cloud) | {"expireTime": "", "subjectAlternativeNames": []}


class GlobalAddress(ComputeKind):
    """A reserved address: here, one of the loopback network."""

    pulumi_type = ADDRESS
    noun = "address"
    has_labels = True

    def outputs(self, plan: Plan, cloud: Cloud) -> Json:
        """The address."""
        found = super().outputs(plan, cloud)
        given = plan.inputs.get("address")
        return found | {"address": given or cloud.addresses.for_global_address(plan.inputs["name"])}

    async def delete(self, identifier: str, state: Json, cloud: Cloud) -> None:
        """The address goes back."""
        cloud.addresses.release_global_address(short(identifier))


class GlobalForwardingRule(ComputeKind):
    """Where the balancer listens; sandbox.balancer makes it real."""

    pulumi_type = "gcp:compute/globalForwardingRule:GlobalForwardingRule"
    noun = "forwarding_rule"
    numeric = ("forwardingRuleId",)
    has_labels = True
    created_output = False
    references = (
        Reference(path="target", targets=(HTTP_PROXY, HTTPS_PROXY)),
        Reference(path="ipAddress", targets=(ADDRESS,)),
    )
    filled: ClassVar[Json] = {"ipProtocol": "TCP", "networkTier": "PREMIUM"}

    def failures(self, inputs: Json) -> Iterator[Failure]:
        """A port, as `80` or `80-80`."""
        yield from super().failures(inputs)
        if known(inputs, "portRange"):
            try:
                low, high = _ports(inputs["portRange"])
            except ValueError:
                low, high = 0, 0
            if not 1 <= low == high <= 65535:
                yield Failure(
                    "portRange", f"portRange {inputs['portRange']!r} must be one port from 1 to 65535, such as 80"
                )
        elif "portRange" not in inputs:
            yield Failure("portRange", "portRange is not set: name the port to listen on, such as 80")

    def equivalent(self, pattern: str, old: object, new: object) -> bool:
        """`80` is `80-80`, and an address by name is the number that the API gives back for it.

        Source: terraform-provider-google, `PortRangeDiffSuppress` and `InternalIpDiffSuppress`.
        """
        if isinstance(old, str) and isinstance(new, str):
            if pattern == "portRange":
                return _ports(old) == _ports(new)
            if pattern == "ipAddress" and old[:1].isdigit() != new[:1].isdigit():
                return True
        return super().equivalent(pattern, old, new)

    def refuse(self, plan: Plan, cloud: Cloud) -> None:
        """One rule for an address and a port."""
        address = plan.inputs.get("ipAddress")
        for other, record in cloud.store.resources(self.pulumi_type):
            theirs = record["state"]
            if (
                other != plan.identifier
                and address in {theirs.get("ipAddress"), record["inputs"].get("ipAddress")}
                and _ports(theirs["portRange"]) == _ports(plan.inputs["portRange"])
            ):
                raise invalid("IPAddress", address, "Specified IP address is in-use and would result in a conflict.")

    def outputs(self, plan: Plan, cloud: Cloud) -> Json:
        """The address as numbers, an ephemeral one where none is given."""
        given = plan.inputs.get("ipAddress", "")
        if not given:
            given = cloud.addresses.for_global_address(self._ephemeral(plan.identifier))
        elif not given[0].isdigit():
            named = cloud.store.get("resource", self.target_of(self.references[1], given, plan.identifier))
            given = named["state"]["address"] if named else given
        low, high = _ports(plan.inputs["portRange"])
        return super().outputs(plan, cloud) | {"ipAddress": given, "portRange": f"{low}-{high}"}

    async def delete(self, identifier: str, state: Json, cloud: Cloud) -> None:
        """An ephemeral address goes with its rule."""
        cloud.addresses.release_global_address(self._ephemeral(identifier))

    @staticmethod
    def _ephemeral(identifier: str) -> str:
        return f"forwardingRules/{short(identifier)}"


class SecurityPolicy(ComputeKind):
    """A Cloud Armor policy: recorded, and not enforced by the sandbox's balancer."""

    pulumi_type = SECURITY_POLICY
    noun = "security_policy"
    has_labels = True
    fingerprints = ("fingerprint",)
    created_output = False
    filled: ClassVar[Json] = {"type": "CLOUD_ARMOR"}

    def outputs(self, plan: Plan, cloud: Cloud) -> Json:
        """A policy without a default rule gets one that allows."""
        rules = list(plan.inputs.get("rules") or ())
        if all(rule.get("priority") != _DEFAULT_RULE_PRIORITY for rule in rules):
            rules.append(
                {
                    "action": "allow",
                    "priority": _DEFAULT_RULE_PRIORITY,
                    "description": "default rule",
                    "match": {"versionedExpr": "SRC_IPS_V1", "config": {"srcIpRanges": ["*"]}},
                    "preview": False,
                }
            )
        return super().outputs(plan, cloud) | {"rules": rules}


def _ports(port_range: str) -> tuple[int, int]:
    low, _, high = port_range.partition("-")
    return int(low), int(high or low)


KINDS: tuple[Kind, ...] = (
    HealthCheck(),
    BackendService(),
    URLMap(),
    TargetHttpProxy(),
    TargetHttpsProxy(),
    ManagedSslCertificate(),
    GlobalAddress(),
    GlobalForwardingRule(),
    SecurityPolicy(),
)
