"""`systemd-run`: starts a transient service in the VM's init."""

from __future__ import annotations

import secrets
import shutil
import sys

from sandbox.machine import control
from sandbox.machine.refusal import Refusal, not_modelled
from sandbox.machine.scratch import Scratch

_WITHOUT_VALUE = frozenset({"--no-block", "--collect", "-G", "--quiet", "-q", "--remain-after-exit", "-r", "--system"})
_NAME = frozenset({"--unit", "-u"})
_PROPERTY = frozenset({"--property", "-p"})
_ENVIRONMENT = frozenset({"--setenv", "-E"})
_AS_PROPERTY = {
    "--description": "Description",
    "--service-type": "Type",
    "--working-directory": "WorkingDirectory",
}
_WITH_VALUE = _NAME | _PROPERTY | _ENVIRONMENT | frozenset(_AS_PROPERTY)


def main(arguments: list[str]) -> int:
    """`systemd-run [--unit=NAME] [--property=KEY=VALUE ...] COMMAND [ARGUMENTS]`."""
    name, properties, flags, command = _parse(arguments)
    executable = shutil.which(command[0])
    if executable is None:
        raise Refusal(f"Failed to find executable {command[0]}: No such file or directory")
    name = name or f"run-r{secrets.token_hex(16)}"
    answer = control.ask(
        Scratch.here().control_socket,
        {
            "do": "unit-start",
            "name": name,
            "command": [executable, *command[1:]],
            "properties": properties,
            "collect": bool(flags & {"--collect", "-G"}),
        },
    )
    if "error" in answer:
        raise Refusal(f"Failed to start transient service unit: {answer['error']}")
    if not flags & {"--quiet", "-q"}:
        print(f"Running as unit: {name}.service", file=sys.stderr)
    return 0


def _parse(arguments: list[str]) -> tuple[str, list[tuple[str, str]], set[str], list[str]]:
    """Unit name (or empty), properties in their order, flags, command."""
    name = ""
    properties: list[tuple[str, str]] = []
    flags: set[str] = set()
    rest = list(arguments)
    while rest and rest[0].startswith("-"):
        word = rest.pop(0)
        if word == "--":
            break
        option, has_value, value = word.partition("=")
        if option in _WITHOUT_VALUE:
            flags.add(option)
            continue
        if option not in _WITH_VALUE:
            raise not_modelled("systemd-run", f"the option {option}")
        if not has_value:
            if not rest:
                raise Refusal(f"systemd-run: option '{option}' requires an argument")
            value = rest.pop(0)
        if option in _NAME:
            name = value.removesuffix(".service")
        else:
            properties.append(_property(option, value))
    if not rest:
        raise Refusal("Command line to execute required.")
    if flags & {"--remain-after-exit", "-r"}:
        properties.append(("RemainAfterExit", "yes"))
    return name, properties, flags, rest


def _property(option: str, value: str) -> tuple[str, str]:
    if option in _AS_PROPERTY:
        return _AS_PROPERTY[option], value
    if option in _ENVIRONMENT:
        return "Environment", _quoted(value)
    key, sign, setting = value.partition("=")
    if not sign:
        raise Refusal(f"Not an assignment: {value}")
    return key, setting


def _quoted(assignment: str) -> str:
    """One word for the property Environment=, which splits at spaces."""
    return '"' + assignment.replace("\\", "\\\\").replace('"', '\\"') + '"'
