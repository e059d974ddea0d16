"""`systemctl` for the VM's init: services that were started there, and the container daemon."""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from sandbox.machine import control, image
from sandbox.machine.refusal import Refusal, not_modelled
from sandbox.machine.scratch import Scratch

_NOT_RUNNING = 3
_NO_SUCH_UNIT = 4
_IGNORED_OPTIONS = frozenset({"--no-pager", "--quiet", "-q", "--now", "--no-block", "--no-legend", "--plain", "--full"})
_DOCKER = "docker"

Unit = dict[str, Any]


def main(arguments: list[str]) -> int:
    """`systemctl VERB [UNIT ...]`."""
    options = {word for word in arguments if word.startswith("-")}
    for option in options - _IGNORED_OPTIONS:
        raise not_modelled("systemctl", f"the option {option}")
    verb, *names = [word for word in arguments if not word.startswith("-")] or ["list-units"]
    if verb not in _VERBS:
        raise not_modelled("systemctl", f"the verb {verb}")
    return _VERBS[verb]([name.removesuffix(".service") for name in names], options)


def _ask(message: control.Message) -> control.Message:
    return control.ask(Scratch.here().control_socket, message)


def _units() -> dict[str, Unit]:
    units: dict[str, Unit] = {unit["name"]: unit for unit in _ask({"do": "unit-list"})["units"]}
    if image.has_docker(Scratch.here()):
        units[_DOCKER] = {
            "name": _DOCKER,
            "description": "Docker Application Container Engine (simulated)",
            "state": "active",
            "result": "success",
            "pid": 0,
            "since": 0.0,
            "restarts": 0,
        }
    return units


def _sub_state(unit: Unit) -> str:
    states = {"active": "running", "activating": "auto-restart", "deactivating": "stop-sigterm", "inactive": "dead"}
    state: str = unit["state"]
    return states.get(state, state)


def _status(names: list[str], options: set[str]) -> int:
    del options
    status = 0
    units = _units()
    for name in names:
        unit = units.get(name)
        if unit is None:
            print(f"Unit {name}.service could not be found.", file=sys.stderr)
            status = _NO_SUCH_UNIT
            continue
        since = datetime.fromtimestamp(unit["since"], UTC).strftime("%a %Y-%m-%d %H:%M:%S UTC")
        reason = f" (Result: {unit['result']})" if unit["result"] != "success" else ""
        print(f"● {name}.service - {unit['description']}")
        print(f"     Active: {unit['state']} ({_sub_state(unit)}){reason} since {since}")
        if unit["pid"]:
            print(f"   Main PID: {unit['pid']}")
        if unit["restarts"]:
            print(f"   Restarts: {unit['restarts']}")
        if unit["state"] != "active":
            status = max(status, _NOT_RUNNING)
    return status


def _is_active(names: list[str], options: set[str]) -> int:
    units = _units()
    states = [units[name]["state"] if name in units else "inactive" for name in names]
    if not options & {"--quiet", "-q"}:
        print("\n".join(states))
    return 0 if "active" in states else _NOT_RUNNING


def _is_failed(names: list[str], options: set[str]) -> int:
    units = _units()
    states = [units[name]["state"] if name in units else "inactive" for name in names]
    if not options & {"--quiet", "-q"}:
        print("\n".join(states))
    return 0 if "failed" in states else 1


def _list_units(names: list[str], options: set[str]) -> int:
    del names, options
    for unit in _units().values():
        print(f"{unit['name']}.service loaded {unit['state']} {_sub_state(unit)} {unit['description']}")
    return 0


def _stop(names: list[str], options: set[str]) -> int:
    del options
    return _each(names, "unit-stop", "stop")


def _restart(names: list[str], options: set[str]) -> int:
    del options
    known = _units()
    if _DOCKER in names and _DOCKER not in known:
        raise Refusal("Failed to restart docker.service: Unit docker.service not found.", 5)
    status = _each(names, "unit-restart", "restart")
    if _DOCKER in names:
        image.start_docker(Scratch.here())
    return status


def _start(names: list[str], options: set[str]) -> int:
    del options
    known = _units()
    for name in names:
        if name not in known:
            raise Refusal(f"Failed to start {name}.service: Unit {name}.service not found.", 5)
        if known[name]["state"] not in {"active", "activating"}:
            _each([name], "unit-restart", "start")
    return 0


def _enable(names: list[str], options: set[str]) -> int:
    known = _units()
    for name in names:
        if name != _DOCKER or name not in known:
            raise Refusal(f"Failed to enable unit: Unit file {name}.service does not exist.")
    return _start(names, options) if "--now" in options else 0


def _reset_failed(names: list[str], options: set[str]) -> int:
    del options
    _ask({"do": "unit-reset", "names": names})
    return 0


def _daemon_reload(names: list[str], options: set[str]) -> int:
    del names, options
    return 0


def _poweroff(names: list[str], options: set[str]) -> int:
    del names, options
    _ask({"do": "power-off"})
    return 0


def _each(names: list[str], request: str, verb: str) -> int:
    for name in names:
        answer = _ask({"do": request, "name": name})
        if "error" in answer:
            raise Refusal(f"Failed to {verb} {name}.service: {answer['error']}", 5)
    return 0


_VERBS: dict[str, Callable[[list[str], set[str]], int]] = {
    "status": _status,
    "is-active": _is_active,
    "is-failed": _is_failed,
    "list-units": _list_units,
    "start": _start,
    "stop": _stop,
    "restart": _restart,
    "enable": _enable,
    "reset-failed": _reset_failed,
    "daemon-reload": _daemon_reload,
    "poweroff": _poweroff,
}
