"""The VM that builds the model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import pulumi
import pulumi_gcp as gcp

from components.gpu_template import CLOUD_PLATFORM
from components.naming import Names
from components.settings import Settings

BUILDER_LABEL: Final = "fleet-builder"
"""Label of builder VMs, with the fleet's name. They are none of its VMs, so dashboard and alerts do not count them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BuilderArgs:
    """One build of one artifact."""

    names: Names
    settings: Settings
    key: str
    """Key of the artifact that it builds."""
    subnetwork: pulumi.Input[str]
    service_account: pulumi.Input[str]
    """E-mail."""
    metadata: Mapping[str, pulumi.Input[str]]
    boot_needs: Sequence[pulumi.Resource]
    """What the VM needs from its first second that nothing in its declaration refers to."""
    hooks: pulumi.ResourceHookBinding | None = None
    """Of the instance."""


class Builder(pulumi.ComponentResource):
    """A VM with one GPU that builds one artifact, publishes it and powers itself off; Compute Engine stops it at last.

    Its name carries the key: another artifact is another VM. No status is declared for it, so a plan is empty whether
    it runs or is off, and nothing starts it again but the build gate. Outputs: `instance`.
    """

    instance: gcp.compute.Instance

    def __init__(self, name: str, args: BuilderArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("tensorrt-fleet:model:Builder", name, None, opts)
        builder = args.settings.model.builder
        self.instance = gcp.compute.Instance(
            f"{name}-vm",
            project=args.names.project,
            name=args.names.builder(args.key),
            zone=args.settings.builder_zone,
            machine_type=builder.machine_type,
            min_cpu_platform=args.settings.fleet.min_cpu_platform,
            guest_accelerators=[gcp.compute.InstanceGuestAcceleratorArgs(type=builder.gpu_type, count=1)],
            scheduling=gcp.compute.InstanceSchedulingArgs(
                on_host_maintenance="TERMINATE",
                # After host maintenance it boots again and goes on; after it has powered itself off it stays off.
                automatic_restart=True,
                provisioning_model="STANDARD",
                max_run_duration=gcp.compute.InstanceSchedulingMaxRunDurationArgs(seconds=builder.max_run_s),
                instance_termination_action="STOP",
            ),
            boot_disk=gcp.compute.InstanceBootDiskArgs(
                auto_delete=True,
                initialize_params=gcp.compute.InstanceBootDiskInitializeParamsArgs(
                    image=args.settings.builder_image, type=builder.disk_type, size=builder.disk_size_gib
                ),
            ),
            network_interfaces=[gcp.compute.InstanceNetworkInterfaceArgs(subnetwork=args.subnetwork)],
            service_account=gcp.compute.InstanceServiceAccountArgs(email=args.service_account, scopes=[CLOUD_PLATFORM]),
            # Secure Boot is left out: it refuses the NVIDIA modules of images that do not sign them.
            shielded_instance_config=gcp.compute.InstanceShieldedInstanceConfigArgs(
                enable_vtpm=True, enable_integrity_monitoring=True, enable_secure_boot=False
            ),
            labels={BUILDER_LABEL: args.names.fleet},
            metadata={**args.metadata, "enable-oslogin": "TRUE", "serial-port-logging-enable": "TRUE"},
            opts=pulumi.ResourceOptions(
                parent=self,
                # The name is fixed, so there cannot be two in one zone.
                delete_before_replace=True,
                # These change in a stopped VM only; a VM that is made for one build need not be stopped, but made anew.
                replace_on_changes=["machineType", "minCpuPlatform", "serviceAccount"],
                depends_on=[*args.boot_needs],
                hooks=args.hooks,
            ),
        )
        self.register_outputs({"instance": self.instance.name})
