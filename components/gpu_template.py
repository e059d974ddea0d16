"""What a serving VM is made of."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import pulumi
import pulumi_gcp as gcp

from components.naming import FLEET_LABEL, Names
from components.settings.fleet import FleetSettings, Pool

CLOUD_PLATFORM: Final = "https://www.googleapis.com/auth/cloud-platform"
"""The widest scope: what a VM may do is decided by its account's roles alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuTemplateArgs:
    """VMs of one pool."""

    names: Names
    fleet: FleetSettings
    pool: Pool
    subnetwork: pulumi.Input[str]
    service_account: pulumi.Input[str]
    """E-mail."""
    metadata: Mapping[str, pulumi.Input[str]]
    model_needs: Sequence[pulumi.Resource] = ()
    """What the model is built by: there is nothing to wait for before it is there."""
    hooks: pulumi.ResourceHookBinding | None = None
    """Of the template."""


class GpuTemplate(pulumi.ComponentResource):
    """Instance template of one pool. Templates cannot be changed: any change makes a new one beside the old.

    Outputs: `self_link_unique`, which changes with every new template, so that the group that refers to it rolls.
    """

    self_link_unique: pulumi.Output[str]

    def __init__(self, name: str, args: GpuTemplateArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("tensorrt-fleet:compute:GpuTemplate", name, None, opts)
        fleet = args.fleet
        template = gcp.compute.InstanceTemplate(
            f"{name}-template",
            project=args.names.project,
            machine_type=fleet.machine_type,
            min_cpu_platform=fleet.min_cpu_platform,
            guest_accelerators=[
                gcp.compute.InstanceTemplateGuestAcceleratorArgs(type=fleet.gpu_type, count=fleet.gpu_count)
            ],
            scheduling=_scheduling(spot=args.pool.spot),
            disks=[
                gcp.compute.InstanceTemplateDiskArgs(
                    boot=True,
                    auto_delete=True,
                    source_image=fleet.image,
                    disk_type=fleet.disk_type,
                    disk_size_gb=fleet.disk_size_gib,
                )
            ],
            network_interfaces=[gcp.compute.InstanceTemplateNetworkInterfaceArgs(subnetwork=args.subnetwork)],
            service_account=gcp.compute.InstanceTemplateServiceAccountArgs(
                email=args.service_account, scopes=[CLOUD_PLATFORM]
            ),
            # Secure Boot is left out: it refuses the NVIDIA modules of images that do not sign them.
            shielded_instance_config=gcp.compute.InstanceTemplateShieldedInstanceConfigArgs(
                enable_vtpm=True, enable_integrity_monitoring=True, enable_secure_boot=False
            ),
            tags=[*fleet.tags],
            labels={FLEET_LABEL: args.names.fleet},
            metadata={**args.metadata, "enable-oslogin": "TRUE", "serial-port-logging-enable": "TRUE"},
            opts=pulumi.ResourceOptions(parent=self, depends_on=[*args.model_needs], hooks=args.hooks),
        )
        self.self_link_unique = template.self_link_unique
        self.register_outputs({"selfLinkUnique": self.self_link_unique})


def _scheduling(*, spot: bool) -> gcp.compute.InstanceTemplateSchedulingArgs:
    """GPUs cannot migrate, so host maintenance ends the VM (Google Cloud, "Host maintenance events for GPU VMs")."""
    return gcp.compute.InstanceTemplateSchedulingArgs(
        on_host_maintenance="TERMINATE",
        provisioning_model="SPOT" if spot else "STANDARD",
        preemptible=spot,
        automatic_restart=not spot,
    )
