"""A machine host in a process of its own, for tests that kill it."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from sandbox.iam.tokens import Tokens
from sandbox.machine.host import MachineHost
from sandbox.store import Store
from tests.sandbox_machine.machines import settings_for


async def serve(state: Path, block: int) -> None:
    store = Store(state / "store.db")
    await MachineHost(settings_for(state, block), store, Tokens(store)).start()
    print("ready", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1]), int(sys.argv[2])))
