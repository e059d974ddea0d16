"""Two stacks that share an artifact bucket ask for one model at once, and one of the builders is killed on the way."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from tests.end_to_end.fleet import Sandbox, until

pytestmark = [pytest.mark.servers, pytest.mark.slow]

STACKS = ("blue", "green")
BUCKET = "shared-artifacts"
LIST = """
import json, sys
from google.cloud import storage
print(json.dumps([blob.name for blob in storage.Client().bucket(sys.argv[1]).list_blobs()]))
"""


def up(sandbox: Sandbox, stack: str) -> None:
    settings = {
        "model.source": "builtin:smoke",
        "storage.artifactBucket": BUCKET,
        "loadBalancer.drainS": "5",
    }
    options = [option for path, value in settings.items() for option in ("--config", f"{path}={value}")]
    sandbox.run("up", stack, "--file", "Pulumi.local.yaml", *options)


def objects(sandbox: Sandbox) -> list[str]:
    names: list[str] = json.loads(sandbox.operator("-c", LIST, BUCKET).stdout)
    return names


def build_runs(sandbox: Sandbox) -> set[str]:
    return {name.split("/")[3] for name in objects(sandbox) if "/runs/" in name}


def kill_builder(sandbox: Sandbox, stack: str) -> bool:
    """Kill every process of a stack's builder VM; whether there were any."""
    killed = False
    for process in sandbox.processes():
        try:
            if f"/{stack}-builder-" in process.environ().get("SANDBOX_MACHINE", ""):
                process.kill()
                killed = True
        except psutil.NoSuchProcess:
            continue
    return killed


@pytest.fixture(scope="module")
def stacks(sandbox: Sandbox) -> Sandbox:
    """Both stacks, deployed at once; blue's builder is killed while it works."""
    sandbox.operator("-c", f"from google.cloud import storage; storage.Client().create_bucket({BUCKET!r})")
    with ThreadPoolExecutor() as pool:
        both = [pool.submit(up, sandbox, stack) for stack in STACKS]
        until("a builder works", lambda: build_runs(sandbox) or any(one.done() for one in both), 200)
        assert kill_builder(sandbox, "blue")
        for one in both:
            one.result()
    return sandbox


def test_racing_builders_end_with_one_artifact(stacks: Sandbox) -> None:
    names = [name for name in objects(stacks) if "/runs/" not in name]
    assert sorted(Path(name).suffix for name in names) == [".gz", ".json"], names


def test_the_same_inputs_are_never_built_twice(stacks: Sandbox) -> None:
    before = build_runs(stacks)
    for stack in STACKS:
        up(stacks, stack)
    assert build_runs(stacks) == before
