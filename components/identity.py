"""Who the VMs are, and what they may do in the project. Buckets grant access themselves (components/model_build.py)."""

from dataclasses import dataclass
from typing import Final

import pulumi
import pulumi_gcp as gcp

from components.naming import Names, Role

LOG_WRITER: Final = "roles/logging.logWriter"
METRIC_WRITER: Final = "roles/monitoring.metricWriter"


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentityArgs:
    """Where the accounts are."""

    names: Names


class Identity(pulumi.ComponentResource):
    """A service account for serving VMs and one for the model build, with what each needs to report.

    Outputs: `serving_email`, `serving_member`, `builder_email`, `builder_member` (`serviceAccount:<e-mail>`), and
    `serving_bindings` and `builder_bindings`, without which the VMs are mute.
    """

    serving_email: pulumi.Output[str]
    serving_member: pulumi.Output[str]
    serving_bindings: list[pulumi.Resource]
    builder_email: pulumi.Output[str]
    builder_member: pulumi.Output[str]
    builder_bindings: list[pulumi.Resource]

    def __init__(self, name: str, args: IdentityArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("tensorrt-fleet:identity:Identity", name, None, opts)
        serving = self._account(name, args.names, "serving", "GPU inference VMs")
        builder = self._account(name, args.names, "builder", "model build")
        self.serving_bindings = [
            self._grant(f"{name}-serving-logs", args.names, serving, LOG_WRITER),
            self._grant(f"{name}-serving-metrics", args.names, serving, METRIC_WRITER),
        ]
        self.builder_bindings = [self._grant(f"{name}-builder-logs", args.names, builder, LOG_WRITER)]
        self.serving_email, self.serving_member = serving.email, serving.member
        self.builder_email, self.builder_member = builder.email, builder.member
        self.register_outputs({"servingEmail": self.serving_email, "builderEmail": self.builder_email})

    def _account(self, name: str, names: Names, role: Role, purpose: str) -> gcp.serviceaccount.Account:
        return gcp.serviceaccount.Account(
            f"{name}-{role}",
            project=names.project,
            account_id=names.account_id(role),
            display_name=f"{names.fleet}: {purpose}",
            opts=pulumi.ResourceOptions(parent=self),
        )

    def _grant(self, name: str, names: Names, account: gcp.serviceaccount.Account, role: str) -> pulumi.Resource:
        return gcp.projects.IAMMember(
            name, project=names.project, role=role, member=account.member, opts=pulumi.ResourceOptions(parent=self)
        )
