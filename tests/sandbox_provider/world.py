"""A cloud for tests: the provider's rules over a store of its own, and a minimal declaration of every type."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sandbox.network.addresses import Addresses
from sandbox.provider.check import Naming
from sandbox.provider.cloud import Cloud, ProviderConfig
from sandbox.provider.resources import Resources
from sandbox.settings import SandboxSettings
from sandbox.storage.errors import StorageError, no_such_bucket, no_such_object
from sandbox.store import Store

PROJECT = "sandbox-project"
CONFIG = ProviderConfig(project=PROJECT, region="us-central1", zone="us-central1-a")

NETWORK = "gcp:compute/network:Network"
SUBNETWORK = "gcp:compute/subnetwork:Subnetwork"
FIREWALL = "gcp:compute/firewall:Firewall"
ROUTER = "gcp:compute/router:Router"
NAT = "gcp:compute/routerNat:RouterNat"
TEMPLATE = "gcp:compute/instanceTemplate:InstanceTemplate"
GROUP = "gcp:compute/regionInstanceGroupManager:RegionInstanceGroupManager"
AUTOSCALER = "gcp:compute/regionAutoscaler:RegionAutoscaler"
HEALTH_CHECK = "gcp:compute/healthCheck:HealthCheck"
BACKEND = "gcp:compute/backendService:BackendService"
URL_MAP = "gcp:compute/uRLMap:URLMap"
PROXY = "gcp:compute/targetHttpProxy:TargetHttpProxy"
HTTPS_PROXY = "gcp:compute/targetHttpsProxy:TargetHttpsProxy"
CERTIFICATE = "gcp:compute/managedSslCertificate:ManagedSslCertificate"
ADDRESS = "gcp:compute/globalAddress:GlobalAddress"
RULE = "gcp:compute/globalForwardingRule:GlobalForwardingRule"
ARMOR = "gcp:compute/securityPolicy:SecurityPolicy"
INSTANCE = "gcp:compute/instance:Instance"
ACCOUNT = "gcp:serviceaccount/account:Account"
PROJECT_MEMBER = "gcp:projects/iAMMember:IAMMember"
SERVICE = "gcp:projects/service:Service"
BUCKET = "gcp:storage/bucket:Bucket"
OBJECT = "gcp:storage/bucketObject:BucketObject"
BUCKET_MEMBER = "gcp:storage/bucketIAMMember:BucketIAMMember"
METRIC = "gcp:monitoring/metricDescriptor:MetricDescriptor"
DASHBOARD = "gcp:monitoring/dashboard:Dashboard"
ALERT = "gcp:monitoring/alertPolicy:AlertPolicy"

IMAGE = "projects/images/global/images/exact-20260820"

MINIMAL: dict[str, dict[str, Any]] = {
    NETWORK: {"autoCreateSubnetworks": False},
    SUBNETWORK: {"network": "the-network", "ipCidrRange": "10.0.0.0/20"},
    FIREWALL: {
        "network": "the-network",
        "allows": [{"protocol": "tcp", "ports": ["8888"]}],
        "sourceRanges": ["35.191.0.0/16"],
    },
    ROUTER: {"network": "the-network"},
    NAT: {"router": "the-router", "sourceSubnetworkIpRangesToNat": "ALL_SUBNETWORKS_ALL_IP_RANGES"},
    TEMPLATE: {
        "machineType": "n1-standard-4",
        "disks": [{"sourceImage": IMAGE}],
        "networkInterfaces": [{"subnetwork": "regions/us-central1/subnetworks/the-subnetwork"}],
    },
    HEALTH_CHECK: {"httpHealthCheck": {"port": 8888}},
    GROUP: {
        "baseInstanceName": "vm",
        "versions": [{"instanceTemplate": "the-template"}],
        "distributionPolicyZones": ["us-central1-a", "us-central1-b"],
    },
    AUTOSCALER: {
        "target": f"projects/{PROJECT}/regions/us-central1/instanceGroupManagers/the-group",
        "autoscalingPolicy": {"minReplicas": 2, "maxReplicas": 4},
    },
    ARMOR: {},
    BACKEND: {
        "backends": [{"group": f"projects/{PROJECT}/regions/us-central1/instanceGroups/the-group"}],
        "healthChecks": "the-check",
    },
    URL_MAP: {"defaultService": "the-backend"},
    PROXY: {"urlMap": "the-url-map"},
    CERTIFICATE: {"managed": {"domains": ["example.org"]}},
    HTTPS_PROXY: {"urlMap": "the-url-map", "sslCertificates": ["the-certificate"]},
    ADDRESS: {},
    RULE: {
        "target": f"projects/{PROJECT}/global/targetHttpProxies/the-proxy",
        "ipAddress": "the-address",
        "portRange": "80",
    },
    INSTANCE: {
        "machineType": "n1-standard-4",
        "bootDisk": {"initializeParams": {"image": IMAGE}},
        "networkInterfaces": [{"subnetwork": "the-subnetwork"}],
    },
    ACCOUNT: {"accountId": "the-account"},
    PROJECT_MEMBER: {
        "project": PROJECT,
        "role": "roles/logging.logWriter",
        "member": f"serviceAccount:the-account@{PROJECT}.iam.gserviceaccount.com",
    },
    SERVICE: {"service": "compute.googleapis.com"},
    BUCKET: {"location": "us-central1"},
    OBJECT: {"bucket": "the-bucket", "content": "hello"},
    BUCKET_MEMBER: {
        "bucket": "the-bucket",
        "role": "roles/storage.objectViewer",
        "member": f"serviceAccount:the-account@{PROJECT}.iam.gserviceaccount.com",
    },
    METRIC: {"type": "custom.googleapis.com/gpu", "metricKind": "GAUGE", "valueType": "DOUBLE"},
    DASHBOARD: {"dashboardJson": '{"displayName": "one"}'},
    ALERT: {
        "displayName": "silence",
        "combiner": "OR",
        "conditions": [{"displayName": "none", "conditionAbsent": {"duration": "300s"}}],
    },
}
"""In an order in which each can be created after those before it."""

NAMES = {
    NETWORK: "the-network",
    SUBNETWORK: "the-subnetwork",
    ROUTER: "the-router",
    TEMPLATE: "the-template",
    HEALTH_CHECK: "the-check",
    GROUP: "the-group",
    ARMOR: "the-policy",
    BACKEND: "the-backend",
    URL_MAP: "the-url-map",
    PROXY: "the-proxy",
    CERTIFICATE: "the-certificate",
    ADDRESS: "the-address",
    BUCKET: "the-bucket",
}


def minimal(token: str, **changes: object) -> dict[str, Any]:
    """Smallest declaration of a type that can be created, with properties changed; None removes one."""
    inputs = dict(MINIMAL[token])
    if token in NAMES:
        inputs["name"] = NAMES[token]
    inputs |= changes
    return {key: value for key, value in inputs.items() if value is not None}


@dataclass
class Buckets:
    """Cloud Storage in memory."""

    held: dict[str, dict[str, bytes]] = field(default_factory=dict)

    async def create_bucket(self, name: str) -> Mapping[str, Any]:
        if name in self.held:
            raise StorageError(409, "conflict", "taken")
        self.held[name] = {}
        return {"name": name}

    async def delete_bucket(self, name: str, force: bool) -> None:
        if self.bucket(name) and not force:
            raise StorageError(409, "conflict", "not empty")
        del self.held[name]

    async def put_object(self, bucket: str, name: str, data: bytes, content_type: str) -> Mapping[str, Any]:
        self.bucket(bucket)[name] = data
        md5 = base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()
        return {"generation": "17", "md5Hash": md5, "crc32c": "AAAAAA==", "contentType": content_type}

    async def delete_object(self, bucket: str, name: str) -> None:
        if self.bucket(bucket).pop(name, None) is None:
            raise no_such_object(bucket, name)

    async def object_count(self, bucket: str) -> int:
        return len(self.bucket(bucket))

    def bucket(self, name: str) -> dict[str, bytes]:
        if name not in self.held:
            raise no_such_bucket()
        return self.held[name]


@dataclass
class World:
    """A sandbox without its daemon."""

    store: Store
    cloud: Cloud
    buckets: Buckets
    resources: Resources

    @classmethod
    def at(cls, folder: Path, **changes: Any) -> World:
        settings = SandboxSettings(state=folder, block=204, **changes)
        store, buckets = Store(folder / "store.sqlite"), Buckets()
        cloud = Cloud(
            settings=settings, store=store, addresses=Addresses(settings, store), buckets=buckets, program=folder
        )
        return cls(store, cloud, buckets, Resources(cloud))

    def checked(self, token: str, **changes: object) -> dict[str, Any]:
        """Inputs after the provider's check, which must pass."""
        inputs, failures = self.resources.check(token, minimal(token, **changes), {}, naming())
        assert not failures, failures
        return inputs

    async def create(self, token: str, **changes: object) -> tuple[str, dict[str, Any]]:
        """Check and create one resource; its id and state."""
        inputs = self.checked(token, **changes)
        return await self.resources.create(token, urn(token, inputs.get("name", "thing")), inputs, CONFIG)

    async def create_up_to(self, *tokens: str) -> dict[str, str]:
        """Create whatever these types need, and them; ids by type."""
        needed: set[str] = set()
        for token in tokens:
            needed |= {token, *_needs(token)}
        return {token: (await self.create(token))[0] for token in MINIMAL if token in needed}


def naming(logical: str = "thing", **changes: object) -> Naming:
    return Naming(logical=logical, seed=bytes(range(32)), **changes)  # type: ignore[arg-type]


def urn(token: str, name: str, stack: str = "test") -> str:
    return f"urn:pulumi:{stack}::project::{token}::{name}"


_DIRECT = {
    SUBNETWORK: [NETWORK],
    FIREWALL: [NETWORK],
    ROUTER: [NETWORK],
    NAT: [ROUTER],
    TEMPLATE: [SUBNETWORK],
    GROUP: [TEMPLATE],
    AUTOSCALER: [GROUP],
    BACKEND: [GROUP, HEALTH_CHECK],
    URL_MAP: [BACKEND],
    PROXY: [URL_MAP],
    HTTPS_PROXY: [URL_MAP, CERTIFICATE],
    RULE: [PROXY, ADDRESS],
    INSTANCE: [SUBNETWORK],
    PROJECT_MEMBER: [ACCOUNT],
    OBJECT: [BUCKET],
    BUCKET_MEMBER: [BUCKET, ACCOUNT],
}


def _needs(token: str) -> set[str]:
    found: set[str] = set()
    for one in _DIRECT.get(token, []):
        found |= {one} | _needs(one)
    return found
