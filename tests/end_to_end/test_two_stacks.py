"""Two stacks of one settings file in one sandbox, with a model that is quick to serve and slow bindings."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.conftest import MAKE_BUCKET
from tests.end_to_end.fleet import REPOSITORY, Sandbox
from tests.model.tiny import KEY, write_tiny_artifact

pytestmark = pytest.mark.servers

STACKS = ("blue", "green")
REGISTRY = "tiny-registry"
POOLS = "fleet.pools=[{region: us-central1, zones: [us-central1-a, us-central1-b], min: 1, max: 2}]"
IAM_DELAY_S = 5.0


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[Sandbox]:
    state = tmp_path / "state"
    state.mkdir()
    (state / "sandbox.json").write_text(json.dumps({"iamDelayS": IAM_DELAY_S}))
    one = Sandbox(state, REPOSITORY)
    one.run("start")
    yield one
    one.run("down", check=False)
    for process in one.processes():
        process.kill()


def vms_of(sandbox: Sandbox, stack: str) -> set[str]:
    status = json.loads(sandbox.operator("-m", "client", "status", "--stack", stack, "--json").stdout)
    return {vm["name"] for group in status["groups"] for vm in group["vms"]}


def test_stacks_of_one_file_do_not_touch_each_other(sandbox: Sandbox, tmp_path: Path) -> None:
    write_tiny_artifact(tmp_path / "artifact")
    sandbox.operator("-c", MAKE_BUCKET, REGISTRY)
    sandbox.operator("-m", "model", "publish", str(tmp_path / "artifact"), f"gs://{REGISTRY}")
    artifact = f"model.artifact=gs://{REGISTRY}/models/{KEY}/"
    for stack in STACKS:
        settings = ("--file", "Pulumi.local.yaml", "--config", artifact, "--config", POOLS)
        sandbox.run("up", stack, *settings, "--config", "loadBalancer.drainS=0")
    blue, green = (vms_of(sandbox, stack) for stack in STACKS)
    assert len(blue) == len(green) == 1
    assert blue.isdisjoint(green)
    assert any("trying again" in sandbox.run("logs", name).stdout for name in blue | green)

    sandbox.run("destroy", "blue")
    sandbox.run("preview", "green", "--", "--refresh", "--expect-no-changes")
    sandbox.operator("-m", "client", "wait", "--stack", "green", "--timeout", "60")
    assert vms_of(sandbox, "green") == green
