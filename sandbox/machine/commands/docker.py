"""`docker`: images and containers as far as a VM's scripts use them (see sandbox.machine.docker)."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from sandbox.machine import control, image
from sandbox.machine.docker import images
from sandbox.machine.docker.build import build
from sandbox.machine.docker.run import run
from sandbox.machine.refusal import Refusal, not_modelled
from sandbox.machine.scratch import Scratch
from sandbox.machine.unit_settings import UnitSettingsError, signal_number

_VERSION: Final = "28.0.0-simulated"


def main(arguments: list[str]) -> int:
    """`docker COMMAND [arguments]`."""
    if not arguments:
        raise Refusal("docker: a command is required")
    verb, *rest = arguments
    if verb in {"image", "container"} and rest:
        verb, rest = _MANAGEMENT.get((verb, rest[0]), f"{verb} {rest[0]}"), rest[1:]
    if verb not in _COMMANDS:
        raise not_modelled("docker", f"the command {verb}")
    return _COMMANDS[verb](rest)


def _options(command: str, words: list[str], flags: set[str], values: set[str]) -> tuple[dict[str, str], list[str]]:
    """Options by name (flags as empty text) and the other words. Raises Refusal for an unknown one."""
    found: dict[str, str] = {}
    others: list[str] = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        option, sign, value = word.partition("=") if word.startswith("--") else (word, "", "")
        if not word.startswith("-"):
            others.append(word)
        elif option in flags and not sign:
            found[option] = ""
        elif option in values and (sign or rest):
            found[option] = value if sign else rest.pop(0)
        else:
            raise not_modelled(f"docker {command}", f"the option {option}")
    return found, others


def _ask(message: control.Message) -> control.Message:
    answer = control.ask(Scratch.here().control_socket, message)
    if "error" in answer:
        raise Refusal(answer["error"])
    return answer


def _info(words: list[str]) -> int:
    options, _ = _options("info", words, set(), {"--format", "-f"})
    if options:
        raise not_modelled("docker info", "--format")
    scratch = Scratch.here()
    runtimes = "io.containerd.runc.v2 nvidia runc" if image.docker_has_gpus(scratch) else "io.containerd.runc.v2 runc"
    containers = _ask({"do": "container-list"})["containers"]
    running = sum(container["running"] for container in containers)
    print(f"Server:\n Containers: {len(containers)}\n  Running: {running}\n Images: {len(images.load(scratch))}")
    print(f" Server Version: {_VERSION}\n Runtimes: {runtimes}")
    return 0


def _version(words: list[str]) -> int:
    options, _ = _options("version", words, set(), {"--format", "-f"})
    template = options.get("--format", options.get("-f", ""))
    if template and template not in {"{{.Server.Version}}", "{{.Client.Version}}"}:
        raise not_modelled("docker version", f"the format {template}")
    print(_VERSION if template else f"Client:\n Version: {_VERSION}\nServer:\n Version: {_VERSION}")
    return 0


def _pull(words: list[str]) -> int:
    _, (reference,) = _exactly_one("pull", *_options("pull", words, {"-q", "--quiet"}, {"--platform"}))
    images.pull(Scratch.here(), reference)
    print(reference)
    return 0


def _build(words: list[str]) -> int:
    options, (folder,) = _exactly_one(
        "build", *_options("build", words, {"-q", "--quiet", "--pull"}, {"-t", "--tag", "-f", "--file", "--build-arg"})
    )
    context = Path(folder)
    if not context.is_dir():
        raise Refusal(f'ERROR: unable to prepare context: path "{folder}" not found')
    dockerfile = Path(options.get("--file", options.get("-f", str(context / "Dockerfile"))))
    if not dockerfile.is_file():
        raise Refusal(
            f"ERROR: failed to solve: failed to read dockerfile: open {dockerfile}: no such file or directory"
        )
    argument, _, value = options.get("--build-arg", "").partition("=")
    scratch = Scratch.here()
    made = build(scratch, dockerfile.read_text(), context, {argument: value} if argument else {})
    tag = options.get("--tag", options.get("-t", f"sha256:{made.id}"))
    images.save(scratch, tag, made)
    print(f"sha256:{made.id}" if {"-q", "--quiet"} & set(options) else f"naming to {tag} done (simulated)")
    return 0


def _image_inspect(words: list[str]) -> int:
    options, references = _options("image inspect", words, set(), {"--format", "-f"})
    template = options.get("--format", options.get("-f", ""))
    if template not in {"", "{{.Id}}"}:
        raise not_modelled("docker image inspect", f"the format {template}")
    found = []
    for reference in references:
        one = images.find(Scratch.here(), reference)
        if one is None:
            raise Refusal(f"Error response from daemon: No such image: {reference}")
        found.append(one)
    if template:
        print("\n".join(f"sha256:{one.id}" for one in found))
    else:
        print(json.dumps([{"Id": f"sha256:{one.id}", "Config": {"Env": _pairs(one.environment)}} for one in found]))
    return 0


def _images(words: list[str]) -> int:
    options, references = _options("images", words, {"-q", "--quiet"}, set())
    for name, one in images.load(Scratch.here()).items():
        if not references or name.startswith(references[0]):
            print(one.id[:12] if options else f"{name}  {one.id[:12]}")
    return 0


def _ps(words: list[str]) -> int:
    options, _ = _options("ps", words, {"-a", "--all", "-q", "--quiet"}, {"--filter", "-f", "--format"})
    if "--format" in options:
        raise not_modelled("docker ps", "--format")
    wanted = options.get("--filter", options.get("-f", ""))
    key, _, name = wanted.partition("=")
    if wanted and key != "name":
        raise not_modelled("docker ps", f"the filter {key}")
    quiet = bool({"-q", "--quiet"} & set(options))
    if not quiet:
        print(f"{'CONTAINER ID':<14}{'IMAGE':<44}{'STATUS':<24}NAMES")
    for container in _ask({"do": "container-list"})["containers"]:
        if not container["running"] and not {"-a", "--all"} & set(options):
            continue
        if name.strip("^$/") not in container["name"]:
            continue
        minutes = int((time.time() - container["created"]) / 60)
        status = f"Up {minutes} minutes" if container["running"] else f"Exited ({container['exit_code']})"
        identity = container["id"][:12]
        print(identity if quiet else f"{identity:<14}{container['image']:<44}{status:<24}{container['name']}")
    return 0


def _stop(words: list[str]) -> int:
    options, names = _options("stop", words, set(), {"-t", "--time", "--timeout"})
    limit = next(iter(options.values()), None)
    for name in names:
        _ask({"do": "container-stop", "name": name, "timeout_s": float(limit) if limit is not None else None})
        print(name)
    return 0


def _kill(words: list[str]) -> int:
    options, names = _options("kill", words, set(), {"-s", "--signal"})
    try:
        number = signal_number("--signal", next(iter(options.values()), "SIGKILL"))
    except UnitSettingsError as error:
        raise Refusal(f"Error response from daemon: invalid signal: {error}") from None
    for name in names:
        _ask({"do": "container-kill", "name": name, "signal": number})
        print(name)
    return 0


def _rm(words: list[str]) -> int:
    options, names = _options("rm", words, {"-f", "--force", "-v", "--volumes"}, set())
    force = bool({"-f", "--force"} & set(options))
    for name in names:
        try:
            _ask({"do": "container-remove", "name": name, "force": force})
        except Refusal as refusal:
            if not force or "No such container" not in str(refusal):
                raise
            print(refusal, file=sys.stderr)  # Since Docker 23 no failure, with --force.
        else:
            print(name)
    return 0


def _logs(words: list[str]) -> int:
    _, (name,) = _exactly_one("logs", *_options("logs", words, set(), set()))
    for container in _ask({"do": "container-list"})["containers"]:
        if name in {container["name"], container["id"], container["id"][:12]}:
            if container["log"] is None:
                raise not_modelled("docker logs", "an attached container's output: it is in the log of its unit")
            sys.stdout.write(Path(container["log"]).read_text(errors="replace"))
            return 0
    raise Refusal(f"Error response from daemon: No such container: {name}")


def _exactly_one(command: str, options: dict[str, str], words: list[str]) -> tuple[dict[str, str], list[str]]:
    if len(words) != 1:
        raise Refusal(f'docker: "docker {command}" requires exactly 1 argument.')
    return options, words


def _pairs(environment: dict[str, str]) -> list[str]:
    return [f"{name}={value}" for name, value in environment.items()]


_COMMANDS: Final[dict[str, Callable[[list[str]], int]]] = {
    "info": _info,
    "version": _version,
    "pull": _pull,
    "build": _build,
    "image inspect": _image_inspect,
    "images": _images,
    "run": run,
    "ps": _ps,
    "stop": _stop,
    "kill": _kill,
    "rm": _rm,
    "logs": _logs,
}
_MANAGEMENT: Final[dict[tuple[str, str], str]] = {
    ("image", "pull"): "pull",
    ("image", "build"): "build",
    ("image", "ls"): "images",
    ("container", "run"): "run",
    ("container", "ls"): "ps",
    ("container", "stop"): "stop",
    ("container", "kill"): "kill",
    ("container", "rm"): "rm",
    ("container", "logs"): "logs",
}
"""Management command -> its short form."""
