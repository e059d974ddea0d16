"""`docker run`: what the options mean for a process without namespaces."""

from __future__ import annotations

import os
import shutil
import signal
import socket
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from sandbox.machine import control, image
from sandbox.machine.docker import images
from sandbox.machine.docker.images import Image
from sandbox.machine.refusal import Refusal, not_modelled
from sandbox.machine.scratch import Scratch
from sandbox.machine.unit_settings import UnitSettingsError, signal_number

_ERROR: Final = 125
_NOT_EXECUTABLE: Final = 126
_NOT_FOUND: Final = 127
INJECTED: Final = (
    "GCE_METADATA_HOST",
    "GCE_METADATA_IP",
    "STORAGE_EMULATOR_HOST",
    "GOOGLE_COMPUTE_CUSTOM_ENDPOINT",
    "GOOGLE_MONITORING_CUSTOM_ENDPOINT",
)
"""Handed from the client into every container, as a Docker client's proxy configuration hands on HTTP_PROXY."""

_FLAGS: Final = {
    "--rm": "remove",
    "-d": "detach",
    "--detach": "detach",
    "--init": "",
    "-i": "",
    "--interactive": "",
    "-q": "",
    "--quiet": "",
    "--read-only": "",
    "--sig-proxy": "",
}
_VALUES: Final = {
    "--name": "name",
    "--network": "network",
    "--net": "network",
    "--gpus": "gpus",
    "--volume": "volume",
    "-v": "volume",
    "--env": "env",
    "-e": "env",
    "--workdir": "workdir",
    "-w": "workdir",
    "--entrypoint": "entrypoint",
    "--stop-signal": "stop-signal",
    "--stop-timeout": "stop-timeout",
    "--pull": "",
    "--shm-size": "",
    "--ulimit": "",
    "--ipc": "",
    "--log-driver": "",
    "--log-opt": "",
    "--label": "",
    "-l": "",
    "--memory": "",
    "-m": "",
    "--cpus": "",
    "--oom-score-adj": "",
    "--cap-add": "",
    "--cap-drop": "",
    "--security-opt": "",
    "--hostname": "",
}
"""Option -> what it sets; an empty name changes nothing that a program here could see."""


@dataclass(slots=True)
class RunOptions:
    """Options of one `docker run`."""

    flags: set[str] = field(default_factory=set)
    values: dict[str, list[str]] = field(default_factory=dict)
    image: str = ""
    command: list[str] = field(default_factory=list)

    def last(self, name: str, default: str = "") -> str:
        """The last value of an option."""
        return self.values.get(name, [default])[-1]


def run(arguments: list[str]) -> int:
    """Run a container to its end (or detached); its exit code."""
    scratch, options = Scratch.here(), parse(arguments)
    found = images.find(scratch, options.image) or images.pull(scratch, options.image)
    _check(scratch, options)
    environment = _environment(scratch, options, found)
    command = _command(options, environment["PATH"])
    folder = options.last("workdir", found.working_directory)
    if not Path(folder).is_dir():
        raise Refusal(f"docker: the working directory {folder} does not exist on the machine", _ERROR)
    detached = "detach" in options.flags
    connection = control.connect(scratch.control_socket)
    if not detached:
        _pass_signals_on(connection)
    control.send(
        connection,
        {
            "do": "container-run",
            "name": options.last("name"),
            "image": options.image,
            "command": command,
            "environment": environment,
            "folder": folder,
            "remove": "remove" in options.flags,
            "stop_signal": _signal(options.last("stop-signal", "SIGTERM")),
            "stop_timeout_s": float(options.last("stop-timeout", "10")),
        },
        () if detached else (1, 2),
    )
    answer = _answer(connection)
    if "cannot_execute" in answer:
        raise Refusal(
            f"docker: Error response from daemon: exec {command[0]}: {answer['cannot_execute']}", _NOT_EXECUTABLE
        )
    if "error" in answer:
        raise Refusal(f"docker: {answer['error']}", _ERROR)
    if detached:
        print(answer["id"])
        return 0
    code: int = _answer(connection)["exit"]
    return code


def parse(arguments: list[str]) -> RunOptions:
    """Split options, image and command. Raises Refusal for an option that is not modelled."""
    options = RunOptions()
    rest = list(arguments)
    while rest and rest[0].startswith("-"):
        word = rest.pop(0)
        option, sign, value = word.partition("=") if word.startswith("--") else (word, "", "")
        if option in _FLAGS and (not sign or value == "true"):
            options.flags.add(_FLAGS[option])
        elif option in _VALUES:
            if not sign and not rest:
                raise Refusal(f"flag needs an argument: {option}", _ERROR)
            options.values.setdefault(_VALUES[option], []).append(value if sign else rest.pop(0))
        else:
            raise not_modelled("docker run", f"the option {option}", _ERROR)
    if not rest:
        raise Refusal('docker: "docker run" requires at least 1 argument.', _ERROR)
    options.image, *options.command = rest
    return options


def _check(scratch: Scratch, options: RunOptions) -> None:
    if options.last("network") != "host":
        raise not_modelled("docker run", "any network but --network host", _ERROR)
    for volume in options.values.get("volume", []):
        source, _, target = volume.partition(":")
        target = target.removesuffix(":ro").removesuffix(":rw")
        if source != target or not Path(source).is_relative_to(scratch.root):
            raise not_modelled(
                "docker run",
                f"--volume {volume}: only a path below {scratch.disk}, mounted at itself (scripts write nowhere else)",
                _ERROR,
            )
        Path(source).mkdir(parents=True, exist_ok=True)
    if options.last("gpus"):
        if options.last("gpus") != "all":
            raise not_modelled("docker run", f"--gpus {options.last('gpus')}: only all", _ERROR)
        if not image.docker_has_gpus(scratch):
            raise Refusal(
                'docker: Error response from daemon: could not select device driver "" with capabilities: [[gpu]].',
                _ERROR,
            )


def _environment(scratch: Scratch, options: RunOptions, found: Image) -> dict[str, str]:
    path = [str(found.backing.environment / "bin"), str(scratch.tools)]
    if options.last("gpus"):
        path.insert(0, str(scratch.container_gpu_commands))
    environment = {
        "PATH": ":".join(path),
        "HOME": str(scratch.home),
        "HOSTNAME": scratch.root.name,
        "TMPDIR": str(scratch.temporary),
        **{name: os.environ[name] for name in INJECTED if name in os.environ},
        **found.environment,
    }
    for entry in options.values.get("env", []):
        name, sign, value = entry.partition("=")
        if sign:
            environment[name] = value
        elif name in os.environ:
            environment[name] = os.environ[name]
    return environment


def _command(options: RunOptions, path: str) -> list[str]:
    entrypoint = options.last("entrypoint")
    command = [*([entrypoint] if entrypoint else []), *options.command]
    if not command:
        raise not_modelled("docker run", "an image's default command: name one", _ERROR)
    executable = shutil.which(command[0], path=path)
    if executable is None:
        raise Refusal(
            "docker: Error response from daemon: failed to create task for container: exec: "
            f'"{command[0]}": executable file not found in $PATH',
            _NOT_FOUND,
        )
    return [executable, *command[1:]]


def _signal(name: str) -> int:
    try:
        return signal_number("--stop-signal", name)
    except UnitSettingsError:
        raise Refusal(f"docker: invalid signal: {name}", _ERROR) from None


def _pass_signals_on(connection: socket.socket) -> None:
    """What an attached client does with the signals that it gets."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, lambda received, _: control.send(connection, {"signal": received}))


def _answer(connection: socket.socket) -> control.Message:
    received = control.receive(connection)
    if received is None:
        raise Refusal("docker: error waiting for container: the Docker daemon has stopped", _ERROR)
    return received[0]
