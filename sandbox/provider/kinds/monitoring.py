"""Metric descriptors, dashboards and alert policies. Nothing here draws or alerts."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator

from sandbox.provider.check import Failure
from sandbox.provider.cloud import Cloud, ProviderConfig
from sandbox.provider.kinds.base import Kind, Plan, known, now, number
from sandbox.provider.wire import Json


class MetricDescriptor(Kind):
    """A custom metric's description."""

    overwrites = True

    pulumi_type = "gcp:monitoring/metricDescriptor:MetricDescriptor"
    noun = "metric_descriptor"

    def failures(self, inputs: Json) -> Iterator[Failure]:
        """The metric's domain (Cloud Monitoring, "User-defined metrics overview")."""
        domains = ("custom.googleapis.com/", "external.googleapis.com/", "workload.googleapis.com/")
        if known(inputs, "type") and not inputs["type"].startswith(domains):
            yield Failure("type", f"type {inputs['type']!r} must begin with {' or '.join(domains)}")

    def identifier(self, inputs: Json, config: ProviderConfig) -> str:
        """`projects/P/metricDescriptors/<type>`."""
        return f"projects/{inputs.get('project') or config.project}/metricDescriptors/{inputs['type']}"

    def outputs(self, plan: Plan, cloud: Cloud) -> Json:
        """The API's name is the id."""
        return {
            "name": plan.identifier,
            "project": plan.identifier.split("/")[1],
            "monitoredResourceTypes": ["gce_instance", "generic_node", "generic_task", "global"],
        }


class Dashboard(Kind):
    """A dashboard: recorded."""

    pulumi_type = "gcp:monitoring/dashboard:Dashboard"
    noun = "dashboard"

    def failures(self, inputs: Json) -> Iterator[Failure]:
        """It is JSON with a name."""
        if not known(inputs, "dashboardJson"):
            return
        try:
            dashboard = json.loads(inputs["dashboardJson"])
        except ValueError as error:
            yield Failure("dashboardJson", f"dashboardJson is not JSON: {error}")
            return
        if not isinstance(dashboard, dict) or not dashboard.get("displayName"):
            yield Failure("dashboardJson", "dashboardJson needs a displayName")

    def equivalent(self, pattern: str, old: object, new: object) -> bool:
        """Layout of the JSON does not matter (terraform-provider-google, `monitoringDashboardDiffSuppress`)."""
        if isinstance(old, str) and isinstance(new, str):
            return bool(json.loads(old) == json.loads(new))
        return super().equivalent(pattern, old, new)

    def identifier(self, inputs: Json, config: ProviderConfig) -> str:
        """`projects/P/dashboards/<uuid>`."""
        return f"projects/{inputs.get('project') or config.project}/dashboards/{uuid.uuid4()}"

    def outputs(self, plan: Plan, cloud: Cloud) -> Json:
        """The project."""
        return {"project": plan.identifier.split("/")[1]}


class AlertPolicy(Kind):
    """An alert policy: recorded."""

    pulumi_type = "gcp:monitoring/alertPolicy:AlertPolicy"
    noun = "alert_policy"

    def failures(self, inputs: Json) -> Iterator[Failure]:
        """Each condition says one thing (Cloud Monitoring v3, `AlertPolicy.Condition`)."""
        for index, condition in enumerate(inputs.get("conditions") or ()):
            kinds = [key for key in condition if key.startswith("condition")]
            if len(kinds) != 1:
                yield Failure(
                    f"conditions[{index}]", f"conditions[{index}] needs exactly one condition, it has {kinds}"
                )

    def identifier(self, inputs: Json, config: ProviderConfig) -> str:
        """`projects/P/alertPolicies/<number>`."""
        return f"projects/{inputs.get('project') or config.project}/alertPolicies/{number()}"

    def outputs(self, plan: Plan, cloud: Cloud) -> Json:
        """Names of the policy and its conditions."""
        conditions = [
            condition | {"name": f"{plan.identifier}/conditions/{index}"}
            for index, condition in enumerate(plan.inputs["conditions"])
        ]
        made = {"mutateTime": now(), "mutatedBy": f"operator@{plan.config.project}.iam.gserviceaccount.com"}
        return {
            "name": plan.identifier,
            "project": plan.identifier.split("/")[1],
            "conditions": conditions,
            "creationRecords": plan.old.get("creationRecords") or [made],
        }


KINDS: tuple[Kind, ...] = (MetricDescriptor(), Dashboard(), AlertPolicy())
