"""The Google APIs that the stack's resources and VMs call."""

from dataclasses import dataclass
from typing import Final

import pulumi
import pulumi_gcp as gcp

from components.naming import Names

APIS: Final = ("cloudresourcemanager", "compute", "iam", "logging", "monitoring", "storage")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServicesArgs:
    """Where the APIs are enabled."""

    names: Names


class Services(pulumi.ComponentResource):
    """Enables APIs. They stay enabled when the stack goes: others in the project may use them.

    Outputs: `enabled`, what every resource of those APIs must come after in a new project.
    """

    enabled: list[pulumi.Resource]

    def __init__(self, name: str, args: ServicesArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("tensorrt-fleet:project:Services", name, None, opts)
        self.enabled = [
            gcp.projects.Service(
                f"{name}-{api}",
                project=args.names.project,
                service=f"{api}.googleapis.com",
                disable_on_destroy=False,
                opts=pulumi.ResourceOptions(parent=self),
            )
            for api in APIS
        ]
        self.register_outputs({})
