"""Generated requests, most of them bad, against a VM's real processes; and the generator itself."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from artifact.folder import ArtifactFolder
from benchmarks.serving.fuzz import LIMITS, SMOKE_ARTIFACT, Outcome, fault, run
from benchmarks.serving.mutators import Expected, Mutators
from benchmarks.serving.photos import artifact_of
from benchmarks.serving.reference import Reference
from benchmarks.serving.vm import running
from benchmarks.serving.wire import Reply

HOST = "127.208.12.1"
SEED = 20261124
REQUESTS = 3000


@pytest.fixture(scope="module")
def mutators(tiny: ArtifactFolder) -> Mutators:
    return Mutators(Reference(tiny.path))


def test_a_seed_names_the_same_requests_for_good(mutators: Mutators) -> None:
    first, again, other = ([case.parts for case in mutators.cases(seed, 30)] for seed in (1, 1, 2))
    assert first == again != other


def test_every_tenth_request_is_valid_and_every_mutator_has_its_turn(mutators: Mutators) -> None:
    cases = list(mutators.cases(3, 300))
    assert all(case.mutator.startswith("valid") for case in cases[::10])
    assert len({case.mutator for case in cases}) > 30


def test_an_answer_is_judged_by_status_text_and_scores(mutators: Mutators) -> None:
    scores = next(case.expected[0].scores for case in mutators.cases(1, 1))
    rows = [{"classes": int(one.argmax()), "probabilities": one.tolist()} for one in scores]
    right = json.dumps({"predictions": rows}).encode()
    rows[0]["probabilities"][0] += 0.01
    wrong = json.dumps({"predictions": rows}).encode()
    good = Expected(200, scores=scores)
    assert fault(good, Reply(200, {}, right)) == ""
    assert "other probabilities" in fault(good, Reply(200, {}, wrong))
    assert "500 instead of 200" in fault(good, Reply(500, {}, b""))
    assert "no answer" in fault(good, None)
    bad = Expected(400, "instances[3]")
    assert fault(bad, Reply(400, {}, b'{"error": "instances[3]: no"}')) == ""
    assert "does not say" in fault(bad, Reply(400, {}, b'{"error": "instances[2]: no"}'))


@pytest.mark.parametrize(
    "changes",
    [
        {"faults": ["x"]},
        {"restarts": ["triton"]},
        {"failures": 1},
        {"resident_late": 111 * 2**20},
    ],
)
def test_what_must_not_be_is_a_problem(changes: dict[str, object]) -> None:
    outcome = Outcome(resident_early=100 * 2**20, resident_late=109 * 2**20)
    outcome.health[200] = outcome.statuses[400] = 1
    assert outcome.problems == []
    for name, value in changes.items():
        setattr(outcome, name, value)
    assert len(outcome.problems) == 1
    outcome.statuses[503] = outcome.health[503] = 1
    assert len(outcome.problems) == 3


@pytest.mark.servers
@pytest.mark.slow
async def test_a_vm_answers_generated_requests_as_it_must(tmp_path: Path) -> None:
    artifact = artifact_of("builtin:smoke", SMOKE_ARTIFACT)
    with running(artifact, HOST, tmp_path / "vm.log", LIMITS) as vm:
        outcome = await run(vm, Mutators(Reference(artifact)), SEED, REQUESTS)
    assert outcome.requests == REQUESTS
    assert outcome.problems == []
