"""The stack files: what they cost, and how they differ."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from components.catalog import catalog
from components.cost import monthly_cost
from tests.program.configs import parsed
from tests.program.golden import check
from tests.program.harness import REPOSITORY, STACKS, Graph, run_program, stack_config

MAX_DIFFERENCES = 15


@pytest.mark.parametrize("stack", STACKS)
def test_first_comment_says_what_the_stack_costs(stack: str) -> None:
    fleet = parsed(stack_config(stack), stack)[1].fleet
    cost = monthly_cost(fleet, catalog())
    least, most = sum(pool.min_vms for pool in fleet.pools), sum(pool.max_vms for pool in fleet.pools)
    span = f"${cost.min_usd:,.2f} at {least} VM{'s' if least > 1 else ''}"
    if most > least:
        span += f" to ${cost.max_usd:,.2f} at {most}"

    first, *_ = (REPOSITORY / f"Pulumi.{stack}.yaml").read_text(encoding="utf-8").splitlines()

    notice = f"list prices of {catalog().checked} without traffic, NAT, logs and discounts."
    assert first == f"# Monthly cost: {span}, {notice}"


@pytest.mark.parametrize("stack", STACKS)
def test_images_are_exact_and_unpinned_containers_are_labelled(stack: str) -> None:
    text = (REPOSITORY / f"Pulumi.{stack}.yaml").read_text(encoding="utf-8")

    assert "/family/" not in text
    for line in re.findall(r"^ *container: .*$", text, re.MULTILINE):
        assert "@sha256:" in line or "# unverified" in line


def test_local_differs_from_dev_in_what_was_reviewed(update_golden: bool) -> None:
    """The local stack stands for dev: whatever passes there must have run nearly the same graph."""
    dev, local = (leaves(run_program(stack_config(stack), stack=stack), stack) for stack in ("dev", "local"))
    missing = object()
    differences = {
        path: {"dev": dev.get(path), "local": local.get(path)}
        for path in sorted(dev.keys() | local.keys())
        if dev.get(path, missing) != local.get(path, missing)
    }

    assert len(differences) <= MAX_DIFFERENCES
    check("local-and-dev", differences, update=update_golden)


def leaves(graph: Graph, stack: str) -> dict[str, Any]:
    """Every input and option of every resource by its path; the stack's and the project's names replaced."""
    project = stack_config(stack)["gcp:project"]
    found: dict[str, Any] = {}
    for resource in graph.resources:
        place = f"{resource.type.rpartition(':')[2]} {resource.name}"
        for path, value in paths({"inputs": resource.inputs, "options": resource.options}):
            found[f"{place}: {path}"] = neutral(value, stack, project)
    return found


def paths(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from paths(item, f"{path}.{key}".lstrip("."))
    elif isinstance(value, list):
        for i, item in enumerate(value):
            yield from paths(item, f"{path}[{i}]")
    else:
        yield path, value


def neutral(value: Any, stack: str, project: str) -> Any:
    if not isinstance(value, str) or value.startswith("#!"):
        return value
    value = value.replace(project, "<project>")
    value = re.sub(
        rf"(?<![/a-z]){stack}\b|(?<=tensorrt-fleet/){stack}\b|(?<=tensorrt_fleet/){stack}\b", "<stack>", value
    )
    value = re.sub(r"uniqueId=[0-9]+", "uniqueId=<template>", value)
    value = re.sub(r"(?:(?<=models/)|(?<=-builder-))[0-9a-f]{20}", f"<key of {stack}>", value)
    return json.loads(json.dumps(value))


def test_no_stack_file_names_a_key_that_settings_ignore() -> None:
    for stack in STACKS:
        prefixes = {key.partition(":")[0] for key in stack_config(stack)}
        assert prefixes == {"gcp", "tensorrt-fleet"}
