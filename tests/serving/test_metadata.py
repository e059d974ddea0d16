"""The metadata server's client, and the settings that a VM gets from it."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

import contract
from serving import settings
from serving.metadata import MetadataError, MetadataServer
from serving.settings import GpuMetric, Settings
from tests.serving.stand_ins import FakeGoogle, etag_of

KEY = "0123456789abcdef0123"


@pytest.fixture
def vm(google: FakeGoogle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeGoogle:
    """Metadata of a serving VM."""
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path))
    google.metadata |= {
        "instance/name": "fleet-x1",
        "instance/id": "123",
        "instance/zone": "projects/9/zones/us-central1-b",
        "instance/network-interfaces/0/ip": "10.0.0.7",
        "project/project-id": "p",
        f"instance/attributes/{contract.ARTIFACT_KEY}": f"gs://bucket/models/{KEY}/",
        f"instance/attributes/{contract.GPU_COUNT_KEY}": "4",
        f"instance/attributes/{contract.STACK_KEY}": "tensorrt-fleet/dev",
        f"instance/attributes/{contract.METRIC_SOURCE_KEY}": "agent",
    }
    return google


def test_a_vms_settings_come_from_its_metadata(vm: FakeGoogle, tmp_path: Path) -> None:
    made = settings.of_vm(vm.server)
    assert made.artifact == tmp_path / "models" / KEY
    assert (made.vm, made.host, made.port, made.gpus) == ("fleet-x1", "10.0.0.7", 8888, 4)
    assert (made.drain_s, made.finish_s) == (12.0, 25.0)
    assert made.gpu_metric == GpuMetric(
        type=contract.gpu_metric_type("tensorrt-fleet", "dev"), project="p", zone="us-central1-b", instance_id="123"
    )
    assert Settings.from_json(made.to_json()) == made


def test_a_vm_drains_until_the_balancer_has_seen_it(vm: FakeGoogle) -> None:
    """Its last probe before the drain may have been answered with 200."""
    noticed_s = (contract.PROBES_TO_UNHEALTHY + 1) * contract.PROBE_INTERVAL_S
    assert settings.of_vm(vm.server).drain_s > noticed_s


def test_the_ops_agent_writes_instead_of_ours_by_metadata(vm: FakeGoogle) -> None:
    vm.metadata[f"instance/attributes/{contract.METRIC_SOURCE_KEY}"] = "ops-agent"
    assert settings.of_vm(vm.server).gpu_metric is None


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        (contract.ARTIFACT_KEY, "gs://bucket/else", "fleet-artifact: 'gs://bucket/else' is no artifact's address"),
        (contract.GPU_COUNT_KEY, "many", "fleet-gpus: 'many' is no number of GPUs"),
        (contract.STACK_KEY, "", "has no instance/attributes/fleet-stack"),
    ],
)
def test_metadata_that_makes_no_sense_is_named(vm: FakeGoogle, key: str, value: str, text: str) -> None:
    vm.metadata[f"instance/attributes/{key}"] = value
    with pytest.raises(MetadataError, match=text):
        settings.of_vm(vm.server)


def test_no_metadata_server_is_an_error_that_names_it() -> None:
    with pytest.raises(MetadataError, match=r"127\.0\.0\.1:9"):
        MetadataServer("127.0.0.1:9").get("instance/name")


def test_the_server_is_found_by_googles_variable() -> None:
    assert MetadataServer.of_environment({"GCE_METADATA_HOST": "127.1.2.3:8079"}).host == "127.1.2.3:8079"
    assert MetadataServer.of_environment({}).host == "metadata.google.internal"


def test_a_proxy_of_the_environment_is_not_asked(vm: FakeGoogle) -> None:
    program = "from serving.metadata import MetadataServer; print(MetadataServer.of_environment().get('instance/name'))"
    environment = dict(os.environ) | {
        "GCE_METADATA_HOST": vm.address,
        "http_proxy": "http://127.0.0.1:9",
        "no_proxy": "",
    }
    result = subprocess.run(
        [sys.executable, "-c", program],
        env=environment,
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.stdout == "fleet-x1\n", result.stderr


def test_a_token_is_fetched_once_until_it_expires(google: FakeGoogle) -> None:
    path = "instance/service-accounts/default/token"
    google.metadata[path] = '{"access_token": "one", "expires_in": 3600}'
    server = google.server
    assert server.access_token() == "one"
    google.metadata[path] = '{"access_token": "two", "expires_in": 30}'
    assert server.access_token() == "one"
    fresh = google.server
    assert fresh.access_token() == "two"
    google.metadata[path] = '{"access_token": "three", "expires_in": 3600}'
    assert fresh.access_token() == "three", "a token about to expire is not used"


async def test_a_watch_tells_the_value_now_and_every_change(google: FakeGoogle) -> None:
    values: asyncio.Queue[str] = asyncio.Queue()
    google.metadata["instance/preempted"] = "FALSE"
    google.server.watch("instance/preempted", values.put_nowait)
    assert await asyncio.wait_for(values.get(), 5) == "FALSE"
    await asyncio.to_thread(google.set, "instance/preempted", "TRUE")
    assert await asyncio.wait_for(values.get(), 5) == "TRUE"
    assert values.empty()
    assert set(google.etags) <= {etag_of("FALSE"), etag_of("TRUE")}, "a wait for a change begins from what is known"
