from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.client.conftest import Run
from tests.client.google_fake import GoogleFake, managed_instance

pytestmark = pytest.mark.usefixtures("pulumi")


def test_tables_show_groups_vms_health_autoscaler_and_gpu(run: Run, google: GoogleFake) -> None:
    google.health[1]["healthState"] = "UNHEALTHY"
    google.instances[1]["instanceHealth"] = [{"detailedHealthState": "TIMEOUT"}]
    outcome = run("status")
    assert (outcome.code, outcome.err) == (0, "")
    groups, vms = outcome.out.split("VMs\n")
    assert "fleet-main  us-central1     2  ACTIVE 2 to 4, wants 2  fleet-abc  version reached, stable" in groups
    _, first, second = (" ".join(line.split()) for line in vms.splitlines())
    assert first == "vm-a us-central1-a RUNNING NONE fleet-abc HEALTHY 41 10"
    assert second == "vm-b us-central1-b RUNNING NONE fleet-abc UNHEALTHY 62 10 autohealing check TIMEOUT"


def test_json_carries_the_same(run: Run, google: GoogleFake) -> None:
    google.instances[0]["lastAttempt"] = {"errors": {"errors": [{"code": "QUOTA_EXCEEDED", "message": "T4"}]}}
    (group,) = json.loads(run("status", "--json").out)["groups"]
    assert (group["stable"], group["versionReached"], group["paused"]) == (True, True, False)
    assert group["autoscaler"]["recommendedSize"] == 2
    vm = group["vms"][0]
    assert (vm["name"], vm["zone"], vm["health"], vm["gpuUtilisationPercent"]) == (
        "vm-a",
        "us-central1-a",
        "HEALTHY",
        41.0,
    )
    assert vm["reason"] == "QUOTA_EXCEEDED: T4"
    assert 9 <= vm["metricAgeSeconds"] <= 12


def test_vm_without_metric_or_probe_shows_a_dash(run: Run, google: GoogleFake) -> None:
    google.gpu.clear()
    google.health.clear()
    (group,) = json.loads(run("status", "--json").out)["groups"]
    assert {(vm["health"], vm["gpuUtilisationPercent"]) for vm in group["vms"]} == {(None, None)}


def test_metric_that_monitoring_does_not_know_yet_is_no_failure(run: Run, google: GoogleFake) -> None:
    google.refuse("timeSeries", 404, "Cannot find metric(s) that match type")
    outcome = run("status", "--json")
    assert outcome.code == 0
    (group,) = json.loads(outcome.out)["groups"]
    assert [vm["gpuUtilisationPercent"] for vm in group["vms"]] == [None, None]


def test_several_series_of_one_vm_are_shown_as_their_mean(run: Run, google: GoogleFake) -> None:
    google.gpu = [("111", 0.0), ("111", 100.0), ("111", 20.0), ("111", 40.0)]
    (group,) = json.loads(run("status", "--json").out)["groups"]
    assert [vm["gpuUtilisationPercent"] for vm in group["vms"]] == [40.0, None]


def test_all_pages_are_read(run: Run, google: GoogleFake) -> None:
    google.instances.append(managed_instance("vm-c", "us-central1-a", "333"))
    google.gpu.append(("333", 7.0))
    google.page_size = 2
    (group,) = json.loads(run("status", "--json").out)["groups"]
    assert [vm["name"] for vm in group["vms"]] == ["vm-a", "vm-c", "vm-b"], "by zone, then name"
    assert [vm["gpuUtilisationPercent"] for vm in group["vms"]] == [41.0, 7.0, 62.5]


def test_paused_and_missing_autoscalers_are_told_apart(run: Run, google: GoogleFake) -> None:
    google.autoscaler["autoscalingPolicy"] = {"minNumReplicas": 0, "maxNumReplicas": 0, "mode": "ON"}
    assert "paused (0 to 0)" in run("status").out
    del google.manager["status"]["autoscaler"]
    assert "  none  " in run("status").out


def test_autoscalers_warning_is_shown(run: Run, google: GoogleFake) -> None:
    google.autoscaler["statusDetails"] = [{"type": "MISSING_CUSTOM_METRIC_DATA_POINTS", "message": "no data"}]
    assert "ACTIVE 2 to 4, wants 2; no data" in run("status").out


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (403, "Ask for roles/compute.viewer"),
        (404, "pulumi refresh"),
        (500, "Try again in a moment."),
        (429, "Try again in a moment."),
    ],
)
def test_refusal_is_one_line_with_googles_message_and_next_step(
    run: Run, google: GoogleFake, status: int, expected: str
) -> None:
    google.refuse("instanceGroupManagers/fleet-main$", status, "Required 'compute.x' permission")
    outcome = run("status")
    assert outcome.code == 1
    (line,) = outcome.err.splitlines()
    assert f"answered {status}: Required 'compute.x' permission. " in line
    assert expected in line


def test_disabled_api_is_named_with_the_command_that_enables_it(run: Run, google: GoogleFake) -> None:
    detail = {"reason": "SERVICE_DISABLED", "metadata": {"service": "monitoring.googleapis.com"}}
    google.refuse("timeSeries", 403, "Cloud Monitoring API has not been used", [detail])
    assert "Enable it: `gcloud services enable monitoring.googleapis.com`." in run("status").err


def test_missing_credentials_are_one_line(run: Run, pulumi: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    monkeypatch.setenv("HOME", str(pulumi))
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(pulumi / "gcloud"))
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    outcome = run("status")
    assert outcome.code == 1
    (line,) = outcome.err.splitlines()
    assert line.startswith("error: no Google credentials: ")
    assert "gcloud auth application-default login" in line


@pytest.mark.usefixtures("google")
def test_unreachable_api_is_one_line(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOOGLE_COMPUTE_CUSTOM_ENDPOINT", "http://127.0.0.1:1/compute/v1/")
    outcome = run("status")
    assert outcome.code == 1
    (line,) = outcome.err.splitlines()
    assert "did not answer" in line
