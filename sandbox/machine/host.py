"""Runs the VMs that instance records describe, as Compute Engine runs VMs: the lifecycle, not what is in it.

    PROVISIONING -> STAGING -> RUNNING -> STOPPING -> TERMINATED -> (deleted)

Whoever wants a VM writes an `instance` record and later changes its `desired`; the host moves `status`. A VM that
stopped by itself (powered itself off, or its init died) is TERMINATED and no longer desired to run, so nobody but its
owner starts it again.
"""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import time
from contextlib import suppress
from pathlib import Path

from sandbox.iam.tokens import Tokens
from sandbox.machine import image, internet
from sandbox.machine.disks import DiskImage
from sandbox.machine.entry import command_line
from sandbox.machine.gpu import SimulatedGpus
from sandbox.machine.init import SOFT_OFF
from sandbox.machine.instance import Instance, Status
from sandbox.machine.markers import MACHINE_MARKER, STATE_MARKER
from sandbox.machine.metadata import MetadataServer
from sandbox.machine.processes import ProcessId, environment_of, kill_marked, marked
from sandbox.machine.record import MachineRecord
from sandbox.machine.scratch import Scratch
from sandbox.network.egress import reaches_internet
from sandbox.settings import API_PORT, METADATA_PORT, STORAGE_PORT, SandboxSettings
from sandbox.store import INSTANCE, Store

PREEMPTION_NOTICE_S = 30.0
"""From soft-off to power-off of a preempted VM (Google Cloud, "Preemptible VM instances", 2026-11)."""
TERMINATE_EVENT = "TERMINATE_ON_HOST_MAINTENANCE"
_RECHECK_S = 5.0


class MachineHost:
    """Reconciles instance records with process groups."""

    def __init__(self, settings: SandboxSettings, store: Store, tokens: Tokens) -> None:
        self._settings = settings
        self._store = store
        self._metadata = MetadataServer(settings, store, tokens)
        self._gpus = SimulatedGpus(settings, store)
        self._drivers: dict[str, asyncio.Task[None]] = {}
        self._wishes: dict[str, asyncio.Event] = {}
        """Set whenever a record may have changed."""
        self._own: dict[str, subprocess.Popen[bytes]] = {}
        """Inits that this process started, to be reaped by it."""
        self._watch: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Take over running VMs, end what belongs to none, begin to reconcile."""
        image.link_tools(self._tools)
        await self._metadata.start()
        await self._end_strays()
        self._watch = asyncio.create_task(self._reconcile())
        await self._gpus.start()

    async def stop(self) -> None:
        """End every VM at once. Those that ran boot again when the host next starts."""
        tasks = [task for task in (self._watch, *self._drivers.values()) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._drivers.clear()
        await self._gpus.stop()
        for key, record in self._store.items(INSTANCE):
            await self._end_processes(key)
            if record["status"] in {"STAGING", "RUNNING"}:
                self._update(key, status="PROVISIONING", pid=0)
        await self._metadata.stop()

    def preempt(self, key: str) -> None:
        """Take a VM's capacity away as Compute Engine does: 30 seconds from soft-off to power-off, then TERMINATED."""
        self._require(key)
        record = MachineRecord.load(self._store, key)
        record.preempted = True
        record.save(self._store)
        self._update(key, desired="TERMINATED", last_error="Instance was preempted.")

    def announce_maintenance(self, key: str, notice_s: float) -> None:
        """Announce a host maintenance that stops the VM in `notice_s` seconds (an hour for GPU VMs in the cloud).

        A VM with automatic restart boots again afterwards.
        """
        self._require(key)
        record = MachineRecord.load(self._store, key)
        record.maintenance_event = TERMINATE_EVENT
        record.maintenance_at = time.time() + notice_s
        record.save(self._store)
        self._store.event(key, f"Host maintenance in {notice_s:g} s.")

    def lose_gpu(self, key: str, index: int) -> None:
        """Make one of a VM's simulated GPUs disappear until it boots again."""
        self._require(key)
        self._gpus.lose(key, index)
        self._store.event(key, f"GPU {index} is lost (simulated).")

    # --- Reconciliation ----------------------------------------------------------------------------------------------

    async def _reconcile(self) -> None:
        while True:
            revision = self._store.revision
            keys = {key for key, _ in self._store.items(INSTANCE)}
            self._note_internet()
            for key in keys | set(self._drivers):
                self._wishes.setdefault(key, asyncio.Event()).set()
                driver = self._drivers.get(key)
                if driver is not None and driver.done():
                    if (failure := driver.exception()) is not None:
                        self._store.event(key, f"The machine host failed and tries again: {failure!r}")
                    del self._drivers[key], self._wishes[key]
                    driver = None
                if driver is None and key in keys:
                    self._wishes[key] = asyncio.Event()
                    self._drivers[key] = asyncio.create_task(self._drive(key))
            await self._store.changed(revision, _RECHECK_S)

    def _note_internet(self) -> None:
        """Cloud NAT may come and go while VMs run."""
        for key, record in self._store.items(INSTANCE):
            if record["status"] == "RUNNING":
                internet.note(self._scratch(key), reachable=reaches_internet(self._store, Instance.of(record)))

    async def _drive(self, key: str) -> None:
        """Move one VM step by step, until its record is gone."""
        address = ""
        while True:
            self._wishes[key].clear()
            instance = self._load(key)
            if instance is None:
                break
            address = instance.address
            match instance.status:
                case "PROVISIONING" | "STAGING" if instance.desired != "RUNNING":
                    await self._terminate(key)
                case "PROVISIONING":
                    if await self._undisturbed(key, self._settings.boot_delay_s):
                        self._update(key, status="STAGING")
                case "STAGING":
                    await self._boot(instance)
                case "RUNNING":
                    await self._watch_running(instance)
                case "STOPPING":
                    await self._finish_stopping(instance)
                case "TERMINATED" if instance.desired == "RUNNING":
                    self._update(key, status="PROVISIONING", last_error="")
                case "TERMINATED" if instance.desired == "DELETED":
                    await self._delete(key)
                case _:
                    await self._wishes[key].wait()
        await self._end_processes(key)
        await self._metadata.close(address)
        await self._remove_scratch(key)

    async def _boot(self, instance: Instance) -> None:
        key, scratch = instance.key, self._scratch(instance.key)
        await self._end_processes(key)
        try:
            await self._metadata.open(instance)
        except OSError as error:
            self._update(key, last_error=f"metadata server on {instance.address}:{METADATA_PORT}: {error.strerror}")
            await asyncio.sleep(_RECHECK_S)
            return
        self._lay_out(instance, scratch)
        MachineRecord(key=key).save(self._store)
        self._gpus.prepare(instance)
        process = self._start_init(instance, scratch)
        self._own[key] = process
        identity = ProcessId.of(process.pid)
        MachineRecord(key=key, pid=process.pid, start_ticks=identity.start_ticks if identity else 0).save(self._store)
        self._update(key, status="RUNNING", pid=process.pid, started=time.time(), last_error="")
        self._store.event(key, f"Started on {instance.address}.")

    async def _watch_running(self, instance: Instance) -> None:
        """Return when the VM has left RUNNING."""
        key = instance.key
        record = MachineRecord.load(self._store, key)
        await self._metadata.open(instance)
        if record.process is None or not record.process.alive:
            await self._died(key)
            return
        if instance.desired != "RUNNING":
            notice = PREEMPTION_NOTICE_S if record.preempted else instance.stop_notice_s
            self._begin_stopping(key, record, notice)
            return
        if record.maintenance_at and record.maintenance_at <= time.time():
            self._begin_stopping(key, record, instance.stop_notice_s)
            if not instance.automatic_restart:
                self._update(key, desired="TERMINATED")
            return
        ends = [record.maintenance_at] if record.maintenance_at else []
        if instance.max_run_s:
            ends.append(instance.started + instance.max_run_s)
            if ends[-1] <= time.time():
                self._store.event(key, f"Its maximum run duration of {instance.max_run_s:g} s is over.")
                self._update(key, desired=instance.at_limit)
                return
        await self._ended_or_wish(key, record, min(ends) - time.time() if ends else None)

    def _begin_stopping(self, key: str, record: MachineRecord, notice_s: float) -> None:
        record.stop_by = time.time() + notice_s
        record.save(self._store)
        self._update(key, status="STOPPING")
        self._store.event(key, f"Stopping: {notice_s:g} s until power-off.")

    async def _finish_stopping(self, instance: Instance) -> None:
        record = MachineRecord.load(self._store, instance.key)
        if record.process is not None:
            # A killed predecessor may have died before it gave the signal, and its metadata server with it, which the
            # shutdown script needs.
            await self._metadata.open(instance)
            record.process.signal(SOFT_OFF)
            try:
                await asyncio.wait_for(record.process.ended(), max(0.0, record.stop_by - time.time()))
            except TimeoutError:
                self._store.event(instance.key, "Power-off before the guest had shut down.")
        await self._terminate(instance.key)

    async def _terminate(self, key: str, last_error: str | None = None) -> None:
        await self._end_processes(key)
        instance = self._load(key)
        if instance is None:
            return
        await self._metadata.close(instance.address)
        record = MachineRecord.load(self._store, key)
        restarts = instance.desired == "RUNNING" and bool(record.maintenance_at)
        MachineRecord(key=key, preempted=record.preempted).save(self._store)
        status: Status = "PROVISIONING" if restarts else "TERMINATED"
        self._update(key, status=status, pid=0)
        if last_error is not None:
            self._update(key, last_error=last_error)
        self._store.event(key, "Terminated." if not restarts else "Restarting after host maintenance.")

    async def _died(self, key: str) -> None:
        """Its init ended and the host did not ask for it."""
        if self._scratch(key).powered_off.exists():
            reason = "The guest shut itself down."
        else:
            reason = "The init process of the VM ended unexpectedly: killed, or crashed."
        self._store.event(key, reason)
        instance = self._load(key)
        if instance is not None and instance.desired == "RUNNING":
            self._update(key, desired="TERMINATED")
        await self._terminate(key, reason)

    async def _delete(self, key: str) -> None:
        await self._remove_scratch(key)
        MachineRecord.forget(self._store, key)
        self._store.delete(INSTANCE, key)
        self._store.event(key, "Deleted.")

    # --- Waiting -----------------------------------------------------------------------------------------------------

    async def _undisturbed(self, key: str, seconds: float) -> bool:
        """Wait; False as soon as the VM is not wanted to run any more."""
        deadline = time.monotonic() + seconds
        while (rest := deadline - time.monotonic()) > 0:
            self._wishes[key].clear()
            instance = self._load(key)
            if instance is None or instance.desired != "RUNNING":
                return False
            try:
                await asyncio.wait_for(self._wishes[key].wait(), rest)
            except TimeoutError:
                break
        return True

    async def _ended_or_wish(self, key: str, record: MachineRecord, timeout_s: float | None) -> None:
        """Wait until the init ends, the record may have changed, or the time is over."""
        assert record.process is not None  # noqa: S101 - checked by the caller
        ended = asyncio.create_task(record.process.ended())
        wish = asyncio.create_task(self._wishes[key].wait())
        try:
            await asyncio.wait((ended, wish), timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (ended, wish):
                task.cancel()

    # --- Processes and folders ---------------------------------------------------------------------------------------

    def _environment(self, instance: Instance) -> dict[str, str]:
        """The whole environment of a VM's processes."""
        scratch = self._scratch(instance.key)
        metadata = f"{instance.address}:{METADATA_PORT}"
        api = f"http://{self._settings.operator_address}:{API_PORT}"
        return {
            **self._markers(instance.key),
            "PATH": f"{scratch.commands}:{scratch.tools}",
            "HOME": str(scratch.home),
            "TMPDIR": str(scratch.temporary),
            "LANG": "C.UTF-8",
            "STATE_DIRECTORY": str(scratch.disk),
            "GCE_METADATA_HOST": metadata,
            "GCE_METADATA_IP": metadata,
            "STORAGE_EMULATOR_HOST": f"http://{instance.address}:{STORAGE_PORT}",
            "GOOGLE_COMPUTE_CUSTOM_ENDPOINT": f"{api}/compute/v1/",
            "GOOGLE_MONITORING_CUSTOM_ENDPOINT": api,
        }

    def _start_init(self, instance: Instance, scratch: Scratch) -> subprocess.Popen[bytes]:
        with scratch.serial_log.open("ab") as serial:
            return subprocess.Popen(
                command_line("init"),
                env=self._environment(instance),
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=serial,
                stderr=serial,
                start_new_session=True,
            )

    def _lay_out(self, instance: Instance, scratch: Scratch) -> None:
        for folder in (scratch.run, scratch.temporary):
            shutil.rmtree(folder, ignore_errors=True)
        for folder in (scratch.run, scratch.temporary, scratch.disk, scratch.home):
            folder.mkdir(parents=True, exist_ok=True)
        disk = DiskImage.of(self._settings.state, instance.image)
        if disk.exists:
            image.lay_out(scratch, disk.origin, instance.gpus, self._tools, disk)
        else:
            image.lay_out(scratch, instance.image, instance.gpus, self._tools)
        internet.note(scratch, reachable=reaches_internet(self._store, instance))

    def _markers(self, key: str) -> dict[str, str]:
        return {STATE_MARKER: str(self._settings.state), MACHINE_MARKER: key}

    async def _end_processes(self, key: str) -> None:
        await kill_marked(self._markers(key))
        process = self._own.pop(key, None)
        if process is not None:
            process.kill()
            await asyncio.to_thread(process.wait)

    async def _end_strays(self) -> None:
        """End processes of VMs that have no record, and remove their folders."""
        keys: set[str | None] = {key for key, _ in self._store.items(INSTANCE)}
        running = marked({STATE_MARKER: str(self._settings.state)})
        for key in {environment_of(process.pid).get(MACHINE_MARKER) for process in running} - keys - {None}:
            count = await kill_marked(self._markers(str(key)))
            self._store.event(str(key), f"Ended {count} processes of a VM without a record.")
        for folder in (self._settings.state / "machines").glob("*/*"):
            key = f"{folder.parent.name}/{folder.name}"
            if key not in keys:
                await self._remove_scratch(key)

    async def _remove_scratch(self, key: str) -> None:
        root = self._scratch(key).root
        await asyncio.to_thread(shutil.rmtree, root, ignore_errors=True)
        with suppress(OSError):
            root.parent.rmdir()  # The zone's folder, once it is empty.

    def _scratch(self, key: str) -> Scratch:
        return Scratch.of(self._settings.state, key)

    @property
    def _tools(self) -> Path:
        return self._settings.state / "image-tools"

    # --- Records -----------------------------------------------------------------------------------------------------

    def _load(self, key: str) -> Instance | None:
        record = self._store.get(INSTANCE, key)
        return Instance.of(record) if record else None

    def _require(self, key: str) -> None:
        if self._load(key) is None:
            known = ", ".join(name for name, _ in self._store.items(INSTANCE)) or "none"
            raise KeyError(f"no VM {key}; there are: {known}")

    def _update(self, key: str, **fields: object) -> None:
        """Change fields of a record that may have been changed by others since it was read."""
        record = self._store.get(INSTANCE, key)
        if record is not None:
            self._store.put(INSTANCE, key, {**record, **fields})
