"""Every input of every resource is one that Google's API takes: its name, its place, its kind, its enum."""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

import pytest

from tests.program.configs import dev, pool
from tests.program.discovery import Checker, schema
from tests.program.harness import STACKS, Graph, Resource, run_program, stack_config

SUBNET = "projects/net-host/regions/us-central1/subnetworks/serving"


class Api(NamedTuple):
    """What a resource type is in Google's API, and where the provider names things otherwise."""

    document: str
    schema: str
    renames: Mapping[str, str | None] = MappingProxyType({})


NOT_IN_BODY = {"project": None}
"""Part of the URL of every call."""
REGIONAL = {"region": None}

APIS = {
    "compute/network:Network": Api("compute.v1", "Network"),
    "compute/subnetwork:Subnetwork": Api("compute.v1", "Subnetwork"),
    "compute/firewall:Firewall": Api(
        "compute.v1", "Firewall", {"allows": "allowed", "allows[].protocol": "IPProtocol"}
    ),
    "compute/router:Router": Api("compute.v1", "Router"),
    "compute/routerNat:RouterNat": Api(
        "compute.v1",
        "RouterNat",
        {
            **REGIONAL,
            "router": None,
            "subnetworks[].sourceIpRangesToNats": "sourceIpRangesToNat",
        },
    ),
    "compute/healthCheck:HealthCheck": Api("compute.v1", "HealthCheck"),
    "compute/instanceTemplate:InstanceTemplate": Api(
        "compute.v1",
        "InstanceProperties",
        {
            "disks[].sourceImage": "initializeParams.sourceImage",
            "disks[].diskSizeGb": "initializeParams.diskSizeGb",
            "disks[].diskType": "initializeParams.diskType",
            "guestAccelerators[].type": "acceleratorType",
            "guestAccelerators[].count": "acceleratorCount",
            "metadata": None,  # a map here, a list of items there: checked as names below
            "serviceAccount": "serviceAccounts",
            "tags": "tags.items",
        },
    ),
    "compute/instance:Instance": Api(
        "compute.v1",
        "Instance",
        {
            "bootDisk": "disks",
            "guestAccelerators[].type": "acceleratorType",
            "guestAccelerators[].count": "acceleratorCount",
            "bootDisk.initializeParams.image": "sourceImage",
            "bootDisk.initializeParams.size": "diskSizeGb",
            "bootDisk.initializeParams.type": "diskType",
            "metadata": None,  # a map here, a list of items there: checked as names below
            "serviceAccount": "serviceAccounts",
        },
    ),
    "compute/regionInstanceGroupManager:RegionInstanceGroupManager": Api(
        "compute.v1",
        "InstanceGroupManager",
        {
            "distributionPolicyTargetShape": "distributionPolicy.targetShape",
            "distributionPolicyZones": "distributionPolicy.zones[].zone",
            "updatePolicy.maxSurgeFixed": "maxSurge.fixed",
            "updatePolicy.maxUnavailableFixed": "maxUnavailable.fixed",
            "waitForInstances": None,
        },
    ),
    "compute/regionAutoscaler:RegionAutoscaler": Api(
        "compute.v1",
        "Autoscaler",
        {
            "autoscalingPolicy.minReplicas": "minNumReplicas",
            "autoscalingPolicy.maxReplicas": "maxNumReplicas",
            "autoscalingPolicy.cooldownPeriod": "coolDownPeriodSec",
            "autoscalingPolicy.metrics": "customMetricUtilizations",
            "autoscalingPolicy.metrics[].name": "metric",
            "autoscalingPolicy.metrics[].target": "utilizationTarget",
            "autoscalingPolicy.metrics[].type": "utilizationTargetType",
            "autoscalingPolicy.cpuUtilization.target": "utilizationTarget",
        },
    ),
    "compute/globalAddress:GlobalAddress": Api("compute.v1", "Address"),
    "compute/backendService:BackendService": Api(
        "compute.v1",
        "BackendService",
        {
            "connectionDrainingTimeoutSec": "connectionDraining.drainingTimeoutSec",
        },
    ),
    "compute/uRLMap:URLMap": Api("compute.v1", "UrlMap"),
    "compute/targetHttpProxy:TargetHttpProxy": Api("compute.v1", "TargetHttpProxy"),
    "compute/targetHttpsProxy:TargetHttpsProxy": Api("compute.v1", "TargetHttpsProxy"),
    "compute/managedSslCertificate:ManagedSslCertificate": Api("compute.v1", "SslCertificate"),
    "compute/globalForwardingRule:GlobalForwardingRule": Api(
        "compute.v1", "ForwardingRule", {"ipAddress": "IPAddress", "ipProtocol": "IPProtocol"}
    ),
    "storage/bucket:Bucket": Api(
        "storage.v1",
        "Bucket",
        {
            "forceDestroy": None,
            "publicAccessPrevention": "iamConfiguration.publicAccessPrevention",
            "uniformBucketLevelAccess": "iamConfiguration.uniformBucketLevelAccess.enabled",
        },
    ),
    "storage/bucketObject:BucketObject": Api("storage.v1", "Object", {"source": None}),
    "storage/bucketIAMMember:BucketIAMMember": Api(
        "storage.v1", "Policy", {"bucket": None, "role": "bindings[].role", "member": "bindings[].members"}
    ),
    "serviceaccount/account:Account": Api(
        "iam.v1", "CreateServiceAccountRequest", {"displayName": "serviceAccount.displayName"}
    ),
    "projects/iAMMember:IAMMember": Api("cloudresourcemanager.v1", "Binding", {"member": "members"}),
    "projects/service:Service": Api(
        "serviceusage.v1", "EnableServiceResponse", {"service": "service.name", "disableOnDestroy": None}
    ),
    "monitoring/metricDescriptor:MetricDescriptor": Api("monitoring.v3", "MetricDescriptor"),
    "monitoring/alertPolicy:AlertPolicy": Api("monitoring.v3", "AlertPolicy"),
    "monitoring/dashboard:Dashboard": Api("monitoring.v1", "Dashboard"),
}


@pytest.fixture(scope="module")
def graphs() -> list[Graph]:
    """All stack files, and configurations that use what no stack file uses."""
    existing = {"network": "projects/net-host/global/networks/shared", "subnetworks": {"us-central1": SUBNET}}
    return [
        *(run_program(stack_config(stack), stack=stack) for stack in STACKS),
        run_program(
            dev(
                loadBalancer={
                    "https": {"domains": ["api.example.com"]},
                    "mode": "RATE",
                    "maxRatePerInstance": 400,
                    "securityPolicy": "projects/my-project/global/securityPolicies/edge",
                    "logging": {"sampleRate": 0.5},
                },
                network={"existing": existing},
                observability={"notificationChannels": ["projects/my-project/notificationChannels/1"]},
                model={"artifact": "gs://registry/models/0123456789abcdef0123/"},
            )
        ),
        run_program(
            dev(
                fleet={
                    "pools": [pool(spot=True)],
                    "update": {"shape": "BALANCED", "type": "OPPORTUNISTIC"},
                },
                autoscaling={"metricSource": "ops-agent"},
                network={"iapSsh": True},
            )
        ),
    ]


def body(resource: Resource) -> dict[str, object]:
    """What the API gets; the dashboard's is a text."""
    if resource.type.endswith(":Dashboard"):
        parsed = json.loads(resource.inputs["dashboardJson"])
        assert isinstance(parsed, dict)
        return parsed
    return resource.inputs


@pytest.mark.parametrize("kind", APIS)
def test_every_input_is_one_that_the_api_takes(kind: str, graphs: list[Graph]) -> None:
    api = APIS[kind]
    checker = Checker(api.document, {**NOT_IN_BODY, **api.renames})
    found = [r for graph in graphs for r in graph.custom.values() if r.type == f"gcp:{kind}"]

    faults = {fault for resource in found for fault in checker.faults(body(resource), schema(api.document, api.schema))}

    assert found, "no configuration here makes one"
    assert faults == set()
    assert checker.used >= set(api.renames), "the table names fields that nothing sets"


def test_every_type_is_checked(graphs: list[Graph]) -> None:
    used = {resource.type.removeprefix("gcp:") for graph in graphs for resource in graph.custom.values()}
    assert used == set(APIS)


def test_metadata_is_text_by_key(graphs: list[Graph]) -> None:
    item = schema("compute.v1", "Metadata")["properties"]["items"]["items"]["properties"]
    assert item["value"]["type"] == "string"
    for graph in graphs:
        for vm in (*graph.of_type(":InstanceTemplate"), *graph.of_type(":Instance")):
            assert all(isinstance(value, str) for value in vm.inputs["metadata"].values())


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        ({"type": "PROACTIV"}, "none of"),
        ({"typ": "PROACTIVE"}, "no such field"),
        ({"type": 3}, "is no string"),
        ({"maxSurge": 2}, "takes an object"),
    ],
)
def test_the_check_sees_faults(value: dict[str, object], fault: str) -> None:
    expected = schema("compute.v1", "InstanceGroupManagerUpdatePolicy")
    (found,) = Checker("compute.v1", {}).faults(value, expected)
    assert fault in found
