"""The sandbox's one process: every part of it on one event loop, over one store.

`python -m sandbox.daemon` runs it in the foreground; sandbox.engine starts it detached.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from contextlib import AsyncExitStack
from typing import Protocol

from sandbox.api import ApiServer
from sandbox.balancer.envoy import Balancer
from sandbox.compute.autoscaler import Autoscalers
from sandbox.compute.groups import GroupManager
from sandbox.compute.health import HealthCheckers
from sandbox.folder import Running, SandboxError, StateFolder, chosen_program, code_version, exclusive, lock_port
from sandbox.iam.policy import Policy
from sandbox.iam.tokens import Tokens
from sandbox.machine.host import MachineHost
from sandbox.machine.processes import ProcessId
from sandbox.network.addresses import Addresses
from sandbox.provider.server import ProviderServer
from sandbox.settings import SandboxSettings
from sandbox.storage.service import StorageService
from sandbox.store import Store

log = logging.getLogger("sandbox")


class Part(Protocol):
    """Something that runs as long as the sandbox does."""

    async def start(self) -> None:
        """Take over or end what a killed predecessor left, then run."""

    async def stop(self) -> None:
        """End everything that it started."""


async def serve(folder: StateFolder, settings: SandboxSettings) -> None:
    """Run every part until SIGTERM or SIGINT; then end them in reverse order."""
    over = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, over.set)
    store = Store(folder.store)
    policy, tokens, addresses = Policy(settings, store), Tokens(store), Addresses(settings, store)
    storage = StorageService(settings, store, policy)
    provider = ProviderServer(settings, store, addresses, storage, program=chosen_program())
    parts: list[Part] = [
        storage,
        ApiServer(settings, store, tokens, policy),
        Balancer(settings, store),
        MachineHost(settings, store, tokens),
        HealthCheckers(settings, store),
        GroupManager(settings, store),
        Autoscalers(settings, store),
        provider,
    ]
    async with AsyncExitStack() as stack:
        stack.callback(store.close)
        for part in parts:
            await part.start()
            stack.push_async_callback(part.stop)
        own = ProcessId.of(os.getpid())
        if own is None:
            raise RuntimeError("this process is not in /proc")
        folder.announce(
            Running(pid=own.pid, start_ticks=own.start_ticks, provider_port=provider.port, version=code_version())
        )
        stack.callback(folder.daemon.unlink, missing_ok=True)
        log.info("ready: operator %s, provider port %d", settings.operator_address, provider.port)
        await over.wait()
        log.info("ending")


def main() -> int:
    """Run the daemon of the chosen state folder; exit code 1 where another one does already."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    folder = StateFolder.chosen()
    try:
        settings = folder.settings()
        with exclusive(folder.daemon_lock), lock_port(settings.block):
            asyncio.run(serve(folder, settings))
    except SandboxError as error:
        print(error, file=sys.stderr)
        return 1
    except BlockingIOError:
        print(f"another daemon runs in {folder.root}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
