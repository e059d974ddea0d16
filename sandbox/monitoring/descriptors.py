"""What is known of metrics: Google's own that the sandbox writes, the declared ones, and those that a write made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from sandbox.compute.declared import declared
from sandbox.store import Store

DECLARED_TYPE: Final = "gcp:monitoring/metricDescriptor:MetricDescriptor"
_WRITTEN: Final = "metric-descriptor"
"""Kind of the records: metric type -> descriptor that the first write of an undeclared metric made."""

MetricKind = Literal["GAUGE", "DELTA", "CUMULATIVE"]
ValueType = Literal["BOOL", "INT64", "DOUBLE", "STRING", "DISTRIBUTION"]

CPU_UTILIZATION: Final = "compute.googleapis.com/instance/cpu/utilization"
USER_DOMAINS: Final = ("custom.googleapis.com/", "external.googleapis.com/", "workload.googleapis.com/")
"""Metric types that users may write (Google Cloud, "User-defined metrics overview", 2026-11)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Descriptor:
    """A metric descriptor."""

    type: str
    kind: MetricKind
    value_type: ValueType
    labels: Mapping[str, str] = field(default_factory=dict)
    """Key -> value type."""
    unit: str = ""
    description: str = ""
    display_name: str = ""

    def as_api(self, project: str) -> dict[str, Any]:
        """As Monitoring v3 gives it."""
        return {
            "name": f"projects/{project}/metricDescriptors/{self.type}",
            "type": self.type,
            "metricKind": self.kind,
            "valueType": self.value_type,
            "labels": [{"key": key, "valueType": kind} for key, kind in self.labels.items()],
            "unit": self.unit,
            "description": self.description,
            "displayName": self.display_name,
            "monitoredResourceTypes": ["gce_instance"],
        }


GOOGLES: Final = (
    Descriptor(
        type=CPU_UTILIZATION,
        kind="GAUGE",
        value_type="DOUBLE",
        labels={"instance_name": "STRING"},
        unit="10^2.%",
        description="CPU time of the VM's processes on this machine, over the vCPUs of its machine type (simulated).",
        display_name="CPU utilization",
    ),
    Descriptor(
        type="compute.googleapis.com/instance/uptime",
        kind="DELTA",
        value_type="DOUBLE",
        labels={"instance_name": "STRING"},
        unit="s{uptime}",
        description="Known by name; the sandbox writes no points of it.",
        display_name="Uptime",
    ),
)


class Descriptors:
    """Looks metrics up, and learns undeclared ones from their first write as Google does."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def find(self, metric_type: str) -> Descriptor | None:
        """The descriptor of a metric type."""
        return next((one for one in self.all() if one.type == metric_type), None)

    def all(self) -> Iterator[Descriptor]:
        """Every descriptor; a declared one hides what a write had made."""
        yield from GOOGLES
        known: set[str] = set()
        for _, found in declared(self._store, DECLARED_TYPE):
            known.add(found["type"])
            yield Descriptor(
                type=found["type"],
                kind=found["metricKind"],
                value_type=found["valueType"],
                labels={label["key"]: label.get("valueType", "STRING") for label in found.get("labels") or ()},
                unit=found.get("unit") or "",
                description=found.get("description") or "",
                display_name=found.get("displayName") or "",
            )
        for name, record in self._store.items(_WRITTEN):
            if name not in known:
                yield Descriptor(type=name, **record)

    def learn(self, descriptor: Descriptor) -> None:
        """Keep the descriptor that a first write implies."""
        record = {"kind": descriptor.kind, "value_type": descriptor.value_type, "labels": dict(descriptor.labels)}
        self._store.put(_WRITTEN, descriptor.type, record)
