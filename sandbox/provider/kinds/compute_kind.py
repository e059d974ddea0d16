"""What Compute Engine's resources have in common: names, links, scopes."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from typing import ClassVar, Final, Literal

from sandbox.compute.names import relative, self_link, short
from sandbox.provider.check import Failure
from sandbox.provider.cloud import Cloud, ProviderConfig
from sandbox.provider.kinds.base import Kind, Plan, Reference, labels, now, number, unsigned
from sandbox.provider.wire import UNKNOWN, Json, Value

NAME: Final = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")
"""RFC 1035 label (compute v1 discovery document, pattern of `name`)."""

COLLECTIONS: Final = {
    "gcp:compute/backendService:BackendService": "backendServices",
    "gcp:compute/firewall:Firewall": "firewalls",
    "gcp:compute/globalAddress:GlobalAddress": "addresses",
    "gcp:compute/globalForwardingRule:GlobalForwardingRule": "forwardingRules",
    "gcp:compute/healthCheck:HealthCheck": "healthChecks",
    "gcp:compute/instance:Instance": "instances",
    "gcp:compute/instanceTemplate:InstanceTemplate": "instanceTemplates",
    "gcp:compute/managedSslCertificate:ManagedSslCertificate": "sslCertificates",
    "gcp:compute/network:Network": "networks",
    "gcp:compute/regionAutoscaler:RegionAutoscaler": "autoscalers",
    "gcp:compute/regionInstanceGroupManager:RegionInstanceGroupManager": "instanceGroupManagers",
    "gcp:compute/router:Router": "routers",
    "gcp:compute/securityPolicy:SecurityPolicy": "securityPolicies",
    "gcp:compute/subnetwork:Subnetwork": "subnetworks",
    "gcp:compute/targetHttpProxy:TargetHttpProxy": "targetHttpProxies",
    "gcp:compute/targetHttpsProxy:TargetHttpsProxy": "targetHttpsProxies",
    "gcp:compute/uRLMap:URLMap": "urlMaps",
}
"""Path segment of each kind in its ids and links."""

_REGIONAL: Final = frozenset({"autoscalers", "instanceGroupManagers", "routers", "subnetworks"})


class ComputeKind(Kind):
    """A resource of the Compute Engine API: `projects/P/global|regions/R|zones/Z/<collection>/<name>`."""

    scope: ClassVar[Literal["global", "region", "zone"]] = "global"
    numeric: ClassVar[tuple[str, ...]] = ()
    """Outputs that hold a numeric id: a number, or text where the schema says so."""
    numeric_text: ClassVar[tuple[str, ...]] = ()
    has_labels: ClassVar[bool] = False
    fingerprints: ClassVar[tuple[str, ...]] = ()
    created_output: ClassVar[bool] = True
    """It has a `creationTimestamp`."""

    @property
    def collection(self) -> str:
        """Path segment in ids."""
        return COLLECTIONS[self.pulumi_type]

    def failures(self, inputs: Json) -> Iterator[Failure]:
        """The name is a label."""
        name = inputs.get("name")
        if isinstance(name, str) and not NAME.fullmatch(name):
            yield Failure(
                "name",
                f"name {name!r} must be 1 to 63 lower-case letters, digits and hyphens, begin with a letter and not "
                "end with a hyphen",
            )

    def identifier(self, inputs: Json, config: ProviderConfig) -> str:
        """The resource's path under its project."""
        place = place_of(self.scope, inputs, config)
        return f"projects/{inputs.get('project') or config.project}/{place}/{self.collection}/{inputs['name']}"

    def outputs(self, plan: Plan, cloud: Cloud) -> Json:
        """Links, numbers, timestamps and labels."""
        old = plan.old
        found: Json = {
            "project": plan.identifier.split("/")[1],
            "selfLink": self_link(plan.identifier),
        }
        if self.scope != "global":
            found[self.scope] = plan.identifier.split("/")[3]
        if self.created_output:
            found["creationTimestamp"] = old.get("creationTimestamp") or now()
        found |= {name: old.get(name) or number() for name in self.numeric}
        found |= {name: old.get(name) or unsigned() for name in self.numeric_text}
        if self.has_labels:
            found |= labels(plan.inputs, plan.config)
            found["labelFingerprint"] = fingerprint(found["effectiveLabels"])
        return found | {name: fingerprint(plan.inputs) for name in self.fingerprints}

    def target_of(self, reference: Reference, value: str, own: str) -> str:
        """Full id of a reference by link, partial URL or bare name."""
        path = relative(value)
        path = path.replace("/instanceGroups/", "/instanceGroupManagers/")
        collection = COLLECTIONS[reference.targets[0]]
        if path.startswith("projects/"):
            return path
        project = own.split("/")[1]
        if "/" in path:
            return f"projects/{project}/{path}"
        place = "global"
        if collection in _REGIONAL:
            region = own.split("/")[3]
            place = f"regions/{region if own.split('/')[2] == 'regions' else region.rpartition('-')[0]}"
        return f"projects/{project}/{place}/{collection}/{path}"


def place_of(scope: str, inputs: Json, config: ProviderConfig) -> str:
    """`global`, `regions/R` or `zones/Z` of a new resource. Raises ValueError where none is configured."""
    if scope == "global":
        return "global"
    named = inputs.get(scope) or (config.region if scope == "region" else config.zone)
    if not named:
        raise ValueError(f"no {scope}: set it on the resource, or configure gcp:{scope}")
    return f"{scope}s/{short(named)}"


def fingerprint(value: Value) -> str:
    """Short digest of a value, in the role of the API's fingerprints."""
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def is_set(inputs: Json, key: str) -> bool:
    """Whether an input is given, with a value known or not, that is not empty."""
    value = inputs.get(key)
    return value is UNKNOWN or bool(value)
