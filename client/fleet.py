"""The state of a fleet, fetched through Compute Engine's and Monitoring's REST APIs.

FleetState is what `status` shows and what `rollout` judges; fetching it changes nothing.
"""

from __future__ import annotations

import datetime as dt
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from client.errors import NotFoundError
from client.google import Credentials, GoogleApi, compute_root, monitoring_root
from client.outputs import BackendServiceName, GroupName, StackOutputs
from client.resources import (
    Autoscaler,
    BackendServiceGroupHealth,
    HealthStatus,
    InstanceGroupManager,
    ManagedInstance,
    Point,
    SerialPortOutput,
    TimeSeries,
    last_segment,
)

METRIC_WINDOW_S: Final = 600
"""How far back `status` looks for metric points."""

_SCRIPT_LINE: Final = re.compile(r"startup-script(?:-url)?\"?(?::| (?=exit|failed))(.*)")
_SCRIPT_EXIT: Final = re.compile(r"exit status (\d+)$")


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricPoint:
    """The last value of the GPU metric of one VM."""

    value: float
    """Percent, mean over the VM's GPUs."""
    age_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupState:
    """One managed instance group with what hangs on it."""

    name: GroupName
    wanted_template: str
    """Name of the instance template that the stack's outputs declare for it."""
    manager: InstanceGroupManager
    instances: tuple[ManagedInstance, ...]
    health: tuple[HealthStatus, ...]
    """What the load balancer's check found."""
    autoscaler: Autoscaler | None

    @property
    def template(self) -> str:
        """Name of the instance template that the group rolls out."""
        return last_segment(self.manager.versions[0].instance_template) if self.manager.versions else ""

    def health_of(self, vm: str) -> HealthStatus | None:
        """What the load balancer's check found about a VM, or None."""
        return next((status for status in self.health if status.vm == vm), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetState:
    """The groups of a stack, in pool order."""

    groups: tuple[GroupState, ...]


class Fleet:
    """Reads the fleet that a stack's outputs name."""

    def __init__(
        self,
        credentials: Credentials,
        *,
        groups: Sequence[GroupName],
        templates: Sequence[str],
        backend_service: BackendServiceName,
        gpu_metric: str,
    ) -> None:
        self._compute = GoogleApi(credentials, compute_root())
        self._monitoring = GoogleApi(credentials, monitoring_root())
        self._groups = tuple(zip(groups, (last_segment(template) for template in templates), strict=True))
        self._backend_service = backend_service
        self._gpu_metric = gpu_metric

    @classmethod
    def of(cls, outputs: StackOutputs) -> Fleet:
        """The fleet of a deployed stack, with Application Default Credentials."""
        return cls(
            Credentials(),
            groups=outputs.groups,
            templates=outputs.instance_templates,
            backend_service=outputs.backend_service_name,
            gpu_metric=outputs.gpu_metric,
        )

    def state(self) -> FleetState:
        """The state now. Raises ClientError, or UnavailableError if asking again may help."""
        return FleetState(groups=tuple(self._group(name, template) for name, template in self._groups))

    def _group(self, name: GroupName, wanted_template: str) -> GroupState:
        path = f"projects/{name.project}/regions/{name.region}/instanceGroupManagers/{name.name}"
        manager = InstanceGroupManager.model_validate(self._compute.get(path))
        instances = self._compute.post_pages(f"{path}/listManagedInstances", "managedInstances")
        service = self._backend_service
        health = self._compute.post(
            f"projects/{service.project}/global/backendServices/{service.name}/getHealth",
            {"group": manager.instance_group},
        )
        return GroupState(
            name=name,
            wanted_template=wanted_template,
            manager=manager,
            instances=tuple(sorted(map(ManagedInstance.model_validate, instances), key=lambda one: (one.zone, one.vm))),
            health=BackendServiceGroupHealth.model_validate(health).health_status,
            autoscaler=self._autoscaler(name, manager),
        )

    def _autoscaler(self, group: GroupName, manager: InstanceGroupManager) -> Autoscaler | None:
        if not manager.status.autoscaler:
            return None
        name = last_segment(manager.status.autoscaler)
        path = f"projects/{group.project}/regions/{group.region}/autoscalers/{name}"
        return Autoscaler.model_validate(self._compute.get(path))

    def gpu_points(self, now: dt.datetime) -> dict[str, MetricPoint]:
        """The newest point of the GPU metric by the VM's number, not older than METRIC_WINDOW_S.

        Empty too while Monitoring does not know the metric, which it answers with 404.
        """
        start = now - dt.timedelta(seconds=METRIC_WINDOW_S)
        series = self._monitoring.get_pages(
            f"v3/projects/{self._backend_service.project}/timeSeries",
            "timeSeries",
            {
                "filter": f'metric.type = "{self._gpu_metric}" AND resource.type = "gce_instance"',
                "interval.startTime": _timestamp(start),
                "interval.endTime": _timestamp(now),
                "view": "FULL",
            },
        )
        newest: dict[str, list[Point]] = defaultdict(list)
        try:
            for one in map(TimeSeries.model_validate, series):
                if one.points:
                    newest[one.resource.labels.get("instance_id", "")].append(one.points[0])
        except NotFoundError:
            return {}
        return {vm: _mean_point(points, now) for vm, points in newest.items()}

    def startup_script_line(self, project: str, zone: str, vm: str) -> str:
        """The last thing that a VM's startup script said on its serial console, or an empty string."""
        path = f"projects/{project}/zones/{zone}/instances/{vm}/serialPort"
        output = SerialPortOutput.model_validate(self._compute.get(path, {"port": 1}))
        return last_script_line(output.contents)


def _mean_point(points: Sequence[Point], now: dt.datetime) -> MetricPoint:
    """Mean of a VM's series (the fleet's agent writes one, the Ops Agent one a GPU) with the age of the oldest."""
    values = [
        point.value.double_value if point.value.double_value is not None else point.value.int64_value or 0
        for point in points
    ]
    oldest = min(dt.datetime.fromisoformat(point.interval.end_time) for point in points)
    return MetricPoint(value=sum(values) / len(values), age_s=(now - oldest).total_seconds())


def last_script_line(console: str) -> str:
    """The last line that the startup script wrote to a serial console.

    The guest agent prefixes the script's output with `startup-script:` and ends with its exit status, which alone
    explains nothing: a failure's status is given together with the line before it.
    """
    said = [match[1].strip() for line in console.splitlines() if (match := _SCRIPT_LINE.search(line))]
    spoken = [(text, _SCRIPT_EXIT.search(text)) for text in said if text]
    lines = [text for text, status in spoken if status is None]
    last = lines[-1] if lines else ""
    if spoken and (status := spoken[-1][1]) is not None and status[1] != "0":
        return f"{last} (exit status {status[1]})".strip()
    return last


def _timestamp(time: dt.datetime) -> str:
    return time.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
