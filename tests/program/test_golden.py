"""What each stack file deploys, in full. A change that shows here is a change of somebody's cloud."""

from __future__ import annotations

import pytest

from tests.program.golden import check, readable
from tests.program.harness import STACKS, UNKNOWN, run_program, stack_config


@pytest.mark.parametrize("preview", [True, False], ids=["preview", "up"])
@pytest.mark.parametrize("stack", STACKS)
def test_graph_of_a_stack_file_is_the_reviewed_one(stack: str, preview: bool, update_golden: bool) -> None:
    graph = run_program(stack_config(stack), stack=stack, preview=preview)

    check(f"{stack}.{'preview' if preview else 'up'}", readable(graph), update=update_golden)


@pytest.mark.parametrize("stack", STACKS)
def test_preview_and_up_register_the_same_resources(stack: str) -> None:
    preview = run_program(stack_config(stack), stack=stack, preview=True)
    up = run_program(stack_config(stack), stack=stack)

    assert [r.urn for r in preview.resources] == [r.urn for r in up.resources]


@pytest.mark.parametrize("stack", STACKS)
def test_what_needs_no_cloud_is_known_in_preview(stack: str) -> None:
    outputs = run_program(stack_config(stack), stack=stack, preview=True).outputs

    known = {name for name, value in outputs.items() if UNKNOWN not in str(value)}
    assert known >= {
        "artifactBucket",
        "gpuMetric",
        "modelKey",
        "modelUri",
        "monthlyCostUsdMax",
        "monthlyCostUsdMin",
        "quotaRequired",
    }
