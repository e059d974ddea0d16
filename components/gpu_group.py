"""A pool's VMs: how many, where, and when one is replaced."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pulumi
import pulumi_gcp as gcp

import contract
from components.naming import Names
from components.settings import Pool, Settings
from components.settings.autoscaling import AutoscalingSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuGroupArgs:
    """VMs of one pool, made from one template."""

    names: Names
    settings: Settings
    pool: Pool
    template: pulumi.Input[str]
    """Unique link of the instance template: another one rolls the group."""
    boot_needs: Sequence[pulumi.Resource]
    """What a VM needs from its first second that nothing in its template refers to."""
    hooks: pulumi.ResourceHookBinding | None = None
    """Of the group's manager."""


class GpuGroup(pulumi.ComponentResource):
    """Regional managed instance group with its autohealing check and autoscaler.

    The autoscaler owns the size, so the group declares none. Outputs: `instance_group` (what a backend refers to),
    `autoscaler`.
    """

    instance_group: pulumi.Output[str]
    autoscaler: gcp.compute.RegionAutoscaler

    def __init__(self, name: str, args: GpuGroupArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("tensorrt-fleet:compute:GpuGroup", name, None, opts)
        self._name, self._args = name, args
        manager = self._manager(self._liveness())
        self.autoscaler = self._autoscaler(manager)
        self.instance_group = manager.instance_group
        self.register_outputs({"instanceGroup": self.instance_group})

    def _liveness(self) -> gcp.compute.HealthCheck:
        healing = self._args.settings.fleet.autohealing
        return gcp.compute.HealthCheck(
            f"{self._name}-liveness",
            project=self._args.names.project,
            check_interval_sec=healing.interval_s,
            timeout_sec=healing.timeout_s,
            healthy_threshold=probes_to_live(healing.interval_s),
            unhealthy_threshold=healing.unhealthy_threshold,
            http_health_check=gcp.compute.HealthCheckHttpHealthCheckArgs(
                port=contract.API_PORT, request_path=contract.LIVENESS_PATH
            ),
            log_config=gcp.compute.HealthCheckLogConfigArgs(enable=True),
            opts=pulumi.ResourceOptions(parent=self),
        )

    def _manager(self, liveness: gcp.compute.HealthCheck) -> gcp.compute.RegionInstanceGroupManager:
        args = self._args
        update, zones = args.settings.fleet.update, args.pool.zones
        return gcp.compute.RegionInstanceGroupManager(
            f"{self._name}-group",
            project=args.names.project,
            region=args.pool.region,
            base_instance_name=args.names.instances(args.pool.name),
            distribution_policy_zones=[*zones],
            distribution_policy_target_shape=update.shape,
            versions=[
                gcp.compute.RegionInstanceGroupManagerVersionArgs(instance_template=args.template),
            ],
            named_ports=[
                gcp.compute.RegionInstanceGroupManagerNamedPortArgs(name=contract.NAMED_PORT, port=contract.API_PORT)
            ],
            auto_healing_policies=gcp.compute.RegionInstanceGroupManagerAutoHealingPoliciesArgs(
                health_check=liveness.self_link, initial_delay_sec=args.settings.fleet.autohealing.initial_delay_s
            ),
            instance_lifecycle_policy=gcp.compute.RegionInstanceGroupManagerInstanceLifecyclePolicyArgs(
                default_action_on_failure="REPAIR",
                on_failed_health_check="REPAIR",
                force_update_on_repair="YES",
                on_repair=gcp.compute.RegionInstanceGroupManagerInstanceLifecyclePolicyOnRepairArgs(
                    allow_changing_zone="YES"
                ),
            ),
            update_policy=gcp.compute.RegionInstanceGroupManagerUpdatePolicyArgs(
                type=update.type,
                minimal_action="REPLACE",
                most_disruptive_allowed_action="REPLACE",
                replacement_method="SUBSTITUTE",
                instance_redistribution_type=update.redistributes,
                max_surge_fixed=update.surge(len(zones)),
                max_unavailable_fixed=update.max_unavailable,
            ),
            # Its own wait is cut at 15 minutes on an update whatever is set, and then names no VM and no reason.
            wait_for_instances=False,
            opts=pulumi.ResourceOptions(
                parent=self,
                # The group makes VMs as soon as its autoscaler exists. A VM that boots before its bindings, firewall
                # rules and NAT loses its first minutes to retries, or its probes.
                depends_on=[*args.boot_needs],
                hooks=args.hooks,
            ),
        )

    def _autoscaler(self, manager: gcp.compute.RegionInstanceGroupManager) -> gcp.compute.RegionAutoscaler:
        args, pool = self._args, self._args.pool
        scaling, paused = args.settings.autoscaling, args.settings.fleet.paused
        cpu = (
            gcp.compute.RegionAutoscalerAutoscalingPolicyCpuUtilizationArgs(target=scaling.cpu_target)
            if scaling.cpu_target is not None
            else None
        )
        return gcp.compute.RegionAutoscaler(
            f"{self._name}-autoscaler",
            project=args.names.project,
            region=pool.region,
            target=manager.self_link,
            autoscaling_policy=gcp.compute.RegionAutoscalerAutoscalingPolicyArgs(
                mode="ON",
                min_replicas=0 if paused else pool.min_vms,
                max_replicas=0 if paused else pool.max_vms,
                cooldown_period=scaling.cool_down_s,
                metrics=[
                    gcp.compute.RegionAutoscalerAutoscalingPolicyMetricArgs(
                        name=scaling.gpu_metric(args.names.program, args.names.stack),
                        type="GAUGE",
                        target=_target(scaling, args.settings.fleet.gpu_count),
                    )
                ],
                cpu_utilization=cpu,
                scale_in_control=gcp.compute.RegionAutoscalerAutoscalingPolicyScaleInControlArgs(
                    max_scaled_in_replicas=gcp.compute.RegionAutoscalerAutoscalingPolicyScaleInControlMaxScaledInReplicasArgs(
                        fixed=scaling.scale_in.max_replicas
                    ),
                    time_window_sec=scaling.scale_in.window_s,
                ),
            ),
            opts=pulumi.ResourceOptions(parent=self),
        )


def _target(scaling: AutoscalingSettings, gpus: int) -> float:
    """Target in the metric's unit: the agent writes a VM's mean; the Ops Agent writes a series a GPU.

    Several series of one VM are added up (Google Cloud, "Scale based on Monitoring metrics", 2026-04-08).
    """
    return scaling.gpu_target * (gpus if scaling.metric_source == "ops-agent" else 1)


def probes_to_live(interval_s: int) -> int:
    """Probes in a row that make a VM live: so many that the balancer has found it healthy before.

    A group's update deletes an old VM once a new one is live. The balancer needs PROBES_TO_HEALTHY probes and may have
    asked just before the VM began to serve, so one more.
    """
    balancer_s = (contract.PROBES_TO_HEALTHY + 1) * contract.PROBE_INTERVAL_S
    return 1 + math.ceil(balancer_s / interval_s)
