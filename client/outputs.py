"""The stack's outputs: what there is to look at, and where."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.alias_generators import to_camel

from client.errors import ClientError

PROGRAM = Path(__file__).resolve().parent.parent
"""Folder of Pulumi.yaml, so that the commands work from any folder."""

_GROUP = re.compile(r"projects/([^/]+)/regions/([^/]+)/instanceGroup(?:Manager)?s/([^/?]+)")
_BACKEND_SERVICE = re.compile(r"projects/([^/]+)/global/backendServices/([^/?]+)")


class NotDeployedError(ClientError):
    """The stack exists and has no outputs."""


class GroupName(NamedTuple):
    """A regional managed instance group."""

    project: str
    region: str
    name: str


class BackendServiceName(NamedTuple):
    """A global backend service."""

    project: str
    name: str


class StackOutputs(BaseModel):
    """The outputs that the client reads. Both lists are in pool order."""

    model_config = ConfigDict(frozen=True, alias_generator=to_camel, populate_by_name=True)

    endpoint: str
    """`http://ip[:port]` of the load balancer."""
    model_key: str
    instance_groups: tuple[str, ...]
    instance_templates: tuple[str, ...]
    backend_service: str
    gpu_metric: str
    """Monitoring's type of the metric that the autoscalers read."""
    quota_required: dict[str, Any]

    @property
    def groups(self) -> tuple[GroupName, ...]:
        """Names of the groups, in pool order."""
        return tuple(GroupName(*_parse(_GROUP, "instanceGroups", link)) for link in self.instance_groups)

    @property
    def backend_service_name(self) -> BackendServiceName:
        """Name of the balancer's backend service."""
        return BackendServiceName(*_parse(_BACKEND_SERVICE, "backendService", self.backend_service))

    @property
    def project(self) -> str:
        """Google Cloud project of the fleet."""
        return self.backend_service_name.project


def _parse(pattern: re.Pattern[str], output: str, link: str) -> tuple[str, ...]:
    match = pattern.search(link)
    if match is None:
        raise ClientError(
            f"stack output `{output}` is {link!r}, which names no resource of the form {pattern.pattern}",
            "Run `pulumi up` with the program of this folder, so that program and client agree.",
        )
    return match.groups()


def raw_outputs(stack: str | None) -> dict[str, Any]:
    """All outputs of a stack (see `chosen_stack` where it is None), as `pulumi stack output --json` gives them.

    Raises:
        NotDeployedError: nothing has been deployed. ClientError: the CLI is missing, or there is no such stack.
    """
    name = chosen_stack(stack)
    outputs: dict[str, Any] = json.loads(pulumi("stack", "output", "--json", stack=name))
    if not outputs:
        raise NotDeployedError(
            f"stack {name!r} has no outputs: it is not deployed", f"Deploy it first: `pulumi up --stack {name}`."
        )
    return outputs


def chosen_stack(stack: str | None) -> str:
    """The stack that is meant: the named one, else PULUMI_STACK's, else the selected one, else the only deployed one.

    Raises:
        ClientError: it is none or several, or the CLI failed.
    """
    named = stack or os.environ.get("PULUMI_STACK")
    if named:
        return named
    known: list[dict[str, Any]] = json.loads(pulumi("stack", "ls", "--json"))
    selected = [str(one["name"]) for one in known if one.get("current")]
    deployed = [str(one["name"]) for one in known if one.get("resourceCount")]
    for names in (selected, deployed):
        if len(names) == 1:
            return names[0]
    choices = ", ".join(str(one["name"]) for one in known) or "none"
    raise ClientError("no stack is selected", f"Name one with --stack; the backend has: {choices}.")


def read_outputs(stack: str | None) -> StackOutputs:
    """The outputs that the client needs, checked.

    Raises:
        ClientError: as raw_outputs, or an output is missing or has another type.
    """
    try:
        return StackOutputs.model_validate(raw_outputs(stack))
    except ValidationError as error:
        names = ", ".join(sorted({f"`{problem['loc'][0]}`" for problem in error.errors()}))
        raise ClientError(
            f"the stack lacks outputs that the client needs, or has them in another form: {names}",
            "Run `pulumi up` to its end with the program of this folder.",
        ) from error


def pulumi(*arguments: str, stack: str | None = None, timeout_s: float = 120.0) -> str:
    """Standard output of one Pulumi command on this program, on the backend that the environment names.

    Raises:
        ClientError: no CLI on PATH, it failed (its own last line is the reason), or it took too long.
    """
    cli = shutil.which("pulumi")
    if cli is None:
        raise ClientError(
            "the Pulumi CLI is not on PATH, so the stack's outputs cannot be read",
            'Add the pinned one: `PATH="$(python -m tools.pulumi_cli --folder):$PATH"`.',
        )
    command = [cli, *arguments, "--cwd", str(PROGRAM), "--non-interactive", *(("--stack", stack) if stack else ())]
    try:
        result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=timeout_s)
    except subprocess.TimeoutExpired:
        raise ClientError(
            f"`pulumi {' '.join(arguments)}` did not finish in {timeout_s:.0f} s",
            "Check that its backend (PULUMI_BACKEND_URL) answers.",
        ) from None
    if result.returncode:
        lines = [line.strip() for line in result.stderr.splitlines() if line.strip()]
        reason = lines[-1].removeprefix("error: ") if lines else f"exit code {result.returncode}"
        raise ClientError(
            f"`pulumi {' '.join(arguments)}` failed: {reason}",
            "Name a stack that `pulumi stack ls` shows, or log in to its backend: `pulumi login`.",
        )
    return result.stdout
