"""What people see of the fleet and are told about it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import pulumi
import pulumi_gcp as gcp

from components.naming import FLEET_LABEL, Names
from components.settings import Settings

_CONSOLE: Final = "https://console.cloud.google.com/monitoring/dashboards"
_COLUMNS: Final = 48
_TILE_HEIGHT: Final = 16
_SILENCE_S: Final = 300
_FAILURE_SHARE: Final = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservabilityArgs:
    """What to observe."""

    names: Names
    settings: Settings
    url_map: pulumi.Input[str]
    """Name of the balancer's URL map."""


class Observability(pulumi.ComponentResource):
    """Descriptor of the GPU metric, dashboard, and alerts for silence and for failing requests.

    Outputs: `dashboard_url`, the list of dashboards where there is none of the stack's own.
    """

    dashboard_url: pulumi.Output[str]

    def __init__(self, name: str, args: ObservabilityArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("tensorrt-fleet:monitoring:Observability", name, None, opts)
        self._name, self._args = name, args
        observability, scaling = args.settings.observability, args.settings.autoscaling
        self._gpu_metric = scaling.gpu_metric(args.names.program, args.names.stack)
        if scaling.metric_source == "agent":
            metric = self._descriptor().type
        else:
            metric = pulumi.Output.from_input(self._gpu_metric)
        if observability.alerts:
            self._silence_alert(metric)
            self._failure_alert()
        if observability.dashboard:
            self.dashboard_url = self._dashboard(metric).id.apply(
                lambda id_: f"{_CONSOLE}/builder/{id_.rpartition('/')[2]}?project={args.names.project}"
            )
        else:
            self.dashboard_url = pulumi.Output.from_input(f"{_CONSOLE}?project={args.names.project}")
        self.register_outputs({"dashboardUrl": self.dashboard_url})

    def _descriptor(self) -> gcp.monitoring.MetricDescriptor:
        return gcp.monitoring.MetricDescriptor(
            f"{self._name}-gpu-metric",
            project=self._args.names.project,
            type=self._gpu_metric,
            metric_kind="GAUGE",
            value_type="DOUBLE",
            unit="%",
            display_name=f"{self._args.names.fleet}: GPU utilisation",
            description="Mean utilisation of a VM's GPUs. VMs out of rotation write nothing.",
            opts=pulumi.ResourceOptions(parent=self),
        )

    def _silence_alert(self, metric: pulumi.Output[str]) -> None:
        self._alert(
            "silence",
            title="no GPU metric",
            advice=(
                f"No VM has written its GPU metric for {_SILENCE_S} s: the autoscaler is blind, or nothing serves. "
                "`python -m client status` shows groups, VMs and health."
            ),
            enabled=not self._args.settings.fleet.paused,
            condition=gcp.monitoring.AlertPolicyConditionArgs(
                display_name="no VM writes",
                condition_absent=gcp.monitoring.AlertPolicyConditionConditionAbsentArgs(
                    filter=metric.apply(_vm_filter),
                    duration=f"{_SILENCE_S}s",
                    # Counted over all VMs: the end of one VM's series is everyday scaling.
                    aggregations=[
                        gcp.monitoring.AlertPolicyConditionConditionAbsentAggregationArgs(
                            alignment_period="60s", per_series_aligner="ALIGN_MEAN", cross_series_reducer="REDUCE_COUNT"
                        )
                    ],
                ),
            ),
        )

    def _failure_alert(self) -> None:
        self._alert(
            "failures",
            title="requests fail",
            advice=(
                f"More than {_FAILURE_SHARE:.0%} of requests end in 5xx: backends are unhealthy or overloaded. "
                "`python -m client status` names the VMs and why."
            ),
            enabled=True,
            condition=gcp.monitoring.AlertPolicyConditionArgs(
                display_name="share of 5xx",
                condition_threshold=gcp.monitoring.AlertPolicyConditionConditionThresholdArgs(
                    filter=self._requests("https/request_count", "metric.labels.response_code_class=500"),
                    denominator_filter=self._requests("https/request_count"),
                    comparison="COMPARISON_GT",
                    threshold_value=_FAILURE_SHARE,
                    duration="300s",
                    aggregations=[
                        gcp.monitoring.AlertPolicyConditionConditionThresholdAggregationArgs(
                            alignment_period="60s", per_series_aligner="ALIGN_RATE", cross_series_reducer="REDUCE_SUM"
                        )
                    ],
                    denominator_aggregations=[
                        gcp.monitoring.AlertPolicyConditionConditionThresholdDenominatorAggregationArgs(
                            alignment_period="60s", per_series_aligner="ALIGN_RATE", cross_series_reducer="REDUCE_SUM"
                        )
                    ],
                ),
            ),
        )

    def _alert(
        self, role: str, *, title: str, advice: str, enabled: bool, condition: gcp.monitoring.AlertPolicyConditionArgs
    ) -> None:
        gcp.monitoring.AlertPolicy(
            f"{self._name}-{role}",
            project=self._args.names.project,
            display_name=f"{self._args.names.fleet}: {title}",
            combiner="OR",
            enabled=enabled,
            conditions=[condition],
            notification_channels=[*self._args.settings.observability.notification_channels],
            documentation=gcp.monitoring.AlertPolicyDocumentationArgs(content=advice, mime_type="text/markdown"),
            opts=pulumi.ResourceOptions(parent=self),
        )

    def _requests(self, metric: str, *conditions: str) -> pulumi.Output[str]:
        """Monitoring filter for a metric of this stack's balancer."""
        return pulumi.Output.from_input(self._args.url_map).apply(
            lambda url_map: " AND ".join(
                (
                    'resource.type="https_lb_rule"',
                    f'metric.type="loadbalancing.googleapis.com/{metric}"',
                    f'resource.labels.url_map_name="{url_map}"',
                    *conditions,
                )
            )
        )

    def _dashboard(self, metric: pulumi.Output[str]) -> gcp.monitoring.Dashboard:
        gpu = metric.apply(_vm_filter)
        cpu = _vm_filter("compute.googleapis.com/instance/cpu/utilization", user_label=self._args.names.fleet)
        charts = [
            _chart("GPU utilisation of each VM (%)", gpu, line=self._args.settings.autoscaling.gpu_target),
            _chart("VMs in rotation", gpu, reducer="REDUCE_COUNT"),
            _chart("CPU utilisation of each VM", cpu),
            _chart(
                "Requests a second by class of answer",
                self._requests("https/request_count"),
                aligner="ALIGN_RATE",
                reducer="REDUCE_SUM",
                by=("metric.label.response_code_class",),
            ),
            *(
                _chart(
                    f"Latency of VMs, {percentile}th percentile (ms)",
                    self._requests("https/backend_latencies"),
                    aligner="ALIGN_DELTA",
                    reducer=f"REDUCE_PERCENTILE_{percentile}",
                )
                for percentile in (50, 99)
            ),
        ]
        layout = {"columns": _COLUMNS, "tiles": [_tile(i, chart) for i, chart in enumerate(charts)]}
        return gcp.monitoring.Dashboard(
            f"{self._name}-dashboard",
            project=self._args.names.project,
            dashboard_json=pulumi.Output.json_dumps(
                {"displayName": self._args.names.fleet, "mosaicLayout": layout}, sort_keys=True
            ),
            opts=pulumi.ResourceOptions(parent=self),
        )


def _vm_filter(metric: str, user_label: str | None = None) -> str:
    """Monitoring filter for a metric of VMs, of one fleet where `user_label` names it."""
    fleet = () if user_label is None else (f'metadata.user_labels.{FLEET_LABEL}="{user_label}"',)
    return " AND ".join(('resource.type="gce_instance"', f'metric.type="{metric}"', *fleet))


def _tile(place: int, widget: Mapping[str, Any]) -> dict[str, Any]:
    """Two tiles a row."""
    width = _COLUMNS // 2
    x, y = place % 2 * width, place // 2 * _TILE_HEIGHT
    return {"xPos": x, "yPos": y, "width": width, "height": _TILE_HEIGHT, "widget": widget}


def _chart(
    title: str,
    metric_filter: pulumi.Input[str],
    *,
    aligner: str = "ALIGN_MEAN",
    reducer: str = "REDUCE_NONE",
    by: tuple[str, ...] = (),
    line: float | None = None,
) -> dict[str, Any]:
    """A line chart of one metric, as the Dashboards API takes it."""
    aggregation = {
        "alignmentPeriod": "60s",
        "perSeriesAligner": aligner,
        "crossSeriesReducer": reducer,
        "groupByFields": [*by],
    }
    query = {"timeSeriesFilter": {"filter": metric_filter, "aggregation": aggregation}}
    thresholds = [] if line is None else [{"value": line}]
    data_set = {"plotType": "LINE", "timeSeriesQuery": query}
    return {"title": title, "xyChart": {"dataSets": [data_set], "thresholds": thresholds}}
