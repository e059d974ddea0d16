"""VMs that a program declares one by one."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import ClassVar, Final

from sandbox.compute.instances import from_template, placement_fault
from sandbox.compute.names import short
from sandbox.compute.records import instance, instances
from sandbox.compute.rollout import Member
from sandbox.machine.instance import Instance as Machine
from sandbox.provider.check import Failure
from sandbox.provider.cloud import Cloud
from sandbox.provider.errors import CloudError
from sandbox.provider.kinds.base import Kind, Plan, Reference, filled_in, same_link
from sandbox.provider.kinds.compute import machine_failures
from sandbox.provider.kinds.compute_kind import ComputeKind, fingerprint
from sandbox.provider.kinds.network import NETWORK, SUBNETWORK, interfaces
from sandbox.provider.wire import Json, Value
from sandbox.store import INSTANCE

_OPERATION_DEADLINE_S: Final = 300.0
_STOPPED_ONLY: Final = (
    "machineType",
    "minCpuPlatform",
    "serviceAccount",
    "shieldedInstanceConfig",
    "networkInterfaces",
)


class Instance(ComputeKind):
    """A VM of its own; sandbox.machine runs it."""

    pulumi_type = "gcp:compute/instance:Instance"
    noun = "instance"
    scope = "zone"
    numeric_text = ("instanceId",)
    has_labels = True
    references = (
        Reference(path="networkInterfaces[].network", targets=(NETWORK,)),
        Reference(path="networkInterfaces[].subnetwork", targets=(SUBNETWORK,)),
    )
    filled: ClassVar[Json] = {
        "cpuPlatform": "Unknown CPU Platform",
        "shieldedInstanceConfig": {
            "enableIntegrityMonitoring": True,
            "enableSecureBoot": False,
            "enableVtpm": True,
        },
    }

    def failures(self, inputs: Json) -> Iterator[Failure]:
        """What all machines need, and an image to boot."""
        yield from super().failures(inputs)
        yield from machine_failures(inputs)
        if not ((inputs.get("bootDisk") or {}).get("initializeParams") or {}).get("image"):
            yield Failure(
                "bootDisk.initializeParams.image", "bootDisk.initializeParams.image is not set: name an image"
            )

    def replacing(self, old_inputs: Json, news: Json) -> Iterator[str]:
        """A startup script replaces its VM, except where it only moves into the metadata.

        Source: terraform-provider-google `resource_compute_instance.go`, `isGracefulMetadataStartupSwitch`.
        """
        old, new = (one.get("metadataStartupScript") for one in (old_inputs, news))
        if old != new and not (new is None and (news.get("metadata") or {}).get("startup-script") == old):
            yield "metadataStartupScript"

    def refuse(self, plan: Plan, cloud: Cloud) -> None:
        """Quota and capacity; and what only a stopped VM lets change, which the sandbox never stops for an update."""
        if not plan.old:
            machine = self._machine(plan, plan.inputs["networkInterfaces"])
            fault = placement_fault(machine, instances(cloud.store), cloud.settings)
            if fault and fault.code == "QUOTA_EXCEEDED":
                raise CloudError(403, fault.message, "quotaExceeded")
            if fault:
                raise CloudError(503, fault.message, fault.code)
            return
        for key in _STOPPED_ONLY:
            if key in plan.old and key in plan.inputs and _differs(plan.old[key], plan.inputs[key]):
                raise CloudError(
                    400,
                    f"Changing {key} of a started instance requires stopping it, which the sandbox does not model: "
                    "replace the instance",
                    "badRequest",
                )

    def outputs(self, plan: Plan, cloud: Cloud) -> Json:
        """Interfaces, scheduling and fingerprints as the API completes them."""
        inputs = plan.inputs
        found = super().outputs(plan, cloud)
        address = cloud.addresses.for_instance(self._key(plan.identifier))
        found["networkInterfaces"] = [
            filled_in(interface, {"networkIp": address}) for interface in interfaces(inputs, plan.identifier, cloud)
        ]
        found["scheduling"] = filled_in(
            inputs.get("scheduling") or {}, {"onHostMaintenance": "MIGRATE", "provisioningModel": "STANDARD"}
        )
        found["bootDisk"] = filled_in(inputs["bootDisk"], {"deviceName": "persistent-disk-0"})
        found["metadataFingerprint"] = fingerprint(inputs.get("metadata"))
        found["tagsFingerprint"] = fingerprint(inputs.get("tags"))
        return found

    async def create(self, plan: Plan, state: Json, cloud: Cloud) -> Json:
        """The insertion ends when the VM runs; a VM that a killed predecessor inserted is this one."""
        machine = self._machine(plan, state["networkInterfaces"])
        existing = instance(cloud.store, machine.key)
        if existing is not None and existing.created_by:
            raise self.already_exists(plan.identifier)
        if existing is None:
            machine.numeric_id = state["instanceId"]
            cloud.store.put(INSTANCE, machine.key, machine.as_json())
        else:
            state = state | {"instanceId": existing.numeric_id}
        await self._settle(machine.key, cloud)
        return state

    async def update(self, plan: Plan, state: Json, cloud: Cloud) -> Json:
        """Metadata and labels change in a running VM; `desiredStatus` stops and starts it."""
        machine = instance(cloud.store, self._key(plan.identifier))
        if machine is None:
            raise CloudError(404, f"The resource '{plan.identifier}' was not found", "notFound")
        wanted = self._machine(plan, state["networkInterfaces"])
        machine.metadata, machine.labels, machine.tags = wanted.metadata, wanted.labels, wanted.tags
        machine.desired = wanted.desired
        cloud.store.put(INSTANCE, machine.key, machine.as_json())
        await self._settle(machine.key, cloud)
        return state

    async def delete(self, identifier: str, state: Json, cloud: Cloud) -> None:
        """The deletion ends when the VM is gone."""
        if state.get("deletionProtection"):
            raise CloudError(
                400,
                f"Resource cannot be deleted if it's protected against deletion: '{identifier}'",
                "invalidResourceUsage",
            )
        key = self._key(identifier)
        machine = instance(cloud.store, key)
        if machine is not None:
            machine.desired = "DELETED"
            cloud.store.put(INSTANCE, key, machine.as_json())
        revision = cloud.store.revision
        while cloud.store.get(INSTANCE, key) is not None:
            revision = await cloud.store.changed(revision, timeout_s=5.0)
        cloud.addresses.release_instance(key)

    def live(self, identifier: str, state: Json, cloud: Cloud) -> Json:
        """Status of the VM."""
        machine = instance(cloud.store, self._key(identifier))
        return state | {"currentStatus": machine.status if machine else "TERMINATED"}

    def exists(self, identifier: str, state: Json, cloud: Cloud) -> bool:
        """Whether the VM is still there."""
        return cloud.store.get(INSTANCE, self._key(identifier)) is not None

    async def _settle(self, key: str, cloud: Cloud) -> None:
        revision, deadline = cloud.store.revision, time.monotonic() + _OPERATION_DEADLINE_S
        while (machine := instance(cloud.store, key)) is not None and machine.status != machine.desired:
            if time.monotonic() > deadline:
                raise CloudError(
                    503,
                    f"{key} is still {machine.status} after {_OPERATION_DEADLINE_S:.0f} s "
                    f"({machine.last_error or 'no error'}): see `python -m sandbox logs {machine.name}`",
                    "backendError",
                )
            revision = await cloud.store.changed(revision, timeout_s=5.0)

    def _machine(self, plan: Plan, nics: list[Json]) -> Machine:
        inputs = plan.inputs
        boot = inputs["bootDisk"]["initializeParams"]
        template = inputs | {"disks": [{"boot": True, "sourceImage": boot["image"]}], "networkInterfaces": nics}
        zone, name = self._key(plan.identifier).split("/")
        member = Member(name=name, zone=zone, template="", created=time.time())
        machine = from_template(template, member, group="", address=nics[0].get("networkIp", ""), now=time.time())
        if inputs.get("desiredStatus") == "TERMINATED":
            machine.desired = "TERMINATED"
        return machine

    @staticmethod
    def _key(identifier: str) -> str:
        return f"{identifier.split('/')[3]}/{short(identifier)}"


def _differs(live: Value, declared: Value) -> bool:
    """Whether something that is declared is otherwise; what only the API fills in does not count."""
    if isinstance(live, dict) and isinstance(declared, dict):
        return any(_differs(live.get(key), value) for key, value in declared.items())
    if isinstance(live, list) and isinstance(declared, list):
        return len(live) != len(declared) or any(map(_differs, live, declared))
    if isinstance(live, str) and isinstance(declared, str):
        return not same_link(live, declared)
    return bool(live != declared)


KINDS: tuple[Kind, ...] = (Instance(),)
