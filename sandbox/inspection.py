"""What a sandbox holds and does, read from its store: also where no daemon runs."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from typing import Final

from sandbox.compute.records import BALANCER, group_records, instances
from sandbox.folder import SandboxError, StateFolder
from sandbox.machine.instance import Instance
from sandbox.machine.scratch import Scratch
from sandbox.recovery import leftovers, note_owned
from sandbox.store import RESOURCE, Store

_POLL_S: Final = 0.5


def overview(folder: StateFolder) -> str:
    """Daemon, declared resources, groups and VMs, as text."""
    running = folder.running()
    if not folder.store.exists():
        return f"no sandbox in {folder.root}: `python -m sandbox start` makes one"
    daemon = f"running, pid {running.pid}" if running else "not running"
    lines = [f"sandbox {folder.root}: {daemon}; addresses 127.{folder.settings().block}.x.x; GPUs are simulated"]
    store = Store(folder.store)
    try:
        kinds = Counter(record["type"].rpartition(":")[2] for _, record in store.items(RESOURCE))
        counted = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
        lines.append(f"{sum(kinds.values())} resources: {counted or 'none'}")
        for identifier, group in group_records(store):
            state = "stable" if group.stable else "changing"
            lines.append(
                f"{identifier}: {len(group.members)} of {group.target_size} VMs, {state}  {group.error}".rstrip()
            )
        lines += [f"{name}: {record['error']}" for name, record in store.items(BALANCER) if record["error"]]
        note_owned(store, folder.backend)
        stray = leftovers(store)
        rows = [_row(vm) for vm in instances(store)]
    finally:
        store.close()
    lines += [f"unowned (a killed run made it, no stack knows it): {one.identifier}" for one in stray]
    if rows:
        lines += _table(("VM", "ZONE", "STATUS", "ADDRESS", "MACHINE TYPE", "GPUS", "LAST ERROR"), rows)
    return "\n".join(lines)


async def follow_log(folder: StateFolder, name: str, *, follow: bool) -> None:
    """Print a VM's serial console. Raises SandboxError for a VM that there is not."""
    store = Store(folder.store)
    try:
        found = {vm.name: vm.key for vm in instances(store)}
    finally:
        store.close()
    if name not in found:
        raise SandboxError(f"there is no VM {name}; there are {', '.join(sorted(found)) or 'none'}")
    path = Scratch.of(folder.root, found[name]).serial_log
    shown = 0
    while True:
        if path.exists():
            with path.open("rb") as log:
                log.seek(shown)
                text = log.read()
            shown += len(text)
            print(text.decode(errors="replace"), end="", flush=True)
        if not follow:
            return
        await asyncio.sleep(_POLL_S)


async def follow_events(folder: StateFolder, *, follow: bool) -> None:
    """Print what happened."""
    store = Store(folder.store)
    since = 0.0
    try:
        while True:
            for at, subject, text in store.events(since):
                since = at
                clock = time.strftime("%H:%M:%S", time.localtime(at))
                print(f"{clock}  {subject}  {text}", flush=True)
            if not follow:
                return
            await asyncio.sleep(_POLL_S)
    finally:
        store.close()


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in [head, *rows]
    ]


def _row(vm: Instance) -> tuple[str, ...]:
    gpus = f"{vm.gpus} x {vm.gpu_type}" if vm.gpus else "-"
    return (vm.name, vm.zone, vm.status, vm.address, vm.machine_type, gpus, vm.last_error)
