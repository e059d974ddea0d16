"""First process of a VM: runs its startup script, keeps its services and containers, and shuts it down.

The host starts it in a session of its own with the VM's whole environment. It adopts every orphan of the VM, so nothing
that the VM started is anybody else's child while it lives.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress

from sandbox.machine import control
from sandbox.machine.children import Children, adopt_orphans
from sandbox.machine.console import Console
from sandbox.machine.containers import SHUTDOWN_TIMEOUT_S, Container, ContainerError, Containers
from sandbox.machine.entry import command_line
from sandbox.machine.markers import MACHINE_MARKER, STATE_MARKER
from sandbox.machine.processes import ProcessId, marked
from sandbox.machine.scratch import Scratch
from sandbox.machine.unit_settings import UnitSettings, UnitSettingsError, with_property
from sandbox.machine.units import Host, Unit

SOFT_OFF = signal.SIGPWR
"""What the host sends for the power button."""
DOCKER = "docker"
_LAST_TERM_S = 5.0
"""Between systemd-shutdown's last SIGTERM to whatever is left and its SIGKILL."""


class Init:
    """The init of one VM."""

    def __init__(self, scratch: Scratch) -> None:
        self._scratch = scratch
        self._console = Console()
        self._children = Children()
        self._markers = {name: os.environ[name] for name in (STATE_MARKER, MACHINE_MARKER)}
        self._host = Host(self._children, self._console, dict(os.environ), self._markers)
        self._units: dict[str, Unit] = {}
        self._kept_failed: set[str] = set()
        self._containers = Containers(self._children, self._console, self._markers, scratch.run / "containers")
        self._power_off = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Boot, serve requests until the power goes off, shut down in order."""
        loop = asyncio.get_running_loop()
        for number in (SOFT_OFF, signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._power_off.set)
        listener = control.bind(self._scratch.control_socket)
        loop.add_reader(listener, self._accept, listener)
        startup = self._script_runner("startup")
        self._units[startup.name] = startup
        startup.start()
        await self._power_off.wait()
        await self._shut_down()
        loop.remove_reader(listener)
        listener.close()

    # --- Shutdown ----------------------------------------------------------------------------------------------------

    async def _shut_down(self) -> None:
        """Stop everything as systemd orders it, then end what is left.

        All services stop at once, the container daemon among them, save for those that a service is ordered after:
        these wait for that service. Hence a service that runs a container must say `After=docker.service`, or its
        container gets the daemon's own short notice.
        """
        self._console.log("systemd[1]", "System is powering down.")
        await asyncio.gather(self._run_shutdown_script(), self._stop_services())
        for process in self._rest():
            process.signal(signal.SIGTERM)
        with suppress(TimeoutError):
            await asyncio.wait_for(self._rest_ended(), _LAST_TERM_S)
        for process in self._rest():
            process.signal(signal.SIGKILL)
        self._console.log("systemd[1]", "Reached target System Power Off.")
        self._scratch.powered_off.touch()

    async def _stop_services(self) -> None:
        stops = {name: asyncio.create_task(unit.stop()) for name, unit in self._units.items()}
        behind_docker = [
            stops[name] for name, unit in self._units.items() if f"{DOCKER}.service" in unit.settings.after
        ]
        if behind_docker:
            await asyncio.wait(behind_docker)
        await asyncio.gather(self._containers.stop_all(self._shutdown_timeout_s()), *stops.values())

    async def _run_shutdown_script(self) -> None:
        runner = self._script_runner("shutdown")
        runner.start()
        await runner.finished()

    def _script_runner(self, event: str) -> Unit:
        settings = UnitSettings(
            description=f"Google Compute Engine {event.capitalize()} Scripts",
            type="oneshot",
            kill_mode="process",
            syslog_identifier="google_metadata_script_runner",
        )
        return Unit(self._host, f"google-{event}-scripts", [*command_line("script_runner"), event], settings)

    def _shutdown_timeout_s(self) -> float:
        """What the container daemon's configuration says, as it was when it is asked."""
        try:
            configured = json.loads(self._scratch.docker_configuration.read_text())
        except FileNotFoundError:
            return SHUTDOWN_TIMEOUT_S
        return float(configured.get("shutdown-timeout", SHUTDOWN_TIMEOUT_S))

    def _rest(self) -> list[ProcessId]:
        return marked(self._markers)

    async def _rest_ended(self) -> None:
        while processes := self._rest():
            await asyncio.gather(*(process.ended() for process in processes))

    # --- Requests ----------------------------------------------------------------------------------------------------

    def _accept(self, listener: socket.socket) -> None:
        connection, _ = listener.accept()
        connection.setblocking(False)
        task = asyncio.create_task(self._serve(connection))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, connection: socket.socket) -> None:
        operations: dict[str, Callable[[control.Message], Awaitable[control.Message]]] = {
            "power-off": self._on_power_off,
            "unit-start": self._on_unit_start,
            "unit-stop": self._on_unit_stop,
            "unit-restart": self._on_unit_restart,
            "unit-reset": self._on_unit_reset,
            "unit-list": self._on_unit_list,
            "container-list": self._on_container_list,
            "container-stop": self._on_container_stop,
            "container-kill": self._on_container_kill,
            "container-remove": self._on_container_remove,
        }
        with connection, suppress(ConnectionError):
            request = await _receive(connection)
            if request is None:
                return
            message, descriptors = request
            try:
                if message["do"] == "container-run":
                    await self._on_container_run(connection, message, descriptors)
                else:
                    control.send(connection, await operations[message["do"]](message))
            except (UnitSettingsError, ContainerError) as error:
                control.send(connection, {"error": str(error)})

    async def _on_power_off(self, message: control.Message) -> control.Message:
        del message
        self._power_off.set()
        return {}

    async def _on_unit_start(self, message: control.Message) -> control.Message:
        name = message["name"]
        known = self._units.get(name)
        if name == DOCKER or known is not None:
            return {"error": f"Unit {name}.service was already loaded or has a fragment file."}
        settings = UnitSettings()
        for key, value in message["properties"]:
            settings = with_property(settings, key, value)
        unit = Unit(self._host, name, message["command"], settings)
        self._units[name] = unit
        if message["collect"]:
            self._kept_failed.discard(name)
        else:
            self._kept_failed.add(name)
        unit.start()
        self._follow(name, unit)
        return {}

    def _follow(self, name: str, unit: Unit) -> None:
        async def unload() -> None:
            await unit.finished()
            if self._units.get(name) is unit and (unit.state == "inactive" or name not in self._kept_failed):
                del self._units[name]

        task = asyncio.create_task(unload())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _on_unit_stop(self, message: control.Message) -> control.Message:
        if message["name"] == DOCKER:
            await self._containers.stop_all(self._shutdown_timeout_s())
            return {}
        unit = self._units.get(message["name"])
        if unit is None:
            return {"error": f"Unit {message['name']}.service not loaded."}
        await unit.stop()
        return {}

    async def _on_unit_restart(self, message: control.Message) -> control.Message:
        if message["name"] == DOCKER:
            await self._containers.stop_all(self._shutdown_timeout_s())
            return {}
        unit = self._units.get(message["name"])
        if unit is None:
            return {"error": f"Unit {message['name']}.service not found."}
        await unit.stop()
        self._units[unit.name] = unit
        unit.start()
        self._follow(unit.name, unit)
        return {}

    async def _on_unit_reset(self, message: control.Message) -> control.Message:
        for name in message["names"] or list(self._units):
            unit = self._units.get(name)
            if unit is not None and unit.state == "failed":
                del self._units[name]
        return {}

    async def _on_unit_list(self, message: control.Message) -> control.Message:
        del message
        units = [
            {
                "name": unit.name,
                "description": unit.settings.description or " ".join(unit.command),
                "state": unit.state,
                "result": unit.result,
                "pid": unit.main_pid,
                "since": unit.since,
                "restarts": unit.restarts,
            }
            for unit in self._units.values()
        ]
        return {"units": units}

    async def _on_container_run(
        self, connection: socket.socket, message: control.Message, descriptors: list[int]
    ) -> None:
        try:
            container = self._containers.run(
                name=message["name"],
                image=message["image"],
                command=message["command"],
                environment=message["environment"],
                folder=message["folder"],
                remove=message["remove"],
                stop_signal=message["stop_signal"],
                stop_timeout_s=message["stop_timeout_s"],
                output=(descriptors[0], descriptors[1]) if descriptors else None,
            )
        except OSError as error:
            control.send(connection, {"cannot_execute": error.strerror or str(error)})
            return
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
        control.send(connection, {"id": container.id})
        if descriptors:
            signals = asyncio.create_task(self._forward_signals(connection, container))
            code = await self._containers.ended(container)
            signals.cancel()
            control.send(connection, {"exit": code})

    async def _forward_signals(self, connection: socket.socket, container: Container) -> None:
        while (request := await _receive(connection)) is not None:
            container.child.signal(request[0]["signal"])

    async def _on_container_list(self, message: control.Message) -> control.Message:
        del message
        containers = [
            {
                "id": container.id,
                "name": container.name,
                "image": container.image,
                "command": container.command,
                "created": container.created,
                "running": container.running,
                "exit_code": None if container.running else container.exit_code,
                "log": str(container.log) if container.log else None,
                "pid": container.child.pid if container.running else 0,
            }
            for container in self._containers.all()
        ]
        return {"containers": containers}

    async def _on_container_stop(self, message: control.Message) -> control.Message:
        await self._containers.stop(self._containers.find(message["name"]), message["timeout_s"])
        return {}

    async def _on_container_kill(self, message: control.Message) -> control.Message:
        container = self._containers.find(message["name"])
        if not container.running:
            return {
                "error": f"Error response from daemon: cannot kill container: {message['name']}: container "
                f"{container.id} is not running"
            }
        container.child.signal(message["signal"])
        return {}

    async def _on_container_remove(self, message: control.Message) -> control.Message:
        await self._containers.discard(self._containers.find(message["name"]), force=message["force"])
        return {}


async def _receive(connection: socket.socket) -> tuple[control.Message, list[int]] | None:
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    loop.add_reader(connection, readable.set)
    try:
        await readable.wait()
    finally:
        loop.remove_reader(connection)
    return control.receive(connection)


async def _boot() -> None:
    await Init(Scratch.here()).run()


def main(arguments: list[str]) -> int:
    """`init`, with the VM's environment."""
    del arguments
    adopt_orphans()
    asyncio.run(_boot())
    return 0
