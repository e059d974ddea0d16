"""The GPU agent: what it writes, where, and when it writes nothing."""

from __future__ import annotations

import datetime as dt
import time
from dataclasses import replace
from pathlib import Path

import pytest

import contract
from serving import agent, gpus
from serving.health import StatusFile
from serving.settings import GpuMetric
from tests.serving.conftest import SERVING
from tests.serving.stand_ins import FakeGoogle, command

METRIC = GpuMetric(
    type=contract.gpu_metric_type("tensorrt-fleet", "dev"), project="p", zone="us-central1-a", instance_id="42"
)


@pytest.fixture
def status(tmp_path: Path) -> StatusFile:
    """Of a VM in rotation."""
    file = StatusFile(tmp_path / "status.json")
    file.write(replace(SERVING, at=time.monotonic()))
    return file


@pytest.fixture
def monitoring(google: FakeGoogle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeGoogle:
    """Where the agent's writes go; four GPUs are 10, 20, 30 and 100 % busy."""
    google.metadata["instance/service-accounts/default/token"] = '{"access_token": "t0ken", "expires_in": 3600}'
    monkeypatch.setenv("GOOGLE_MONITORING_CUSTOM_ENDPOINT", google.url)
    command(
        tmp_path / "bin",
        "nvidia-smi",
        '[[ "$*" == "--query-gpu=index,utilization.gpu --format=csv,noheader,nounits" ]] || exit 2\n'
        "printf '0, 10\\n1, 20\\n2, 30\\n3, 100\\n'",
    )
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=":")
    return google


async def test_one_gauge_with_the_mean_of_all_gpus(monitoring: FakeGoogle, status: StatusFile) -> None:
    assert await agent.report(METRIC, status, monitoring.server)
    ((path, headers, body),) = monitoring.requests
    assert path == "/v3/projects/p/timeSeries"
    assert headers["Authorization"] == "Bearer t0ken"
    (series,) = body["timeSeries"]
    assert series["metric"] == {"type": "custom.googleapis.com/tensorrt_fleet/dev/gpu_utilization"}
    assert series["resource"] == {
        "type": "gce_instance",
        "labels": {"instance_id": "42", "zone": "us-central1-a", "project_id": "p"},
    }
    assert (series["metricKind"], series["valueType"]) == ("GAUGE", "DOUBLE")
    (point,) = series["points"]
    assert point["value"] == {"doubleValue": 40.0}
    age = dt.datetime.now(dt.UTC) - dt.datetime.fromisoformat(point["interval"]["endTime"])
    assert abs(age.total_seconds()) < 60


@pytest.mark.parametrize(
    "changes", [{"serving": False, "reason": "Triton: starting"}, {"serving": False, "draining": True}, {"at": -1e6}]
)
async def test_a_vm_out_of_rotation_writes_nothing(
    monitoring: FakeGoogle, status: StatusFile, changes: dict[str, object]
) -> None:
    status.write(replace(SERVING, **{"at": time.monotonic(), **changes}))  # type: ignore[arg-type]
    assert not await agent.report(METRIC, status, monitoring.server)
    assert monitoring.written() == []


async def test_a_refusal_is_told_with_monitorings_own_words(monitoring: FakeGoogle, status: StatusFile) -> None:
    monitoring.refusals = 1
    with pytest.raises(agent.WriteError, match=r"HTTP 403: .*no permission yet"):
        await agent.report(METRIC, status, monitoring.server)


async def test_without_nvidia_smi_nothing_is_written(
    monitoring: FakeGoogle, status: StatusFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(gpus.NvidiaSmiError, match="No such file"):
        await agent.report(METRIC, status, monitoring.server)
    assert monitoring.written() == []


@pytest.mark.parametrize("rows", [[], ["0, [N/A]"], ["No devices were found"]])
def test_a_gpu_without_utilisation_is_no_zero(rows: list[str]) -> None:
    with pytest.raises(gpus.NvidiaSmiError):
        gpus.mean_of_rows(rows)


def test_the_agent_has_googles_endpoint_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GOOGLE_MONITORING_CUSTOM_ENDPOINT", raising=False)
    asked: list[str] = []

    def refuse(request: object, timeout: float) -> None:
        del timeout
        asked.append(request.full_url)  # type: ignore[attr-defined]
        raise OSError("no network here")

    monkeypatch.setattr("urllib.request.urlopen", refuse)
    with pytest.raises(agent.WriteError, match="no network here"):
        agent.write(METRIC, {}, "t")
    assert asked == ["https://monitoring.googleapis.com/v3/projects/p/timeSeries"]
