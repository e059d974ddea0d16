"""Containers of a VM, run by its container daemon and not by the command that asked for them.

So a killed `docker run` leaves its container running, its name stays taken until it is removed, and the end of the main
process is the end of everything in the container: as on a real machine.
"""

from __future__ import annotations

import asyncio
import secrets
import signal
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from sandbox.machine.children import Child, Children
from sandbox.machine.console import Console
from sandbox.machine.processes import ProcessId, marked

CONTAINER_MARKER = "SANDBOX_CONTAINER"
"""Environment variable of everything in a container: its id."""
SHUTDOWN_TIMEOUT_S = 15.0
"""Docker's daemon gives containers this long when it stops, unless daemon.json says otherwise (dockerd(8))."""


class ContainerError(Exception):
    """A request that the container daemon would refuse, in its words."""


@dataclass(slots=True, kw_only=True)
class Container:
    """One container, running or exited."""

    id: str
    name: str
    image: str
    command: list[str]
    remove: bool
    stop_signal: int
    stop_timeout_s: float
    child: Child
    log: Path | None
    """Output of a detached container; None where the output went to the client."""
    created: float = field(default_factory=time.time)

    @property
    def running(self) -> bool:
        """Whether its main process runs."""
        return not self.child.exited.done()

    @property
    def exit_code(self) -> int:
        """As Docker gives it: 128 + signal for a killed one."""
        code = self.child.exited.result()
        return code if code >= 0 else 128 - code


class Containers:
    """The container daemon."""

    def __init__(self, children: Children, console: Console, markers: Mapping[str, str], logs: Path) -> None:
        self._children = children
        self._console = console
        self._markers = markers
        self._logs = logs
        self._containers: dict[str, Container] = {}
        self._reapers: set[asyncio.Task[None]] = set()

    def all(self) -> list[Container]:
        """Every container, newest first."""
        return sorted(self._containers.values(), key=lambda container: -container.created)

    def find(self, name: str) -> Container:
        """By name or unique beginning of its id; raises ContainerError."""
        found = [c for c in self._containers.values() if c.name == name or c.id.startswith(name)]
        if len(found) != 1 or not name:
            raise ContainerError(f"Error response from daemon: No such container: {name}")
        return found[0]

    def run(
        self,
        *,
        name: str,
        image: str,
        command: Sequence[str],
        environment: Mapping[str, str],
        folder: str,
        remove: bool,
        stop_signal: int,
        stop_timeout_s: float,
        output: tuple[int, int] | None,
    ) -> Container:
        """Start a container; `output` are its stdout and stderr, which stay the caller's, else a log file is kept.

        Raises ContainerError for a taken name and OSError for a command that cannot be executed.
        """
        identity = secrets.token_hex(32)
        name = name or f"container_{identity[:12]}"
        for other in self._containers.values():
            if other.name == name:
                raise ContainerError(
                    f'Error response from daemon: Conflict. The container name "/{name}" is already in use by '
                    f'container "{other.id}". You have to remove (or rename) that container to be able to reuse that '
                    "name."
                )
        log = None
        with ExitStack() as stack:
            if output is None:
                self._logs.mkdir(parents=True, exist_ok=True)
                log = self._logs / f"{identity}.log"
                descriptor = stack.enter_context(log.open("ab")).fileno()
                output = (descriptor, descriptor)
            child = self._children.spawn(
                command,
                environment={**environment, **self._markers, CONTAINER_MARKER: identity},
                folder=Path(folder),
                stdout=output[0],
                stderr=output[1],
            )
        container = Container(
            id=identity,
            name=name,
            image=image,
            command=list(command),
            remove=remove,
            stop_signal=stop_signal,
            stop_timeout_s=stop_timeout_s,
            child=child,
            log=log,
        )
        self._containers[identity] = container
        reaper = asyncio.create_task(self._watch(container))
        self._reapers.add(reaper)
        reaper.add_done_callback(self._reapers.discard)
        return container

    async def ended(self, container: Container) -> int:
        """Wait until nothing of it runs; its exit code."""
        await asyncio.shield(container.child.exited)
        while processes := self._processes(container):
            await asyncio.gather(*(process.ended() for process in processes))
        return container.exit_code

    async def stop(self, container: Container, timeout_s: float | None = None) -> None:
        """Its stop signal to the main process, SIGKILL after its stop timeout (or `timeout_s`)."""
        container.child.signal(container.stop_signal)
        limit = container.stop_timeout_s if timeout_s is None else timeout_s
        try:
            await asyncio.wait_for(asyncio.shield(container.child.exited), limit)
        except TimeoutError:
            container.child.signal(signal.SIGKILL)
        await self.ended(container)

    async def stop_all(self, shutdown_timeout_s: float) -> None:
        """What the daemon does when it stops or restarts."""
        running = [container for container in self._containers.values() if container.running]
        await asyncio.gather(*(self.stop(container, shutdown_timeout_s) for container in running))

    async def discard(self, container: Container, *, force: bool) -> None:
        """Remove it; a running one only by `force`. Raises ContainerError."""
        if container.running:
            if not force:
                raise ContainerError(
                    f'Error response from daemon: cannot remove container "/{container.name}": container is running: '
                    "stop the container before removing or force remove"
                )
            container.child.signal(signal.SIGKILL)
            await self.ended(container)
        self._forget(container)

    async def _watch(self, container: Container) -> None:
        await asyncio.shield(container.child.exited)
        while processes := self._processes(container):
            for process in processes:
                process.signal(signal.SIGKILL)
            await asyncio.gather(*(process.ended() for process in processes))
        self._console.log("dockerd[1]", f"container {container.name} exited with status {container.exit_code}")
        if container.remove:
            self._forget(container)

    def _processes(self, container: Container) -> list[ProcessId]:
        return marked({**self._markers, CONTAINER_MARKER: container.id})

    def _forget(self, container: Container) -> None:
        self._containers.pop(container.id, None)
        if container.log is not None:
            container.log.unlink(missing_ok=True)
