from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.client.conftest import Run
from tests.client.google_fake import GoogleFake

pytestmark = pytest.mark.usefixtures("pulumi")


def states(outcome_json: str) -> dict[str, str]:
    return {check["name"]: check["state"] for check in json.loads(outcome_json)}


@pytest.fixture(autouse=True)
def pinned_cli(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.metadata.version", lambda _: "3.259.0")


@pytest.mark.usefixtures("google")
def test_all_is_well(run: Run) -> None:
    outcome = run("doctor", "--json")
    assert outcome.code == 0
    assert states(outcome.out) == {
        "Pulumi CLI": "ok",
        "stack outputs": "ok",
        "credentials": "ok",
        "Compute Engine API": "ok",
        "Monitoring API": "ok",
        "Cloud Storage API": "ok",
        "quota GPUS_ALL_REGIONS in all regions": "ok",
        "quota NVIDIA_T4_GPUS in us-central1": "ok",
    }


def test_quota_below_what_the_stack_needs_fails_with_both_numbers(run: Run, google: GoogleFake) -> None:
    google.quotas["GPUS_ALL_REGIONS"] = 23
    outcome = run("doctor")
    assert outcome.code == 1
    (line,) = (line for line in outcome.out.splitlines() if "failed" in line)
    assert "GPUS_ALL_REGIONS in all regions  limit 23, in use 8, the stack needs at least 24" in line
    assert "Ask for 24" in line


def test_quota_that_the_api_does_not_report_is_skipped_not_ok(run: Run, google: GoogleFake) -> None:
    del google.quotas["NVIDIA_T4_GPUS"]
    outcome = run("doctor", "--json")
    assert states(outcome.out)["quota NVIDIA_T4_GPUS in us-central1"] == "skipped"


def test_disabled_api_fails_with_the_command_that_enables_it(run: Run, google: GoogleFake) -> None:
    detail = {"reason": "SERVICE_DISABLED", "metadata": {"service": "storage.googleapis.com"}}
    google.refuse("/storage/v1/b", 403, "Cloud Storage has not been used", [detail])
    outcome = run("doctor", "--json")
    assert outcome.code == 1
    check = next(one for one in json.loads(outcome.out) if one["name"] == "Cloud Storage API")
    assert (check["state"], check["remedy"]) == (
        "failed",
        "Enable it: `gcloud services enable storage.googleapis.com`.",
    )


@pytest.mark.usefixtures("google")
def test_other_cli_version_fails(run: Run, pulumi: Path) -> None:
    (pulumi / "version").write_text("v3.1.0\n")
    outcome = run("doctor")
    assert outcome.code == 1
    assert "version 3.1.0, but the program's SDK is 3.259.0" in outcome.out


@pytest.mark.usefixtures("google")
def test_before_the_first_deployment_everything_else_is_still_checked(run: Run, pulumi: Path) -> None:
    (pulumi / "outputs.json").write_text("{}")
    outcome = run("doctor", "--json")
    found = states(outcome.out)
    assert (found["stack outputs"], found["Compute Engine API"]) == ("skipped", "ok")
    assert found["quota GPUS_ALL_REGIONS in all regions"] == "ok"
    assert outcome.code == 0


def test_project_without_any_gpu_is_told_before_the_first_deployment(
    run: Run, google: GoogleFake, pulumi: Path
) -> None:
    (pulumi / "outputs.json").write_text("{}")
    google.quotas["GPUS_ALL_REGIONS"] = 0
    outcome = run("doctor", "--json")
    assert (states(outcome.out)["quota GPUS_ALL_REGIONS in all regions"], outcome.code) == ("failed", 1)


@pytest.mark.usefixtures("google")
def test_stack_that_does_not_exist_fails(run: Run, pulumi: Path) -> None:
    (pulumi / "error").write_text("error: no stack named 'blue' found\n")
    outcome = run("doctor", "--stack", "blue", "--json")
    assert (states(outcome.out)["stack outputs"], outcome.code) == ("failed", 1)


def test_without_credentials_what_needs_them_is_skipped(
    run: Run, pulumi: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(pulumi / "gcloud"))
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    outcome = run("doctor", "--json")
    assert outcome.code == 1
    assert states(outcome.out) == {
        "Pulumi CLI": "ok",
        "stack outputs": "ok",
        "credentials": "failed",
        "APIs": "skipped",
        "quotas": "skipped",
    }
