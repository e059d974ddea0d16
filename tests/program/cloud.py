"""What Google Cloud would answer to a creation: ids, links and names, as far as this program uses them."""

from __future__ import annotations

import hashlib
import json
from typing import Any

COMPUTE = "https://www.googleapis.com/compute/v1/"
PROJECT_NUMBER = "123456789012"
ADDRESS = "203.0.113.7"

_GLOBAL = {
    "BackendService": "backendServices",
    "Firewall": "firewalls",
    "GlobalAddress": "addresses",
    "GlobalForwardingRule": "forwardingRules",
    "HealthCheck": "healthChecks",
    "InstanceTemplate": "instanceTemplates",
    "ManagedSslCertificate": "sslCertificates",
    "Network": "networks",
    "TargetHttpProxy": "targetHttpProxies",
    "TargetHttpsProxy": "targetHttpsProxies",
    "URLMap": "urlMaps",
}
_REGIONAL = {
    "RegionAutoscaler": "autoscalers",
    "RegionInstanceGroupManager": "instanceGroupManagers",
    "Router": "routers",
    "RouterNat": "routerNats",
    "Subnetwork": "subnetworks",
}


def computed(type_: str, name: str, inputs: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Id and computed outputs of a new resource. A name that was not given gets a suffix, always the same."""
    kind = type_.rpartition(":")[2]
    project, own_name = inputs.get("project"), inputs.get("name", f"{name}-1a2b3c4")
    if kind in _GLOBAL or kind in _REGIONAL:
        place = f"global/{_GLOBAL[kind]}" if kind in _GLOBAL else f"regions/{inputs['region']}/{_REGIONAL[kind]}"
        id_ = f"projects/{project}/{place}/{own_name}"
        return id_, {"name": own_name, "selfLink": COMPUTE + id_, **_compute_extras(kind, id_, inputs)}
    if kind == "Account":
        email = f"{inputs['accountId']}@{project}.iam.gserviceaccount.com"
        return f"projects/{project}/serviceAccounts/{email}", {"email": email, "member": f"serviceAccount:{email}"}
    if kind == "Instance":
        id_ = f"projects/{project}/zones/{inputs['zone']}/instances/{own_name}"
        return id_, {"selfLink": COMPUTE + id_, "instanceId": "1234567890123456789", "currentStatus": "RUNNING"}
    if kind == "Dashboard":
        return f"projects/{PROJECT_NUMBER}/dashboards/{name}", {}
    if kind == "Bucket":
        return own_name, {"name": own_name, "url": f"gs://{own_name}"}
    return f"{name}-id", {}


def _compute_extras(kind: str, id_: str, inputs: dict[str, Any]) -> dict[str, Any]:
    if kind == "InstanceTemplate":
        digest = hashlib.sha256(json.dumps(inputs, sort_keys=True, default=str).encode()).hexdigest()
        return {"selfLinkUnique": f"{COMPUTE}{id_}?uniqueId={int(digest[:12], 16)}"}
    if kind == "RegionInstanceGroupManager":
        return {"instanceGroup": (COMPUTE + id_).replace("instanceGroupManagers", "instanceGroups")}
    if kind == "GlobalAddress":
        return {"address": ADDRESS}
    return {}
