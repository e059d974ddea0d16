"""The tables of `docs/cost.md`: what the stack files of this repository cost, by the program's own cost function."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from components.catalog import catalog
from components.cost import monthly_cost
from components.quota import quota_required
from components.settings import Settings, parse

ROOT = Path(__file__).resolve().parent.parent
STACKS = ("small", "dev", "prod")
FIRST_DEPLOYMENT_H = 0.5
"""How long examples/first-deployment.sh keeps the fleet, as planned; it has not been run yet."""


def stack_settings(stack: str) -> Settings:
    """Settings of a stack file, with a project filled in where the file leaves it to the person who deploys."""
    config: dict[str, Any] = yaml.safe_load((ROOT / f"Pulumi.{stack}.yaml").read_text())["config"]
    texts = {key: value if isinstance(value, str) else json.dumps(value) for key, value in config.items()}
    return parse({"gcp:project": "my-project", **texts}, program="tensorrt-fleet", stack=stack)[1]


def tables() -> str:
    """Cost and quota of the stacks, and the cost of the first deployment."""
    lines = ["| stack | VMs | USD a month, all pools at minimum | at maximum |", "| --- | --- | --- | --- |"]
    for stack in STACKS:
        fleet = stack_settings(stack).fleet
        cost = monthly_cost(fleet, catalog())
        vms = "; ".join(
            f"{pool.min_vms} to {pool.max_vms} x {fleet.machine_type} with {fleet.gpu_count} T4"
            f"{' (Spot)' if pool.spot else ''} in {pool.region}"
            for pool in fleet.pools
        )
        lines.append(f"| `{stack}` | {vms} | {cost.min_usd:,.2f} | {cost.max_usd:,.2f} |")
    lines += ["", "| stack | quota that it needs (a rollout at maximum size included) |", "| --- | --- |"]
    for stack in STACKS:
        needs = [
            f"{metric} {amount:,} in {place}"
            for place, limits in quota_required(stack_settings(stack), catalog()).items()
            for metric, amount in limits.items()
        ]
        lines.append(f"| `{stack}` | {'; '.join(needs)} |")
    return "\n".join(lines) + "\n"


def first_deployment() -> str:
    """What the first deployment of `small` costs, as a sentence."""
    cost = monthly_cost(stack_settings("small").fleet, catalog()).min_usd
    usd = cost / catalog().hours_per_month * FIRST_DEPLOYMENT_H
    return (
        f"About {FIRST_DEPLOYMENT_H * 60:.0f} minutes of `small` cost about **{usd:.2f} USD** at list price "
        "(computed by `components/cost.py`, without traffic, NAT and storage).\n"
    )
