"""`docker build` of an image that adds a lock's wheels to a backed one: the only thing that can be told apart here."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from sandbox.machine.docker import images
from sandbox.machine.docker.images import Image
from sandbox.machine.internet import demand_internet
from sandbox.machine.refusal import Refusal, not_modelled
from sandbox.machine.scratch import Scratch

_PIP: Final = (["pip", "install"], ["pip3", "install"], ["python3", "-m", "pip", "install"])
_PIP_FLAGS: Final = frozenset(
    {"--require-hashes", "--no-cache-dir", "--no-deps", "--break-system-packages", "--quiet", "-q", "--no-input"}
)
_VARIABLE = re.compile(r"\$\{(\w+)\}|\$(\w+)")


@dataclass(slots=True)
class _Build:
    context: Path
    arguments: dict[str, str]
    base: str = ""
    copied: dict[str, Path] = field(default_factory=dict)
    """Path in the image -> file of the context."""
    environment: dict[str, str] = field(default_factory=dict)
    working_directory: str = "/"
    steps: list[str] = field(default_factory=list)


def build(scratch: Scratch, dockerfile: str, context: Path, arguments: dict[str, str]) -> Image:
    """Make the image that a Dockerfile describes. Raises Refusal, naming the line."""
    state = _Build(context, arguments)
    for number, line in _logical_lines(dockerfile):
        instruction, _, rest = line.partition(" ")
        try:
            _step(scratch, state, instruction.upper(), rest.strip())
        except Refusal as refusal:
            raise Refusal(f"Dockerfile:{number}: {refusal}", refusal.status) from None
    if not state.base:
        raise Refusal("ERROR: failed to solve: the Dockerfile cannot be empty")
    contents = [path.read_text() for path in state.copied.values()]
    return Image(
        images.identity(state.base, *state.steps, *contents), state.base, state.environment, state.working_directory
    )


def _step(scratch: Scratch, state: _Build, instruction: str, rest: str) -> None:
    rest = _VARIABLE.sub(lambda match: state.arguments.get(match[1] or match[2], match[0]), rest)
    if instruction == "ARG":
        name, _, default = rest.partition("=")
        state.arguments.setdefault(name, default)
        return
    if instruction == "FROM":
        if state.base:
            raise not_modelled("docker build", "a build of several stages")
        image = images.find(scratch, rest) or images.pull(scratch, rest)
        state.base, state.environment = image.base, dict(image.environment)
        return
    if not state.base:
        raise Refusal("no build stage in current context: FROM comes first")
    state.steps.append(f"{instruction} {rest}")
    match instruction:
        case "COPY":
            _copy(state, shlex.split(rest))
        case "RUN":
            _run(scratch, state, shlex.split(rest))
        case "ENV":
            state.environment |= dict(_assignment(word) for word in shlex.split(rest))
        case "WORKDIR":
            state.working_directory = rest
        case "LABEL":
            pass
        case _:
            raise not_modelled("docker build", f"the instruction {instruction}")


def _copy(state: _Build, words: list[str]) -> None:
    if len(words) != 2 or words[0].startswith("--"):
        raise not_modelled("docker build", f"COPY {' '.join(words)}: only one source and one target")
    source, target = words
    path = state.context / source
    if not path.is_file():
        raise Refusal(f'ERROR: failed to solve: "/{source}": not found')
    state.copied[target + Path(source).name if target.endswith("/") else target] = path


def _run(scratch: Scratch, state: _Build, words: list[str]) -> None:
    start = next((words[len(prefix) :] for prefix in _PIP if words[: len(prefix)] == prefix), None)
    if start is None:
        raise not_modelled("docker build", f"RUN {shlex.join(words)}: only pip install --require-hashes -r FILE")
    files: list[str] = []
    rest = list(start)
    while rest:
        word = rest.pop(0)
        if word in {"-r", "--requirement"} and rest:
            files.append(rest.pop(0))
        elif word not in _PIP_FLAGS:
            raise not_modelled("docker build", f"{word} of pip install")
    if "--require-hashes" not in start or len(files) != 1:
        raise not_modelled("docker build", "pip install without --require-hashes and one requirements file")
    demand_internet(scratch, "ERROR: Could not find a version that satisfies the requirement: connection timed out")
    copied = state.copied.get(files[0])
    if copied is None:
        raise Refusal(f"ERROR: Could not open requirements file: No such file or directory: '{files[0]}'")
    lock = images.backing(state.base).lock
    if copied.read_bytes() != lock.read_bytes():
        raise Refusal(
            f"{files[0]} is not {lock.name} as this repository has it now, which is what stands for {state.base} was "
            "made from: the sandbox installs nothing into images; set up the environments again and deploy again"
        )


def _assignment(word: str) -> tuple[str, str]:
    name, sign, value = word.partition("=")
    if not sign:
        raise not_modelled("docker build", f"ENV {word}: only NAME=VALUE")
    return name, value


def _logical_lines(dockerfile: str) -> list[tuple[int, str]]:
    """Instructions with the number of their first line; comments and blank lines are gone, continuations joined."""
    found: list[tuple[int, str]] = []
    pending, start = "", 0
    for number, raw in enumerate(dockerfile.splitlines(), 1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        start = start or number
        pending += line.removesuffix("\\").rstrip() + " "
        if not line.endswith("\\"):
            found.append((start, pending.strip()))
            pending, start = "", 0
    return found
