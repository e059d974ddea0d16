"""Instance templates, managed instance groups and autoscalers."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from typing import ClassVar, Final

from sandbox.compute.names import self_link, short
from sandbox.compute.records import group_record, instances
from sandbox.provider.check import Failure
from sandbox.provider.cloud import Cloud, ProviderConfig
from sandbox.provider.errors import CloudError
from sandbox.provider.kinds.base import Kind, Plan, Reference, filled_in
from sandbox.provider.kinds.compute_kind import ComputeKind, fingerprint, is_set
from sandbox.provider.kinds.network import NETWORK, SUBNETWORK, interfaces
from sandbox.provider.wire import Json

TEMPLATE: Final = "gcp:compute/instanceTemplate:InstanceTemplate"
GROUP_MANAGER: Final = "gcp:compute/regionInstanceGroupManager:RegionInstanceGroupManager"
HEALTH_CHECK: Final = "gcp:compute/healthCheck:HealthCheck"
AUTOSCALER: Final = "gcp:compute/regionAutoscaler:RegionAutoscaler"

_STARTUP_SCRIPT: Final = "startup-script"


def machine_failures(inputs: Json) -> Iterator[Failure]:
    """Rules that instances and their templates share.

    Sources: terraform-provider-google, `resourceInstanceMetadata` (one startup script); Compute Engine, "GPU host
    maintenance" (GPUs cannot migrate) and "Create Spot VMs" (Spot means preemptible, without automatic restart).
    """
    if is_set(inputs, "metadataStartupScript") and _STARTUP_SCRIPT in (inputs.get("metadata") or {}):
        yield Failure("metadataStartupScript", "set metadataStartupScript or metadata['startup-script'], not both")
    scheduling = inputs.get("scheduling") or {}
    if inputs.get("guestAccelerators") and scheduling.get("onHostMaintenance", "MIGRATE") == "MIGRATE":
        yield Failure(
            "scheduling.onHostMaintenance",
            "instances with guestAccelerators do not support live migration: set scheduling.onHostMaintenance to "
            "TERMINATE",
        )
    spot = scheduling.get("provisioningModel") == "SPOT"
    if spot and scheduling.get("preemptible") is not True:
        yield Failure("scheduling.preemptible", "scheduling.preemptible must be true where provisioningModel is SPOT")
    if (spot or scheduling.get("preemptible") is True) and scheduling.get("automaticRestart", True) is True:
        yield Failure(
            "scheduling.automaticRestart", "scheduling.automaticRestart must be false for preemptible instances"
        )


class InstanceTemplate(ComputeKind):
    """What a group makes its instances from. Immutable: every change is a new template."""

    pulumi_type = TEMPLATE
    noun = "instance_template"
    numeric_text = ("numericId",)
    unique_names = ("name", "namePrefix")
    has_labels = True
    references = (
        Reference(path="networkInterfaces[].network", targets=(NETWORK,), holds=False),
        Reference(path="networkInterfaces[].subnetwork", targets=(SUBNETWORK,), holds=False),
    )
    _disk: ClassVar[Json] = {"mode": "READ_WRITE", "interface": "SCSI", "type": "PERSISTENT", "diskType": "pd-standard"}
    _scheduling: ClassVar[Json] = {"onHostMaintenance": "MIGRATE", "provisioningModel": "STANDARD"}

    def failures(self, inputs: Json) -> Iterator[Failure]:
        """One name, and what all machines need."""
        yield from super().failures(inputs)
        yield from machine_failures(inputs)
        if "namePrefix" in inputs and "name" in inputs:
            yield Failure("namePrefix", "namePrefix conflicts with name: set one of them")

    def replacing(self, old_inputs: Json, news: Json) -> Iterator[str]:
        """Labels are part of an immutable template.

        Source: terraform-provider-google `resource_compute_instance_template.go`: `effective_labels` is ForceNew.
        """
        if (old_inputs.get("labels") or {}) != (news.get("labels") or {}):
            yield "labels"

    def identifier(self, inputs: Json, config: ProviderConfig) -> str:
        """A prefix is completed by time and chance to 26 digits, as Terraform's `PrefixedUniqueId` does."""
        if "name" not in inputs:
            unique = time.strftime("%Y%m%d%H%M%S", time.gmtime()) + f"{secrets.randbelow(10**12):012d}"
            inputs = inputs | {"name": inputs.get("namePrefix", "terraform-") + unique}
        return super().identifier(inputs, config)

    def outputs(self, plan: Plan, cloud: Cloud) -> Json:
        """Disks, interfaces and scheduling as the API completes them."""
        found = super().outputs(plan, cloud)
        inputs = plan.inputs
        found["name"] = short(plan.identifier)
        found["selfLinkUnique"] = f"{found['selfLink']}?uniqueId={found['numericId']}"
        found["metadataFingerprint"] = fingerprint([inputs.get("metadata"), inputs.get("metadataStartupScript")])
        found["tagsFingerprint"] = fingerprint(inputs.get("tags"))
        found["disks"] = [
            filled_in(disk, self._disk | {"boot": index == 0, "deviceName": f"persistent-disk-{index}"})
            for index, disk in enumerate(inputs["disks"])
        ]
        found["networkInterfaces"] = interfaces(inputs, plan.identifier, cloud)
        found["scheduling"] = filled_in(
            inputs.get("scheduling") or {}, self._scheduling | {"automaticRestart": True, "preemptible": False}
        )
        return found


class RegionInstanceGroupManager(ComputeKind):
    """A regional managed instance group; sandbox.compute.groups makes it real."""

    pulumi_type = GROUP_MANAGER
    noun = "instance_group_manager"
    scope = "region"
    numeric = ("instanceGroupManagerId",)
    fingerprints = ("fingerprint",)
    references = (
        Reference(path="versions[].instanceTemplate", targets=(TEMPLATE,)),
        Reference(path="autoHealingPolicies.healthCheck", targets=(HEALTH_CHECK,)),
    )
    filled: ClassVar[Json] = {
        "distributionPolicyTargetShape": "EVEN",
        "instanceLifecyclePolicy": {
            "defaultActionOnFailure": "REPAIR",
            "forceUpdateOnRepair": "NO",
            "onFailedHealthCheck": "DEFAULT_ACTION",
            "onRepair": {"allowChangingZone": "NO"},
        },
    }

    def failures(self, inputs: Json) -> Iterator[Failure]:
        """What the sandbox's groups need, and the range of the initial delay."""
        yield from super().failures(inputs)
        if len(inputs.get("versions") or ()) > 1:
            yield Failure("versions", "the sandbox models groups of one version: leave one")
        if not is_set(inputs, "distributionPolicyZones"):
            yield Failure("distributionPolicyZones", "the sandbox has no zones to choose from: name them")
        if inputs.get("waitForInstances") is True:
            yield Failure(
                "waitForInstances", "the sandbox does not model waitForInstances: wait for the group's stability"
            )
        healing = inputs.get("autoHealingPolicies") or {}
        delay = healing.get("initialDelaySec", 0)
        if isinstance(delay, int) and not 0 <= delay <= 3600:
            yield Failure(
                "autoHealingPolicies.initialDelaySec",
                f"autoHealingPolicies.initialDelaySec is {delay}; allowed: 0 to 3600",
            )

    def refuse(self, plan: Plan, cloud: Cloud) -> None:
        """The API's rules for update policies, and no resizing beside an autoscaler."""
        inputs = plan.inputs
        policy = inputs.get("updatePolicy") or {}
        zones = len(inputs["distributionPolicyZones"])
        recreate = policy.get("replacementMethod") == "RECREATE"
        for key, api in (("maxSurgeFixed", "maxSurge"), ("maxUnavailableFixed", "maxUnavailable")):
            value = policy.get(key, 0 if key == "maxSurgeFixed" and recreate else zones)
            if 0 < value < zones:
                raise CloudError(
                    400,
                    f"Invalid value for field 'resource.updatePolicy.{api}.fixed': '{value}'. Fixed updatePolicy.{api} "
                    "for regional managed instance group has to be either 0 or at least equal to the number of zones",
                    "invalid",
                )
        if recreate and policy.get("maxSurgeFixed", 0):
            raise CloudError(
                400,
                f"Invalid value for field 'resource.updatePolicy.maxSurge': '{policy['maxSurgeFixed']}'. maxSurge must "
                "be equal to 0 when replacement method is set to RECREATE",
                "invalid",
            )
        spread = inputs.get("distributionPolicyTargetShape", "EVEN")
        if spread in {"BALANCED", "ANY_SINGLE_ZONE"} and policy.get("instanceRedistributionType") == "PROACTIVE":
            raise CloudError(
                400,
                "Invalid value for field 'resource.updatePolicy.instanceRedistributionType': 'PROACTIVE'. Proactive "
                f"redistribution is not possible with target shape {spread}",
                "invalid",
            )
        if plan.old and "targetSize" in inputs and inputs["targetSize"] != plan.old.get("targetSize"):
            autoscaled = any(
                self.target_of(RegionAutoscaler.references[0], record["inputs"]["target"], plan.identifier)
                == plan.identifier
                and record["inputs"]["autoscalingPolicy"].get("mode", "ON") == "ON"
                for _, record in cloud.store.resources(AUTOSCALER)
            )
            if autoscaled:
                raise CloudError(
                    412, "Resizing of autoscaled regional managed instance groups is not allowed.", "conditionNotMet"
                )

    def outputs(self, plan: Plan, cloud: Cloud) -> Json:
        """The instance group's link, and the update policy as the API completes it."""
        zones = len(plan.inputs["distributionPolicyZones"])
        policy: Json = {
            "type": "OPPORTUNISTIC",
            "minimalAction": "REPLACE",
            "instanceRedistributionType": "PROACTIVE",
            "replacementMethod": "SUBSTITUTE",
            "maxUnavailableFixed": zones,
        }
        declared = plan.inputs.get("updatePolicy") or {}
        surge = 0 if declared.get("replacementMethod") == "RECREATE" else zones
        group = plan.identifier.replace("/instanceGroupManagers/", "/instanceGroups/")
        return super().outputs(plan, cloud) | {
            "instanceGroup": self_link(group),
            "updatePolicy": filled_in(declared, policy | {"maxSurgeFixed": surge}),
        }

    def live(self, identifier: str, state: Json, cloud: Cloud) -> Json:
        """Size and status as the group's controller last left them."""
        record = group_record(cloud.store, identifier)
        status = {
            "allInstancesConfigs": [{"currentRevision": "", "effective": True}],
            "isStable": record.stable if record else False,
            "statefuls": [{"hasStatefulConfig": False, "perInstanceConfigs": []}],
            "versionTargets": [{"isReached": record.reached if record else False}],
        }
        size = record.target_size if record else state.get("targetSize", 0)
        return {"targetSize": size} | state | {"statuses": [status]}

    async def vanish(self, identifier: str, cloud: Cloud) -> None:
        """The deletion of a group ends when its last instance is gone."""
        revision = cloud.store.revision
        while any(instance.created_by == identifier for instance in instances(cloud.store)):
            revision = await cloud.store.changed(revision, timeout_s=5.0)


class RegionAutoscaler(ComputeKind):
    """The autoscaler of a regional group; sandbox.compute.autoscaler decides by it."""

    pulumi_type = AUTOSCALER
    noun = "autoscaler"
    scope = "region"
    references = (Reference(path="target", targets=(GROUP_MANAGER,), holds=False),)

    def refuse(self, plan: Plan, cloud: Cloud) -> None:
        """The API's rules for limits and targets."""
        policy = plan.inputs["autoscalingPolicy"]
        low, high = policy["minReplicas"], policy["maxReplicas"]
        if low > high:
            raise CloudError(
                400,
                f"Invalid value for field 'resource.autoscalingPolicy.maxNumReplicas': '{high}'. Maximum number of "
                f"replicas must not be lower than minimum number of replicas ({low})",
                "invalid",
            )
        cpu = (policy.get("cpuUtilization") or {}).get("target", 1.0)
        if not 0 < cpu <= 1:
            raise CloudError(
                400,
                f"Invalid value for field 'resource.autoscalingPolicy.cpuUtilization.utilizationTarget': '{cpu}'. Must "
                "be a value between 0 (exclusive) and 1",
                "invalid",
            )

    def outputs(self, plan: Plan, cloud: Cloud) -> Json:
        """Without any signal the API scales on 60 % CPU."""
        policy = plan.inputs["autoscalingPolicy"]
        if not policy.get("metrics") and not policy.get("cpuUtilization"):
            policy = policy | {"cpuUtilization": {"target": 0.6}}
        return super().outputs(plan, cloud) | {"autoscalingPolicy": policy}


KINDS: tuple[Kind, ...] = (InstanceTemplate(), RegionInstanceGroupManager(), RegionAutoscaler())
