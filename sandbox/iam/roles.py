"""The predefined roles that stacks here grant, as the permissions that the sandbox asks for.

Source: Google Cloud, "IAM roles and permissions index", 2026-11. A role lists every permission that some part of the
sandbox evaluates; permissions of calls that the sandbox does not answer are left out.
"""

from __future__ import annotations

from typing import Final

_OBJECT_READ: Final = frozenset({"storage.objects.get", "storage.objects.list"})
_OBJECT_WRITE: Final = frozenset({"storage.objects.create", "storage.objects.delete", "storage.objects.update"})
_BUCKET_ALL: Final = frozenset(
    {
        "storage.buckets.create",
        "storage.buckets.delete",
        "storage.buckets.get",
        "storage.buckets.getIamPolicy",
        "storage.buckets.list",
        "storage.buckets.setIamPolicy",
        "storage.buckets.update",
    }
)
_METRIC_WRITE: Final = frozenset(
    {
        "monitoring.metricDescriptors.create",
        "monitoring.metricDescriptors.get",
        "monitoring.metricDescriptors.list",
        "monitoring.monitoredResourceDescriptors.get",
        "monitoring.monitoredResourceDescriptors.list",
        "monitoring.timeSeries.create",
    }
)
_METRIC_READ: Final = frozenset(
    {
        "monitoring.metricDescriptors.get",
        "monitoring.metricDescriptors.list",
        "monitoring.monitoredResourceDescriptors.get",
        "monitoring.monitoredResourceDescriptors.list",
        "monitoring.timeSeries.list",
    }
)
_COMPUTE_READ: Final = frozenset(
    {
        "compute.autoscalers.get",
        "compute.autoscalers.list",
        "compute.backendServices.get",
        "compute.backendServices.list",
        "compute.forwardingRules.get",
        "compute.globalForwardingRules.get",
        "compute.globalForwardingRules.list",
        "compute.globalOperations.get",
        "compute.instanceGroupManagers.get",
        "compute.instanceGroupManagers.list",
        "compute.instanceTemplates.get",
        "compute.instances.get",
        "compute.instances.getSerialPortOutput",
        "compute.instances.list",
        "compute.projects.get",
        "compute.regions.get",
        "compute.zoneOperations.get",
    }
)

PERMISSIONS: Final[dict[str, frozenset[str]]] = {
    "roles/storage.objectViewer": _OBJECT_READ,
    "roles/storage.objectCreator": frozenset({"storage.objects.create"}),
    "roles/storage.objectUser": _OBJECT_READ | _OBJECT_WRITE,
    "roles/storage.objectAdmin": _OBJECT_READ | _OBJECT_WRITE,
    "roles/storage.admin": _OBJECT_READ | _OBJECT_WRITE | _BUCKET_ALL,
    "roles/storage.legacyObjectReader": frozenset({"storage.objects.get"}),
    "roles/storage.legacyBucketReader": frozenset({"storage.buckets.get", "storage.objects.list"}),
    "roles/storage.legacyBucketWriter": frozenset(
        {"storage.buckets.get", "storage.objects.list", "storage.objects.create", "storage.objects.delete"}
    ),
    "roles/monitoring.metricWriter": _METRIC_WRITE,
    "roles/monitoring.viewer": _METRIC_READ,
    "roles/compute.viewer": _COMPUTE_READ,
    "roles/logging.logWriter": frozenset({"logging.logEntries.create"}),
    "roles/artifactregistry.reader": frozenset({"artifactregistry.repositories.downloadArtifacts"}),
}
"""Role -> permissions. The basic role `roles/owner` is not here: it grants everything (see policy)."""

OWNER: Final = "roles/owner"
