"""Bakes a boot image: a temporary VM installs what a role needs, and its disk becomes the image.

The VM has no GPU (Docker, NVIDIA's toolkit, the container and the wheels install without one, and T4 quota is scarce)
and no service account (everything it needs is in its metadata, or public).
"""

from __future__ import annotations

import datetime as dt
import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from client.errors import ClientError, NotFoundError
from client.google import Json
from images.compute import Compute
from images.names import DEFAULT_FAMILY, ImageName, baked_name, recipe_digest
from images.payload import INSTALL_SCRIPT, payload
from images.roles import ROLES, Role, shown
from images.stack_file import StackFile

Say = Callable[[str], None]

MACHINE_TYPE: Final = "e2-standard-4"
DISK_GIB: Final = 50
"""The smallest disk that `fleet.diskSizeGib` allows: a VM's disk cannot be smaller than its image's."""
DISK_TYPE: Final = "pd-ssd"
LIFETIME_S: Final = 3 * 3600
"""After which Compute Engine deletes the VM by itself, should nobody be left to do it."""
OPERATION_DEADLINE_S: Final = 900.0

_SCRIPT: Final = Path(__file__).with_name("bake.sh")
_POLL_S: Final = 3.0
_TELLING = re.compile(r"(?:bake|install)\.sh: (?P<text>.*)")
_ENDED = re.compile(r"bake\.sh: (?P<how>finished|failed with exit status \d+)$")
_GOING_ON: Final = frozenset({"PROVISIONING", "STAGING", "RUNNING"})
_TAIL_LINES: Final = 15


@dataclass(frozen=True, slots=True, kw_only=True)
class Interface:
    """How the temporary VM reaches registries."""

    network: str = ""
    subnetwork: str = ""
    external_address: bool = True

    def as_json(self) -> Json:
        """networkInterfaces[0] of the VM."""
        answer: Json = {"subnetwork": self.subnetwork} if self.subnetwork else {"network": self.network}
        if self.external_address:
            answer["accessConfigs"] = [{"name": "External NAT", "type": "ONE_TO_ONE_NAT"}]
        return answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """One image to bake; the temporary VM has the same name."""

    name: str
    role: Role
    zone: str
    base: ImageName
    base_gib: int
    container: str
    interface: Interface
    payload: str

    def instance(self) -> Json:
        """Body of instances.insert."""
        items = {
            "startup-script": _SCRIPT.read_text(encoding="utf-8"),
            "bake-role": self.role.name,
            "bake-container": self.container,
            "bake-payload": self.payload,
        }
        return {
            "name": self.name,
            "description": "temporary: an image is made of its disk (python -m images bake)",
            "machineType": f"zones/{self.zone}/machineTypes/{MACHINE_TYPE}",
            "disks": [
                {
                    "boot": True,
                    "autoDelete": True,
                    "initializeParams": {
                        "sourceImage": self.base.path,
                        "diskSizeGb": str(max(DISK_GIB, self.base_gib)),
                        "diskType": f"zones/{self.zone}/diskTypes/{DISK_TYPE}",
                    },
                }
            ],
            "networkInterfaces": [self.interface.as_json()],
            "metadata": {"items": [{"key": key, "value": value} for key, value in items.items()]},
            "labels": {"tensorrt-fleet-bake": self.role.name},
            "scheduling": {"maxRunDuration": {"seconds": str(LIFETIME_S)}, "instanceTerminationAction": "DELETE"},
            "shieldedInstanceConfig": {"enableVtpm": True, "enableIntegrityMonitoring": True},
        }

    def image(self, project: str) -> Json:
        """Body of images.insert."""
        return {
            "name": self.name,
            "family": f"tensorrt-fleet-{self.role.name}",
            "description": json.dumps({"base": self.base.path, "container": self.container}),
            "labels": {"tensorrt-fleet-role": self.role.name},
            "sourceDisk": f"projects/{project}/zones/{self.zone}/disks/{self.name}",
        }


def order(
    repository: Path, stack: StackFile, role: Role, compute: Compute, *, base: str, interface: Interface | None
) -> Order:
    """What a stack's file asks for. `base` and `interface` replace what follows from it (empty, None: they do not).

    Raises:
        ClientError: the file lacks something, or an image is not there.
    """
    container = role.default_container
    if stack.value(role.container) is not None or not container:
        container = stack.required(role.container, "nvcr.io/nvidia/tritonserver:25.08-py3")
    zone = stack.required(("tensorrt-fleet:fleet", "pools", 0, "zones", 0), "us-central1-a")
    found = base_image(stack, role, compute, base)
    name = ImageName.parse(str(found["selfLink"]))
    install, lock = ((repository / one).read_bytes() for one in (INSTALL_SCRIPT, role.lock))
    digest = recipe_digest(base=name, container=container, install=install, lock=lock)
    return Order(
        name=baked_name(role.name, dt.datetime.now(dt.UTC), digest),
        role=role,
        zone=zone,
        base=name,
        base_gib=int(found.get("diskSizeGb", 0)),
        container=container,
        interface=interface or interface_of(stack, zone),
        payload=payload(repository, role),
    )


def base_image(stack: StackFile, role: Role, compute: Compute, wanted: str) -> Json:
    """The stock image to start from: `wanted`; else the stack's; else what the stack's baked image came from.

    A role without an image boots the serving VMs'. A stack that names neither stock nor baked image (but a placeholder)
    gets the newest of DEFAULT_FAMILY. Raises ClientError.
    """
    stated = wanted or stack.value(role.image) or stack.required(ROLES["serving"].image, DEFAULT_FAMILY)
    named = ImageName.parse(str(stated))
    if not wanted and not named.is_stock:
        baked = compute.image(named)
        named = ImageName.parse((origin(baked) if baked else None) or DEFAULT_FAMILY)
    found = compute.image(named)
    if found is None:
        raise ClientError(
            f"there is no image {named.path}", "Name one: --base projects/<project>/global/images/<name>."
        )
    return found


def origin(image: Json) -> str | None:
    """The stock image that a baked one was made from, as `Order.image` notes it; None if it does not say."""
    try:
        noted = json.loads(str(image.get("description", "")))
    except ValueError:
        return None
    base = noted.get("base") if isinstance(noted, dict) else None
    return base if isinstance(base, str) else None


def interface_of(stack: StackFile, zone: str) -> Interface:
    """An existing network's subnet, or else the network `default`: a stack's own network may not be there yet.

    Without Cloud NAT the VM gets an ephemeral external address for the minutes that it lives.
    """
    existing = stack.value(("tensorrt-fleet:network", "existing"))
    if not isinstance(existing, dict):
        return Interface(network="global/networks/default")
    subnetwork = (existing.get("subnetworks") or {}).get(zone.rpartition("-")[0])
    has_nat = bool(existing.get("hasNat"))
    if subnetwork:
        return Interface(subnetwork=str(subnetwork), external_address=not has_nat)
    return Interface(network=str(existing.get("network")), external_address=not has_nat)


def bake(job: Order, compute: Compute, say: Say, *, deadline_s: float) -> ImageName:
    """Bake an image; its exact name. The temporary VM goes in any case, or is named.

    Raises:
        ClientError: the installation failed, took longer than `deadline_s`, or Compute Engine refused something.
    """
    began = time.monotonic()
    say(f"baking {job.name} from {job.base.path} with {job.container}")
    with _temporary_vm(job, compute, say):
        say(f"making the VM {job.name} ({MACHINE_TYPE}, {job.zone}, no GPU)")
        compute.insert_instance(job.zone, job.instance(), OPERATION_DEADLINE_S)
        _watch(job, compute, say, began + deadline_s)
        say("stopping the VM")
        compute.stop_instance(job.zone, job.name, OPERATION_DEADLINE_S)
        say("making the image")
        _make_image(job, compute, say)
    say(f"baked in {_minutes(time.monotonic() - began)}")
    return ImageName(compute.project, job.name)


@contextmanager
def _temporary_vm(job: Order, compute: Compute, say: Say) -> Iterator[None]:
    """Whatever happens inside, delete the VM, or name it."""
    try:
        yield
    finally:
        say("deleting the VM")
        command = f"gcloud compute instances delete {job.name} --project {compute.project} --zone {job.zone}"
        with _named_if_left(f"the VM {job.name} may still be there", command, say):
            compute.delete_instance(job.zone, job.name, OPERATION_DEADLINE_S)


def _make_image(job: Order, compute: Compute, say: Say) -> None:
    try:
        compute.insert_image(job.image(compute.project), OPERATION_DEADLINE_S)
    except BaseException:
        # Nobody will name a half-made image in a stack's file.
        say("deleting the unfinished image")
        command = f"gcloud compute images delete {job.name} --project {compute.project}"
        with _named_if_left(f"the image {job.name} may still be there", command, say):
            compute.delete_image(job.name, OPERATION_DEADLINE_S)
        raise


@contextmanager
def _named_if_left(what: str, command: str, say: Say) -> Iterator[None]:
    try:
        yield
    except BaseException:
        say(f"{what}; delete it: {command}")
        raise


def _watch(job: Order, compute: Compute, say: Say, deadline: float) -> None:
    """Tell what the VM's scripts tell on the serial console, until they have finished. Raises ClientError."""
    lines: list[str] = []
    position, rest, status = 0, "", "RUNNING"
    while True:
        try:
            text, position = compute.serial_port(job.zone, job.name, position)
        except NotFoundError:
            text, status = "", "DELETED"
        *complete, rest = (rest + text).split("\n")
        for line in (one.rstrip("\r") for one in complete):
            lines.append(line)
            ended = _ENDED.search(line)
            if ended is not None and ended["how"] == "finished":
                return
            if ended is not None:
                raise _failed(f"the installation {ended['how']}", lines)
            telling = _TELLING.search(line)
            if telling is not None:
                say(f"  {telling['text']}")
        if text:
            continue
        if status not in _GOING_ON:
            raise _failed(f"the VM is {status} before the installation has finished", lines)
        # Asked before the console's next part is: what the VM said last is heard before its end counts.
        status = _status(job, compute)
        if status in _GOING_ON:
            if time.monotonic() > deadline:
                raise _failed("the installation has not finished in time (--timeout)", lines)
            time.sleep(_POLL_S)


def _status(job: Order, compute: Compute) -> str:
    try:
        return str(compute.instance(job.zone, job.name)["status"])
    except NotFoundError:
        return "DELETED"


def _failed(what: str, lines: list[str]) -> ClientError:
    tail = [line for line in lines if line.strip()][-_TAIL_LINES:]
    told = "\n".join(f"    {line}" for line in tail) or "    (nothing)"
    return ClientError(
        f"{what}; the end of the serial console:\n{told}",
        "Nothing was changed in the stack's file. Remove the cause, then bake again.",
    )


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"


def write_image(path: Path, role: Role, image: ImageName, base: ImageName) -> list[str]:
    """Write a baked image's name into a stack's file, read again; lines to tell. Raises ClientError."""
    stack = StackFile.read(path)
    old = stack.value(role.image)
    stack.changed(role.image, image.path, f"baked from {base.name}").write()
    lines = [f"{path.name}: {shown(role.image)}", f"  {old or '(nothing)'}", f"  -> {image.path}"]
    builder = ROLES["builder"]
    if role != builder and not stack.value(builder.image) and not stack.value((builder.image[0], "artifact")):
        lines.append(f"the builder needs an image of its own then, {shown(builder.image)}: --role builder bakes it")
    if stack.value(("tensorrt-fleet:network", "nat")) is not False:
        lines.append("VMs that boot it need no internet: once every image is baked, network.nat may be false")
    return lines
