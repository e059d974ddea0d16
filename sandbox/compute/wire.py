"""Compute Engine v1 JSON of declared resources and of what the controllers know of them: pure functions.

Field names are those of Google's discovery document; a test holds every answer against it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, Final

from sandbox.compute.autoscaler import policy_of
from sandbox.compute.declared import BackendService, Group
from sandbox.compute.names import relative, self_link, short, timestamp
from sandbox.compute.records import AutoscalerRecord, GroupRecord, HealthRecord
from sandbox.compute.rollout import Health, Member
from sandbox.machine.instance import Instance
from sandbox.store import Json

_ACTIONS: Final = (
    "abandoning",
    "creating",
    "creatingWithoutRetries",
    "deleting",
    "none",
    "recreating",
    "refreshing",
    "restarting",
    "resuming",
    "starting",
    "stopping",
    "suspending",
    "verifying",
)


def collection(kind: str, link: str, items: Iterable[Json]) -> Json:
    """A list response with everything on one page."""
    found = list(items)
    answer: Json = {"kind": f"compute#{kind}", "id": relative(link), "selfLink": self_link(link)}
    return {**answer, "items": found} if found else answer


def group_manager(owner: Group, found: Json, record: GroupRecord, autoscaler: str) -> Json:
    """InstanceGroupManager; `autoscaler` is the id of its autoscaler, or empty."""
    actions = Counter(member.action.lower() for member in record.members)
    status: Json = {"isStable": record.stable, "versionTarget": {"isReached": record.reached}}
    if autoscaler:
        status["autoscaler"] = self_link(autoscaler)
    answer = _common("instanceGroupManager", owner.id, found, found.get("instanceGroupManagerId"))
    answer |= {
        "region": self_link(f"projects/{_project(owner.id)}/regions/{owner.region}"),
        "baseInstanceName": owner.base_name,
        "distributionPolicy": {
            "targetShape": found.get("distributionPolicyTargetShape") or "EVEN",
            "zones": [{"zone": _zone_link(owner.id, zone)} for zone in owner.zones],
        },
        "instanceTemplate": owner.template,
        "versions": [{"instanceTemplate": owner.template, "targetSize": {"calculated": record.target_size}}],
        "instanceGroup": self_link(owner.id.replace("/instanceGroupManagers/", "/instanceGroups/")),
        "namedPorts": [{"name": name, "port": port} for name, port in owner.named_ports.items()],
        "targetSize": record.target_size,
        "currentActions": {name: actions[name] for name in _ACTIONS},
        "status": status,
        "updatePolicy": {
            "type": "PROACTIVE" if owner.update.proactive else "OPPORTUNISTIC",
            "minimalAction": (found.get("updatePolicy") or {}).get("minimalAction", "REPLACE"),
            "replacementMethod": "RECREATE" if owner.update.recreate else "SUBSTITUTE",
            "maxSurge": {"fixed": owner.update.max_surge, "calculated": owner.update.max_surge},
            "maxUnavailable": {"fixed": owner.update.max_unavailable, "calculated": owner.update.max_unavailable},
        },
    }
    if owner.version:
        answer["versions"][0]["name"] = owner.version
    if owner.healing is not None:
        delay = int(owner.healing.initial_delay_s)
        answer["autoHealingPolicies"] = [
            {"healthCheck": self_link(owner.healing.health_check), "initialDelaySec": delay}
        ]
    return answer


def managed_instance(owner: Group, member: Member, vm: Instance | None, liveness: Health) -> Json:
    """ManagedInstance; `liveness` is what the autohealing check found."""
    link = self_link(f"projects/{_project(owner.id)}/zones/{member.zone}/instances/{member.name}")
    answer: Json = {
        "name": member.name,
        "instance": link,
        "currentAction": member.action,
        "version": {"instanceTemplate": vm.template if vm else member.template},
    }
    if vm is not None:
        answer |= {"id": vm.numeric_id, "instanceStatus": vm.status}
    if owner.healing is not None and vm is not None:
        answer["instanceHealth"] = [
            {"healthCheck": self_link(owner.healing.health_check), "detailedHealthState": liveness}
        ]
    if member.faults:
        errors = [{"code": fault.code, "message": fault.message} for fault in member.faults]
        answer["lastAttempt"] = {"errors": {"errors": errors}}
    return answer


def instance(vm: Instance, project: str) -> Json:
    """Instance."""
    where = f"projects/{project}/zones/{vm.zone}"
    interface: Json = {"name": "nic0", "network": self_link(vm.network), "networkIP": vm.address}
    if vm.external_address:
        interface["accessConfigs"] = [{"name": "External NAT", "type": "ONE_TO_ONE_NAT"}]
    if vm.subnetwork:
        interface["subnetwork"] = self_link(vm.subnetwork)
    answer: Json = {
        "kind": "compute#instance",
        "id": vm.numeric_id,
        "creationTimestamp": timestamp(vm.created),
        "name": vm.name,
        "zone": self_link(where),
        "selfLink": self_link(f"{where}/instances/{vm.name}"),
        "machineType": self_link(f"{where}/machineTypes/{vm.machine_type}"),
        "status": vm.status,
        "tags": {"items": vm.tags},
        "labels": vm.labels,
        "metadata": {
            "kind": "compute#metadata",
            "items": [{"key": key, "value": value} for key, value in vm.metadata.items()],
        },
        "networkInterfaces": [interface],
        "disks": [{"boot": True, "type": "PERSISTENT", "source": self_link(f"{where}/disks/{vm.name}")}],
        "scheduling": {
            "preemptible": vm.preemptible,
            "automaticRestart": vm.automatic_restart,
            "provisioningModel": "SPOT" if vm.preemptible else "STANDARD",
        },
    }
    if vm.gpus:
        accelerator = f"{where}/acceleratorTypes/{vm.gpu_type}"
        answer["guestAccelerators"] = [{"acceleratorType": self_link(accelerator), "acceleratorCount": vm.gpus}]
    if vm.service_account:
        answer["serviceAccounts"] = [{"email": vm.service_account, "scopes": vm.scopes}]
    if vm.last_error:
        answer["statusMessage"] = vm.last_error
    if vm.started:
        answer["lastStartTimestamp"] = timestamp(vm.started)
    return answer


def autoscaler(identifier: str, found: Json, record: AutoscalerRecord | None) -> Json:
    """Autoscaler."""
    spec = found["autoscalingPolicy"]
    policy = policy_of(spec)
    shape: Json = {
        "minNumReplicas": policy.minimum,
        "maxNumReplicas": policy.maximum,
        "coolDownPeriodSec": int(policy.initialization_s),
        "mode": policy.mode,
        "customMetricUtilizations": [_custom_metric(metric) for metric in spec.get("metrics") or ()],
    }
    if spec.get("cpuUtilization"):
        cpu = spec["cpuUtilization"]
        shape["cpuUtilization"] = {
            "utilizationTarget": cpu["target"],
            "predictiveMethod": cpu.get("predictiveMethod", "NONE"),
        }
    if policy.scale_in is not None:
        limits = {"fixed": policy.scale_in.fixed, "percent": policy.scale_in.percent}
        shape["scaleInControl"] = {
            "timeWindowSec": int(policy.scale_in.window_s),
            "maxScaledInReplicas": {name: value for name, value in limits.items() if value is not None},
        }
    answer = _common("autoscaler", identifier, found, None)
    answer |= {
        "region": self_link(identifier.rpartition("/autoscalers/")[0]),
        "target": self_link(found["target"]),
        "autoscalingPolicy": shape,
        "status": record.status if record else "PENDING",
    }
    if record is not None:
        answer["recommendedSize"] = record.recommended
        answer["statusDetails"] = [{"type": kind, "message": message} for kind, message in record.details]
    return answer


def backend_service(service: BackendService, found: Json) -> Json:
    """BackendService."""
    answer = _common("backendService", service.id, found, found.get("generatedId"))
    answer |= {
        "backends": [_backend(one) for one in found.get("backends") or ()],
        "portName": service.port_name,
        "protocol": found.get("protocol") or "HTTP",
        "timeoutSec": int(service.timeout_s),
        "connectionDraining": {"drainingTimeoutSec": int(service.draining_s)},
        "loadBalancingScheme": found.get("loadBalancingScheme") or "EXTERNAL_MANAGED",
        "localityLbPolicy": service.locality_policy,
        "sessionAffinity": found.get("sessionAffinity") or "NONE",
    }
    if service.health_check:
        answer["healthChecks"] = [self_link(service.health_check)]
    return answer


def _backend(found: Mapping[str, Any]) -> Json:
    answer: Json = {
        "group": self_link(found["group"]),
        "balancingMode": found.get("balancingMode", "UTILIZATION"),
        "capacityScaler": found.get("capacityScaler", 1.0),
    }
    names = ("maxUtilization", "maxRate", "maxRatePerInstance", "description")
    return answer | {name: found[name] for name in names if found.get(name)}


def health_status(vm: Instance, project: str, port: int, record: HealthRecord | None) -> Json:
    """HealthStatus of one backend instance. `annotations.lastProbe` is the sandbox's own: Google does not tell why."""
    answer: Json = {
        "instance": self_link(f"projects/{project}/zones/{vm.zone}/instances/{vm.name}"),
        "ipAddress": vm.address,
        "port": port,
    }
    if record is not None:
        answer["healthState"] = "HEALTHY" if record.state == "HEALTHY" else "UNHEALTHY"
        if record.state != "HEALTHY":
            answer["annotations"] = {"lastProbe": record.reason}
    return answer


def forwarding_rule(identifier: str, found: Json, address: str) -> Json:
    """ForwardingRule."""
    port = str(found["portRange"])
    answer = _common("forwardingRule", identifier, found, found.get("forwardingRuleId"))
    return answer | {
        "IPAddress": address,
        "IPProtocol": found.get("ipProtocol") or "TCP",
        "portRange": port if "-" in port else f"{port}-{port}",
        "target": self_link(found["target"]),
        "loadBalancingScheme": found.get("loadBalancingScheme") or "EXTERNAL_MANAGED",
        "networkTier": found.get("networkTier") or "PREMIUM",
    }


def instance_template(identifier: str, found: Json) -> Json:
    """InstanceTemplate, with the properties that tell templates apart."""
    metadata = found.get("metadata") or {}
    account = found.get("serviceAccount") or {}
    properties: Json = {
        "machineType": short(found["machineType"]),
        "tags": {"items": sorted(found.get("tags") or ())},
        "labels": found.get("labels") or {},
        "metadata": {
            "kind": "compute#metadata",
            "items": [{"key": key, "value": value} for key, value in sorted(metadata.items())],
        },
        "guestAccelerators": [
            {"acceleratorType": short(one["type"]), "acceleratorCount": int(one["count"])}
            for one in found.get("guestAccelerators") or ()
        ],
    }
    if account.get("email"):
        properties["serviceAccounts"] = [{"email": account["email"], "scopes": sorted(account.get("scopes") or ())}]
    if found.get("minCpuPlatform"):
        properties["minCpuPlatform"] = found["minCpuPlatform"]
    return _common("instanceTemplate", identifier, found, found.get("numericId")) | {"properties": properties}


def quota(metric: str, limit: float, usage: float) -> Json:
    """Quota."""
    return {"metric": metric, "limit": float(limit), "usage": float(usage)}


def operation(record: Json, *, done: bool, project: str) -> Json:
    """Operation of a zone or of the project, from its record."""
    zone = f"projects/{project}/zones/{record['zone']}" if record.get("zone") else ""
    inserted = timestamp(record["inserted"])
    place: Json = {"zone": self_link(zone)} if zone else {}
    if fault := record.get("fault"):
        place |= {
            "error": {"errors": [fault]},
            "httpErrorStatusCode": 503,
            "httpErrorMessage": "SERVICE UNAVAILABLE",
        }
    return place | {
        "kind": "compute#operation",
        "id": record["id"],
        "name": record["name"],
        "operationType": record["type"],
        "selfLink": self_link(f"{zone or f'projects/{project}/global'}/operations/{record['name']}"),
        "targetLink": self_link(record["target"]),
        "user": record["user"],
        "status": "DONE" if done else "RUNNING",
        "progress": 100 if done else 0,
        "insertTime": inserted,
        "startTime": inserted,
    }


def _common(kind: str, identifier: str, found: Json, number: object) -> Json:
    answer: Json = {"kind": f"compute#{kind}", "name": short(identifier), "selfLink": self_link(identifier)}
    if number:
        answer["id"] = str(int(number)) if isinstance(number, float) else str(number)
    for name in ("creationTimestamp", "description", "fingerprint"):
        if found.get(name):
            answer[name] = found[name]
    return answer


def _custom_metric(metric: Mapping[str, Any]) -> Json:
    names = {
        "metric": metric["name"],
        "filter": metric.get("filter"),
        "utilizationTarget": metric.get("target"),
        "utilizationTargetType": metric.get("type", "GAUGE"),
        "singleInstanceAssignment": metric.get("singleInstanceAssignment"),
    }
    return {name: value for name, value in names.items() if value is not None}


def _project(identifier: str) -> str:
    return identifier.split("/")[1]


def _zone_link(identifier: str, zone: str) -> str:
    return self_link(f"projects/{_project(identifier)}/zones/{zone}")
