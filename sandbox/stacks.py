"""Configuration of a stack as the sandbox runs it: a copy of the repository's file, never the file itself."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from sandbox.folder import SandboxError, StateFolder

_PROJECT_KEY: Final = "gcp:project"
_KEPT: Final = ("encryptionsalt", "secretsprovider")
"""What Pulumi writes into a stack's file by itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StackConfig:
    """The copy that a run uses."""

    stack: str
    project: str
    """Name of the Pulumi project."""
    file: Path
    replaced_project: str
    """Google Cloud project that the repository's file names and the copy does not, or empty."""


def project_name(program: Path) -> str:
    """Name of the Pulumi project in a folder. Raises SandboxError."""
    file = program / "Pulumi.yaml"
    try:
        name: str = yaml.safe_load(file.read_text())["name"]
    except (FileNotFoundError, KeyError, TypeError) as error:
        raise SandboxError(f"{program} holds no Pulumi program: {file} is missing or has no name") from error
    return name


def write_copy(
    folder: StateFolder, program: Path, stack: str, cloud_project: str, overrides: Sequence[str], *, file: str = ""
) -> StackConfig:
    """Copy a stack's configuration, with the sandbox's own project and the overrides of this and earlier runs.

    `file` is the program's file to copy instead of `Pulumi.<stack>.yaml`; later runs on the stack copy it as well.
    An override is `path=value`: `model.artifact=gs://...` sets a key of the object `<project>:model`, `gcp:region=...`
    a key of another namespace. Values are YAML; `path=` takes an override back. Raises SandboxError.
    """
    project = project_name(program)
    source = _source(folder, program, stack, file)
    document: dict[str, Any] = yaml.safe_load(source.read_text()) or {}
    config: dict[str, Any] = document.setdefault("config", {})
    _refuse_secrets(source, config)
    remembered = folder.config / f"{stack}.overrides.json"
    settings = json.loads(remembered.read_text()) if remembered.exists() else {}
    settings |= dict(_override(text) for text in overrides)
    settings = {path: value for path, value in settings.items() if value is not None}
    remembered.write_text(json.dumps(settings))
    for path, value in settings.items():
        _apply(config, project, path, value)
    named = str(config.get(_PROJECT_KEY, ""))
    config[_PROJECT_KEY] = cloud_project
    target = folder.config / f"Pulumi.{stack}.yaml"
    earlier = yaml.safe_load(target.read_text()) if target.exists() else {}
    for key in _KEPT:
        document.pop(key, None)
    document |= {key: earlier[key] for key in _KEPT if key in earlier}
    target.write_text(yaml.safe_dump(document, sort_keys=False))
    (folder.config / "Pulumi.yaml").write_bytes((program / "Pulumi.yaml").read_bytes())
    return StackConfig(
        stack=stack, project=project, file=target, replaced_project=named if named != cloud_project else ""
    )


def _source(folder: StateFolder, program: Path, stack: str, file: str) -> Path:
    folder.config.mkdir(parents=True, exist_ok=True)
    remembered = folder.config / f"{stack}.source"
    name = file or (remembered.read_text() if remembered.exists() else f"Pulumi.{stack}.yaml")
    source = program / name
    if not source.is_file():
        known = sorted(path.name for path in program.glob("Pulumi.*.yaml"))
        stacks = [one.removeprefix("Pulumi.").removesuffix(".yaml") for one in known]
        raise SandboxError(
            f"there is no stack {stack}: {source} is missing; there are {', '.join(stacks) or 'none'}, and "
            "`--file Pulumi.NAME.yaml` gives a stack the settings of another"
        )
    if file:
        remembered.write_text(file)
    return source


def _override(text: str) -> tuple[str, Any]:
    path, equals, value = text.partition("=")
    if not equals or not path:
        raise SandboxError(f"--config {text}: give PATH=VALUE, such as model.artifact=gs://bucket/models/key/")
    if "[" in path:
        raise SandboxError(f"--config {text}: a path names keys, not places in a list; give the whole list as YAML")
    return path, yaml.safe_load(value)


def _apply(config: dict[str, Any], project: str, path: str, value: object) -> None:
    key, *inner = path.split(".")
    key = key if ":" in key else f"{project}:{key}"
    if not inner:
        config[key] = value
        return
    place = config.setdefault(key, {})
    for part in inner[:-1]:
        place = place.setdefault(part, {})
    if not isinstance(place, dict):
        raise SandboxError(f"--config {path}=...: {key} is not an object in the stack's file")
    place[inner[-1]] = value


def _refuse_secrets(source: Path, value: object) -> None:
    if isinstance(value, Mapping):
        if set(value) == {"secure"}:
            raise SandboxError(
                f"{source.name} holds a secret of the real stack, which the sandbox cannot read: keep secrets out of "
                "the file or give the sandbox its own stack file"
            )
        for inner in value.values():
            _refuse_secrets(source, inner)
    elif isinstance(value, list):
        for inner in value:
            _refuse_secrets(source, inner)
