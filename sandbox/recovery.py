"""Taking over from a run of the engine that was killed.

The engine writes down what it is about to create, and what it has created, a moment late; a run that is killed in
between leaves resources that no stack knows. The cloud would keep them, and a person would find them. Here the next run
on the same stack removes them first, by the provider's own rules, so that it converges.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

import grpc
import grpc.aio
from pulumi.runtime.proto import provider_pb2, provider_pb2_grpc

from sandbox.folder import SandboxError
from sandbox.store import RESOURCE, Store

OWNED: Final = "owned"
"""Kind of the records id -> {"created"}: a resource, as created then, has been in a stack's checkpoint."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """What Pulumi's backend holds of one stack."""

    owned: frozenset[str]
    """Ids of its resources."""
    resources: int
    """How many it has, components included."""
    pending: int
    """Operations that were under way when it was last written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Leftover:
    """A resource that was made and that no stack knows."""

    identifier: str
    type: str
    urn: str


def stacks_folder(backend: Path, project: str) -> Path:
    """Where a file backend keeps the checkpoints of a project."""
    return backend / ".pulumi" / "stacks" / project


def read_checkpoint(path: Path) -> Checkpoint:
    """A stack's checkpoint; an absent one is empty."""
    latest: Mapping[str, Any] = {}
    if path.exists():
        latest = json.loads(path.read_text())["checkpoint"].get("latest") or {}
    return Checkpoint(
        owned=frozenset(one["id"] for one in latest.get("resources") or () if "id" in one),
        resources=len(latest.get("resources") or ()),
        pending=len(latest.get("pending_operations") or ()),
    )


def mend_checkpoint(path: Path) -> bool:
    """Put the engine's backup in place of a checkpoint that is empty or torn; whether that was needed.

    The engine replaces a checkpoint as a whole and keeps the last one as .bak, so a killed run does not tear it, but a
    machine or a disk that fails may. What it knew more than the backup is left over, and removed as such.
    """
    backup = path.with_name(f"{path.name}.bak")
    if not path.exists() or _is_json(path):
        return False
    path.unlink()
    if _is_json(backup):
        shutil.copyfile(backup, path)
    return True


def _is_json(path: Path) -> bool:
    try:
        json.loads(path.read_text())
    except (OSError, ValueError):
        return False
    return True


def note_owned(store: Store, backend: Path) -> None:
    """Remember which resources the stacks know: to be called when no run is under way."""
    owned: set[str] = set()
    for path in (backend / ".pulumi" / "stacks").glob("*/*.json"):
        owned |= read_checkpoint(path).owned
    for name, record in store.items(RESOURCE):
        if name in owned:
            store.put(OWNED, name, {"created": record["created"]})


def leftovers(store: Store) -> list[Leftover]:
    """Declared resources that no stack has ever known, in the order of their creation."""
    known = dict(store.items(OWNED))
    found = [
        (record["created"], Leftover(identifier=name, type=record["type"], urn=record["urn"]))
        for name, record in store.items(RESOURCE)
        if known.get(name, {}).get("created") != record["created"]
    ]
    return [one for _, one in sorted(found, key=lambda pair: pair[0])]


def of_stack(found: list[Leftover], project: str, stack: str) -> list[Leftover]:
    """Those that a run on this stack made."""
    return [one for one in found if one.urn.startswith(f"urn:pulumi:{stack}::{project}::")]


async def remove(found: list[Leftover], provider_port: int) -> None:
    """Delete them, the youngest first; raises SandboxError for those that may not go."""
    async with grpc.aio.insecure_channel(f"127.0.0.1:{provider_port}") as channel:
        provider = cast("provider_pb2_grpc.ResourceProviderAsyncStub", provider_pb2_grpc.ResourceProviderStub(channel))
        refusals: list[str] = []
        for one in reversed(found):
            request = provider_pb2.DeleteRequest(
                id=one.identifier, urn=one.urn, type=one.type, name=one.urn.rpartition("::")[2]
            )
            try:
                await provider.Delete(request)
            except grpc.aio.AioRpcError as error:
                refusals.append(f"  {error.details()}")
    if refusals:
        raise SandboxError(
            "an earlier run was killed, and what it made cannot be removed:\n"
            + "\n".join(refusals)
            + "\nEnd the sandbox with `python -m sandbox down`."
        )
