"""A machine host, storage and the VMs of one test."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from sandbox.folder import lock_port
from sandbox.machine.instance import Instance
from sandbox.machine.processes import ProcessId, marked
from sandbox.settings import SandboxSettings
from sandbox.store import INSTANCE, RESOURCE, Store

ACCOUNT = "serving@sandbox-project.iam.gserviceaccount.com"
STOCK_IMAGE = (
    "projects/ubuntu-os-accelerator-images/global/images/ubuntu-accelerator-2404-amd64-with-nvidia-580-v20260820"
)
TRITON = "nvcr.io/nvidia/tritonserver:25.08-py3"
_FIRST_BLOCK, _BLOCKS = 130, 60


@contextlib.contextmanager
def free_block() -> Iterator[int]:
    """A block of loopback addresses that no other test and no sandbox uses while it is held."""
    for offset in range(_BLOCKS):
        block = _FIRST_BLOCK + (os.getpid() + offset) % _BLOCKS
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(lock_port(block))
            except OSError:
                continue
            yield block
            return
    raise RuntimeError("no free block of loopback addresses")


def settings_for(state: Path, block: int, *, boot_delay_s: float = 0.05, iam_delay_s: float = 0.0) -> SandboxSettings:
    return SandboxSettings(state=state, block=block, boot_delay_s=boot_delay_s, iam_delay_s=iam_delay_s)


async def until(condition: Callable[[], object], what: str, deadline_s: float = 60.0) -> None:
    """Wait for a condition; its name is the failure."""
    end = time.monotonic() + deadline_s
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"not within {deadline_s:g} s: {what}")
        await asyncio.sleep(0.02)


@dataclass
class World:
    """The records and folders of one sandbox, as a test looks at them."""

    settings: SandboxSettings
    store: Store

    def insert(
        self,
        script: str = "",
        *,
        name: str = "vm",
        last_octet: int = 1,
        gpus: int = 0,
        metadata: dict[str, str] | None = None,
        stop_notice_s: float = 10.0,
        service_account: str = ACCOUNT,
        scopes: list[str] | None = None,
        automatic_restart: bool = True,
    ) -> str:
        """Write an instance record; its key."""
        instance = Instance(
            name=name,
            zone="us-central1-a",
            numeric_id="1234567890123456789",
            address=f"127.{self.settings.block}.16.{last_octet}",
            machine_type="n1-standard-16",
            gpus=gpus,
            gpu_type="nvidia-tesla-t4",
            image=STOCK_IMAGE,
            network="projects/sandbox-project/global/networks/fleet",
            subnetwork="",
            tags=["http-server"],
            service_account=service_account,
            scopes=["cloud-platform"] if scopes is None else scopes,
            metadata={**({"startup-script": script} if script else {}), **(metadata or {})},
            created=time.time(),
            stop_notice_s=stop_notice_s,
            automatic_restart=automatic_restart,
        )
        self.store.put(INSTANCE, instance.key, instance.as_json())
        return instance.key

    def bind(self, bucket: str, role: str, member: str = f"serviceAccount:{ACCOUNT}", *, age_s: float = 60.0) -> None:
        """Declare a bucket's IAM member."""
        inputs = {"bucket": bucket, "role": role, "member": member}
        record = {
            "type": "gcp:storage/bucketIAMMember:BucketIAMMember",
            "urn": f"urn:{bucket}:{role}:{member}",
            "inputs": inputs,
            "state": inputs,
            "created": time.time() - age_s,
        }
        self.store.put(RESOURCE, f"b/{bucket}/{role}/{member}", record)

    def bind_project(self, role: str, member: str = f"serviceAccount:{ACCOUNT}") -> None:
        """Declare a project's IAM member."""
        inputs = {"project": self.settings.project, "role": role, "member": member}
        record = {
            "type": "gcp:projects/iAMMember:IAMMember",
            "urn": f"urn:{role}:{member}",
            "inputs": inputs,
            "state": inputs,
            "created": time.time() - 60.0,
        }
        self.store.put(RESOURCE, f"{self.settings.project}/{role}/{member}", record)

    def instance(self, key: str) -> Instance | None:
        record = self.store.get(INSTANCE, key)
        return Instance.of(record) if record else None

    def status(self, key: str) -> str:
        instance = self.instance(key)
        return instance.status if instance else "(gone)"

    def want(self, key: str, desired: str) -> None:
        record = self.store.get(INSTANCE, key)
        assert record is not None
        self.store.put(INSTANCE, key, {**record, "desired": desired})

    def folder(self, key: str) -> Path:
        return self.settings.state / "machines" / key

    def serial(self, key: str) -> str:
        path = self.folder(key) / "serial.log"
        return path.read_text() if path.exists() else ""

    async def runs(self, key: str) -> None:
        await until(lambda: self.status(key) == "RUNNING", f"{key} runs")

    async def logs(self, key: str, text: str, deadline_s: float = 60.0) -> None:
        try:
            await until(lambda: text in self.serial(key), text, deadline_s)
        except AssertionError as error:
            raise AssertionError(f"{error}; the serial console says:\n{self.serial(key)}") from None

    async def ends(self, key: str, status: str = "TERMINATED") -> None:
        await until(lambda: self.status(key) == status, f"{key} is {status}")

    def processes(self, key: str) -> list[ProcessId]:
        """Everything that runs in a VM."""
        return marked({"SANDBOX_STATE": str(self.settings.state), "SANDBOX_MACHINE": key})

    def end_all(self) -> None:
        """End what a failed test left."""
        while left := marked({"SANDBOX_STATE": str(self.settings.state)}):
            for process in left:
                process.signal(signal.SIGKILL)

    async def metadata(self, key: str, path: str, **query: str) -> str:
        instance = self.instance(key)
        assert instance is not None
        url = f"http://{instance.address}:8079/computeMetadata/v1/{path}"
        async with (
            aiohttp.ClientSession() as session,
            session.get(url, params=query, headers={"Metadata-Flavor": "Google"}) as answer,
        ):
            answer.raise_for_status()
            return await answer.text()
