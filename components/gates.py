"""The gates of `pulumi up`: VMs are not declared before their model exists, and a rollout is not done before it serves.

The only module of the program that calls the cloud. Gates are resource hooks: the engine runs them when it creates or
updates a resource, and never in a preview.
"""

import asyncio
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import pulumi

import contract
from artifact.repository import newest_status, read_manifest
from artifact.run import RunStatus
from artifact.uri import ArtifactUri
from client.errors import ClientError, NotFoundError, UnavailableError
from client.fleet import Fleet
from client.google import Credentials, GoogleApi, compute_root
from client.outputs import BackendServiceName, GroupName
from client.resources import last_segment
from client.rollout import findings
from client.wait import Clock, wait
from components.builder_wait import BuildError, BuilderVm, PassingError, Wait, await_artifact
from components.naming import Names
from components.settings import Settings

_OPERATION_POLL_S: Final = 1.0


class BuildGate:
    """Holds instance templates back until the artifact that their VMs serve is published.

    `template_hooks` go on every template, `builder_hooks` on the builder VM.
    """

    def __init__(self, names: Names, settings: Settings, key: str) -> None:
        ready = settings.model.ready is not None
        self._vm = None if ready else BuilderVm(names.project, settings.builder_zone, names.builder(key))
        self._deadline_s = float(settings.model.builder.deadline_s)
        self._made_now = False
        self._arrival: asyncio.Task[None] | None = None
        self.template_hooks = pulumi.ResourceHookBinding(
            before_create=[pulumi.ResourceHook("model-is-built", self._before_template)]
        )
        self.builder_hooks = pulumi.ResourceHookBinding(
            after_create=[pulumi.ResourceHook("builder-is-made", self._after_builder)]
        )

    async def _after_builder(self, _: pulumi.ResourceHookArgs) -> None:
        self._made_now = True

    async def _before_template(self, args: pulumi.ResourceHookArgs) -> None:
        uri = ArtifactUri.parse((args.new_inputs or {})["metadata"][contract.ARTIFACT_KEY])
        if self._arrival is None:
            # Templates of several pools ask at once; one of them waits, starts the VM and tells.
            self._arrival = asyncio.create_task(in_thread(lambda say, clock: self._await(uri, say, clock)))
        await asyncio.shield(self._arrival)

    def _await(self, uri: ArtifactUri, say: Callable[[str], None], clock: Clock) -> None:
        await_artifact(
            Wait(
                site=CloudSite(uri, self._vm, clock),
                uri=uri,
                vm=self._vm,
                made_now=self._made_now,
                deadline_s=self._deadline_s,
                say=say,
                now=clock.now,
                sleep=clock.sleep,
            )
        )


class CloudSite:
    """A builder VM and its artifact, through Google's APIs with Application Default Credentials."""

    def __init__(self, uri: ArtifactUri, vm: BuilderVm | None, clock: Clock) -> None:
        self._uri, self._vm, self._clock = uri, vm, clock
        self._compute = GoogleApi(Credentials(), compute_root())

    def is_published(self) -> bool:
        """Whether there is a valid manifest."""
        return read_manifest(self._uri) is not None

    def newest_status(self) -> RunStatus | None:
        """The last message of the newest build run."""
        return newest_status(self._uri)

    def vm_status(self) -> str:
        """Compute Engine's status of the builder VM."""
        try:
            return str(self._call("GET", self._path())["status"])
        except NotFoundError:
            return ""

    def start_vm(self) -> None:
        """Start the builder VM, and wait for the operation."""
        operation = self._call("POST", f"{self._path()}/start")
        assert self._vm is not None  # noqa: S101 - _path has asked
        where = f"projects/{self._vm.project}/zones/{self._vm.zone}/operations/{operation['name']}"
        while operation["status"] != "DONE":
            self._clock.sleep(_OPERATION_POLL_S)
            operation = self._call("GET", where)
        faults = operation.get("error", {}).get("errors", [])
        if faults:
            said = "; ".join(f"{fault.get('code', '')}: {fault.get('message', '')}" for fault in faults)
            raise BuildError(
                f"the builder VM {self._vm.name} cannot be started in {self._vm.zone}: {said}\n"
                "Try again later, or name another zone: model.builder.zone."
            )

    def console(self) -> str:
        """The builder VM's serial console."""
        return str(self._call("GET", f"{self._path()}/serialPort").get("contents", ""))

    def _path(self) -> str:
        if self._vm is None:
            raise ValueError("there is no builder VM")
        return f"projects/{self._vm.project}/zones/{self._vm.zone}/instances/{self._vm.name}"

    def _call(self, method: str, path: str) -> dict[str, Any]:
        try:
            return self._compute.get(path) if method == "GET" else self._compute.post(path)
        except UnavailableError as error:
            raise PassingError(error.problem) from error


class RolloutGate:
    """Ends an `up` when the VMs that it rolls out serve, or with the VM, zone and reason that kept them from it.

    `rule_hooks` go on the forwarding rule, `group_hooks` on every group; both are None where `fleet.update.waitS` is 0.
    """

    def __init__(self, settings: Settings) -> None:
        self._timeout_s = float(settings.fleet.update.wait_s)
        self._fleet: asyncio.Future[Mapping[str, Any]] | None = None
        self.group_hooks: pulumi.ResourceHookBinding | None = None
        self.rule_hooks: pulumi.ResourceHookBinding | None = None
        if self._timeout_s:
            rolled = pulumi.ResourceHook("rollout-serves", self._after_group)
            opened = pulumi.ResourceHook("fleet-serves", self._after_rule)
            self.group_hooks = pulumi.ResourceHookBinding(after_update=[rolled])
            self.rule_hooks = pulumi.ResourceHookBinding(after_create=[opened])

    def watch(
        self,
        *,
        groups: Sequence[pulumi.Output[str]],
        templates: Sequence[pulumi.Output[str]],
        backend_service: pulumi.Output[str],
    ) -> None:
        """Say what the forwarding rule leads to: links of groups and their templates, and of the backend service."""
        self._fleet = asyncio.get_running_loop().create_future()
        pulumi.Output.all(groups=groups, templates=templates, backend_service=backend_service).apply(
            self._fleet.set_result
        )

    async def _after_rule(self, _: pulumi.ResourceHookArgs) -> None:
        if self._fleet is None:
            raise ValueError("the rollout gate does not know the fleet")
        known = await self._fleet
        fleet = Fleet(
            Credentials(),
            groups=[group_name(link) for link in known["groups"]],
            templates=known["templates"],
            backend_service=service_name(known["backend_service"]),
            gpu_metric="",
        )
        await in_thread(lambda say, clock: wait(fleet, self._timeout_s, say, clock))

    async def _after_group(self, args: pulumi.ResourceHookArgs) -> None:
        group: Mapping[str, Any] = args.new_outputs or {}
        await in_thread(lambda say, clock: self._await_group(group, say, clock))

    def _await_group(self, group: Mapping[str, Any], say: Callable[[str], None], clock: Clock) -> None:
        name = group_name(group["instanceGroup"])
        service = backend_service_of(name)
        if service is None:
            say(f"{name.name} is behind no load balancer yet")
            return
        fleet = Fleet(
            Credentials(),
            groups=[name],
            templates=[group["versions"][0]["instanceTemplate"]],
            backend_service=service,
            gpu_metric="",
        )
        if group["updatePolicy"]["type"] == "OPPORTUNISTIC":
            # Its VMs change when something else replaces them, which may be in a month.
            for finding in findings(fleet.state()):
                pulumi.log.warn(str(finding))
            return
        wait(fleet, self._timeout_s, say, clock)


def group_name(link: str) -> GroupName:
    """A group by the link of its instance group or of its manager."""
    parts = link.split("/")
    return GroupName(parts[parts.index("projects") + 1], parts[parts.index("regions") + 1], last_segment(link))


def service_name(link: str) -> BackendServiceName:
    """A backend service by its link."""
    parts = link.split("/")
    return BackendServiceName(parts[parts.index("projects") + 1], last_segment(link))


def backend_service_of(group: GroupName) -> BackendServiceName | None:
    """The backend service that sends requests to a group. Raises ClientError."""
    compute = GoogleApi(Credentials(), compute_root())
    for service in compute.get_pages(f"projects/{group.project}/global/backendServices", "items", {}):
        if any(group_name(backend["group"]) == group for backend in service.get("backends", [])):
            return service_name(service["selfLink"])
    return None


async def in_thread(work: Callable[[Callable[[str], None], Clock], None]) -> None:
    """Run what waits in a thread, so that the engine's other registrations go on; it ends when this is cancelled.

    `work` gets what tells a line to whoever runs `pulumi up`, and a clock.
    """
    cancelled = threading.Event()

    def sleep(seconds: float) -> None:
        if cancelled.wait(seconds):
            raise asyncio.CancelledError

    try:
        await asyncio.to_thread(work, pulumi.log.info, Clock(sleep=sleep))
    except ClientError as error:
        raise pulumi.RunError(str(error)) from error
    finally:
        cancelled.set()
