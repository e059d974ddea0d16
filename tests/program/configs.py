"""Configurations for tests: a stack file with some of its keys set otherwise."""

from __future__ import annotations

from typing import Any

from components.naming import Names
from components.settings import InvalidSettingsError, Problem, Settings, parse
from tests.program.harness import PROGRAM, Config, as_passed, stack_config

REMOVED = object()
"""Given as a value, removes the key."""


def dev(**objects: Any) -> Config:
    """The dev stack with some keys of its objects (`fleet={"gpuCount": 1}`) set or removed."""
    config = stack_config("dev")
    for name, keys in objects.items():
        merged = {**config.get(f"{PROGRAM}:{name}", {}), **keys}
        config[f"{PROGRAM}:{name}"] = {key: value for key, value in merged.items() if value is not REMOVED}
    return config


def parsed(config: Config, stack: str = "dev") -> tuple[Names, Settings]:
    """Names and settings of a configuration."""
    return parse(as_passed(config), program=PROGRAM, stack=stack)


def refused(config: Config, stack: str = "dev") -> tuple[Problem, ...]:
    """Everything that is wrong with a configuration; empty if it is valid."""
    try:
        parsed(config, stack)
    except InvalidSettingsError as error:
        return error.problems
    return ()


def pool(region: str = "us-central1", zones: str = "ab", **keys: Any) -> dict[str, Any]:
    """A pool in the zones of a region that are named by their letters."""
    return {"region": region, "zones": [f"{region}-{letter}" for letter in zones], "min": 2, "max": 4, **keys}
