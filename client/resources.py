"""The parts of Compute Engine's and Monitoring's resources that the client reads.

Field names are Google's (camelCase by alias). `schema_name` is the resource's name in Google's discovery document,
against which a test checks every field. The API leaves out what is empty or false, so every field has that as its
default.
"""

from __future__ import annotations

from typing import ClassVar

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel


class Resource(BaseModel):
    """Part of one of Google's resources; fields that are not declared here are left aside."""

    model_config = ConfigDict(frozen=True, alias_generator=to_camel, populate_by_name=True)

    api: ClassVar[str] = "compute.v1"
    schema_name: ClassVar[str]


def last_segment(link: str) -> str:
    """Name at the end of a resource's URL, without the query of its unique form."""
    return link.partition("?")[0].rsplit("/", 1)[-1]


class VersionTarget(Resource):
    """Whether every VM has the version that the group wants."""

    schema_name = "InstanceGroupManagerStatusVersionTarget"
    is_reached: bool = False


class GroupStatus(Resource):
    """What the group says of itself."""

    schema_name = "InstanceGroupManagerStatus"
    is_stable: bool = False
    version_target: VersionTarget = VersionTarget()
    autoscaler: str = ""
    """URL of its autoscaler, or empty."""


class GroupVersion(Resource):
    """A version that the group rolls out."""

    schema_name = "InstanceGroupManagerVersion"
    instance_template: str = ""


class UpdatePolicy(Resource):
    """How the group moves its VMs to a new version."""

    schema_name = "InstanceGroupManagerUpdatePolicy"
    type: str = ""
    """`PROACTIVE`, or `OPPORTUNISTIC`: then VMs change only when something else replaces them."""


class InstanceGroupManager(Resource):
    """A managed instance group."""

    schema_name = "InstanceGroupManager"
    name: str
    instance_group: str = ""
    """URL of the unmanaged view of the group, which backends refer to."""
    target_size: int = 0
    status: GroupStatus = GroupStatus()
    versions: tuple[GroupVersion, ...] = ()
    update_policy: UpdatePolicy = UpdatePolicy()


class ManagedInstanceVersion(Resource):
    """The version that a VM has."""

    schema_name = "ManagedInstanceVersion"
    instance_template: str = ""


class AttemptError(Resource):
    """One reason why the group's last attempt on a VM failed. (Anonymous in Google's discovery document.)"""

    schema_name = "ManagedInstanceLastAttempt.errors.errors"
    code: str = ""
    message: str = ""


class AttemptErrors(Resource):
    """The errors of a group's last attempt on a VM. (Anonymous in Google's discovery document.)"""

    schema_name = "ManagedInstanceLastAttempt.errors"
    errors: tuple[AttemptError, ...] = ()


class LastAttempt(Resource):
    """The group's last attempt to create, recreate or delete a VM."""

    schema_name = "ManagedInstanceLastAttempt"
    errors: AttemptErrors = AttemptErrors()


class ManagedInstanceHealth(Resource):
    """What the autohealing check found."""

    schema_name = "ManagedInstanceInstanceHealth"
    detailed_health_state: str = "UNKNOWN"


class ManagedInstance(Resource):
    """A VM of a managed instance group."""

    schema_name = "ManagedInstance"
    id: str = ""
    """Number of the VM as text, by which metrics name it; empty before there is one."""
    instance: str
    """URL of the VM; its zone is in it."""
    instance_status: str = ""
    """Status of the VM; empty while there is none."""
    current_action: str = "NONE"
    version: ManagedInstanceVersion = ManagedInstanceVersion()
    last_attempt: LastAttempt = LastAttempt()
    instance_health: tuple[ManagedInstanceHealth, ...] = ()

    @property
    def vm(self) -> str:
        """Name of the VM."""
        return last_segment(self.instance)

    @property
    def zone(self) -> str:
        """Name of its zone."""
        parts = self.instance.split("/")
        return parts[parts.index("zones") + 1] if "zones" in parts else ""

    @property
    def template(self) -> str:
        """Name of the instance template that it was made from."""
        return last_segment(self.version.instance_template)


class HealthStatus(Resource):
    """What the load balancer's check found about one backend VM."""

    schema_name = "HealthStatus"
    instance: str = ""
    ip_address: str = ""
    port: int = 0
    health_state: str = ""
    """`HEALTHY` or `UNHEALTHY`; empty before the first answer."""
    annotations: dict[str, str] = {}

    @property
    def vm(self) -> str:
        """Name of the VM."""
        return last_segment(self.instance)


class BackendServiceGroupHealth(Resource):
    """What the load balancer's check found about a group."""

    schema_name = "BackendServiceGroupHealth"
    health_status: tuple[HealthStatus, ...] = ()


class AutoscalingPolicy(Resource):
    """Limits of an autoscaler."""

    schema_name = "AutoscalingPolicy"
    min_num_replicas: int = 0
    max_num_replicas: int = 0
    mode: str = "ON"


class AutoscalerStatusDetail(Resource):
    """A warning or error of an autoscaler."""

    schema_name = "AutoscalerStatusDetails"
    type: str = ""
    message: str = ""


class Autoscaler(Resource):
    """A group's autoscaler."""

    schema_name = "Autoscaler"
    name: str
    status: str = ""
    recommended_size: int = 0
    autoscaling_policy: AutoscalingPolicy = AutoscalingPolicy()
    status_details: tuple[AutoscalerStatusDetail, ...] = ()


class SerialPortOutput(Resource):
    """Text of a VM's serial console."""

    schema_name = "SerialPortOutput"
    contents: str = ""


class Quota(Resource):
    """Limit and use of one quota metric."""

    schema_name = "Quota"
    metric: str = ""
    limit: float = 0.0
    usage: float = 0.0


class Region(Resource):
    """A region, for its quotas."""

    schema_name = "Region"
    quotas: tuple[Quota, ...] = ()


class Project(Resource):
    """A project, for its global quotas."""

    schema_name = "Project"
    quotas: tuple[Quota, ...] = ()


class TypedValue(Resource):
    """The value of a point; exactly one field is set."""

    api = "monitoring.v3"
    schema_name = "TypedValue"
    double_value: float | None = None
    int64_value: int | None = None


class TimeInterval(Resource):
    """Time of a point; a gauge's is its end."""

    api = "monitoring.v3"
    schema_name = "TimeInterval"
    end_time: str = ""


class Point(Resource):
    """One point of a time series."""

    api = "monitoring.v3"
    schema_name = "Point"
    interval: TimeInterval = TimeInterval()
    value: TypedValue = TypedValue()


class MonitoredResource(Resource):
    """What a time series tells of."""

    api = "monitoring.v3"
    schema_name = "MonitoredResource"
    labels: dict[str, str] = {}


class TimeSeries(Resource):
    """A time series, newest point first."""

    api = "monitoring.v3"
    schema_name = "TimeSeries"
    resource: MonitoredResource = MonitoredResource()
    points: tuple[Point, ...] = ()
