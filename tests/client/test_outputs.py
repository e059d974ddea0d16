from __future__ import annotations

import json
from pathlib import Path

import pytest

from client.errors import ClientError
from client.outputs import GroupName, StackOutputs, chosen_stack, read_outputs
from tests.client.conftest import Run
from tests.client.google_fake import default_outputs

pytestmark = pytest.mark.usefixtures("pulumi")


@pytest.mark.parametrize(
    "link",
    [
        "https://www.googleapis.com/compute/v1/projects/p/regions/us-central1/instanceGroups/g",
        "https://www.googleapis.com/compute/v1/projects/p/regions/us-central1/instanceGroupManagers/g",
        "projects/p/regions/us-central1/instanceGroupManagers/g",
    ],
)
def test_group_is_found_in_every_form_of_its_address(link: str) -> None:
    outputs = StackOutputs.model_validate({**default_outputs(), "instanceGroups": [link]})
    assert outputs.groups == (GroupName("p", "us-central1", "g"),)


def test_all_outputs_are_printed_as_json(run: Run) -> None:
    assert json.loads(run("outputs", "--stack", "blue").out) == default_outputs()


@pytest.mark.parametrize(
    ("outputs", "expected"),
    [
        ({}, "stack 'blue' has no outputs: it is not deployed"),
        ({**default_outputs(), "endpoint": None}, "another form: `endpoint`"),
        ({"endpoint": "http://x"}, "`backendService`, `gpuMetric`, `instanceGroups`"),
    ],
)
def test_stack_that_is_not_deployed_to_its_end_says_so(pulumi: Path, outputs: object, expected: str) -> None:
    (pulumi / "outputs.json").write_text(json.dumps(outputs))
    with pytest.raises(ClientError) as caught:
        read_outputs("blue")
    assert expected in str(caught.value)


@pytest.mark.parametrize(
    ("stacks", "variable", "expected"),
    [
        ([("blue", True, 9), ("red", False, 9)], None, "blue"),
        ([("blue", False, 0), ("red", False, 9)], None, "red"),
        ([("blue", True, 0), ("red", False, 9)], None, "blue"),
        ([("blue", True, 9)], "red", "red"),
    ],
)
def test_stack_is_the_named_the_selected_or_the_only_deployed_one(
    pulumi: Path,
    monkeypatch: pytest.MonkeyPatch,
    stacks: list[tuple[str, bool, int]],
    variable: str | None,
    expected: str,
) -> None:
    keys = ("name", "current", "resourceCount")
    (pulumi / "stacks.json").write_text(json.dumps([dict(zip(keys, one, strict=True)) for one in stacks]))
    if variable:
        monkeypatch.setenv("PULUMI_STACK", variable)
    assert chosen_stack(None) == expected
    assert chosen_stack("green") == "green"


def test_several_deployed_stacks_of_which_none_is_selected_are_named(run: Run, pulumi: Path) -> None:
    stacks = [{"name": name, "current": False, "resourceCount": 9} for name in ("blue", "red")]
    (pulumi / "stacks.json").write_text(json.dumps(stacks))
    outcome = run("status")
    assert outcome.err == "error: no stack is selected. Name one with --stack; the backend has: blue, red.\n"


def test_address_of_another_kind_is_refused() -> None:
    outputs = StackOutputs.model_validate({**default_outputs(), "instanceGroups": ["projects/p/zones/z/instances/i"]})
    with pytest.raises(ClientError, match="stack output `instanceGroups`"):
        _ = outputs.groups


def test_clis_own_reason_is_passed_on(run: Run, pulumi: Path) -> None:
    (pulumi / "error").write_text("error: no stack named 'blue' found\n")
    outcome = run("status", "--stack", "blue")
    assert outcome.code == 1
    assert outcome.err.startswith("error: `pulumi stack output --json` failed: no stack named 'blue' found. ")


def test_missing_cli_is_one_line(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    outcome = run("outputs")
    assert (outcome.code, outcome.err.count("\n")) == (1, 1)
    assert "the Pulumi CLI is not on PATH" in outcome.err
