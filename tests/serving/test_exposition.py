"""Metrics that the VM shows on port 8889 beside its own: Triton's counters and the GPUs' utilisation."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest
from prometheus_client import CollectorRegistry, generate_latest

import contract
from serving import exposition
from serving.exposition import Exposition
from serving.health import ModelHealth, VmHealth
from tests.serving.stand_ins import command

HOST = "127.207.1.1"
TRITON = b"""# HELP nv_inference_count Number of inferences performed
# TYPE nv_inference_count counter
nv_inference_count{model="default_image_gpu0",version="1"} 96
# TYPE nv_inference_exec_count counter
nv_inference_exec_count{model="default_image_gpu0",version="1"} 12
# TYPE nv_inference_queue_duration_us counter
nv_inference_queue_duration_us{model="default_image_gpu0",version="1"} 2500000
# TYPE nv_inference_compute_infer_duration_us counter
nv_inference_compute_infer_duration_us{model="default_image_gpu0",version="1"} 4000000
# TYPE nv_energy_consumption counter
nv_energy_consumption{gpu_uuid="x"} 1
"""


@contextmanager
def triton() -> Iterator[None]:
    """Answers Triton's metrics port."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(TRITON)

    server = HTTPServer((HOST, contract.TRITON_METRICS_PORT), Handler)
    Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()


def scrape(folder: Path, gpus: int = 0) -> dict[str, float]:
    """What a scrape gives, by name and labels."""
    health = VmHealth(
        started=time.monotonic(),
        models={"default_image_gpu0": ModelHealth("default_image_gpu0", 0)},
        gpus_expected=gpus,
    )
    health.models["default_image_gpu0"].last_pass = time.monotonic() - 3
    registry: CollectorRegistry = Exposition(folder, health, HOST)._registry
    lines = generate_latest(registry).decode().splitlines()
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))}


def test_tritons_counters_are_shown_in_seconds_by_model(tmp_path: Path) -> None:
    with triton():
        shown = scrape(tmp_path)
    assert {name: value for name, value in shown.items() if "triton" in name} == {
        'serving_triton_images_total{model="default_image_gpu0"}': 96,
        'serving_triton_batches_total{model="default_image_gpu0"}': 12,
        'serving_triton_queue_seconds_total{model="default_image_gpu0"}': 2.5,
        'serving_triton_infer_seconds_total{model="default_image_gpu0"}': 4.0,
    }


def test_without_triton_the_rest_is_shown(tmp_path: Path) -> None:
    shown = scrape(tmp_path)
    assert not [name for name in shown if "triton" in name]
    assert shown['serving_canary_age_seconds{model="default_image_gpu0"}'] == pytest.approx(3, abs=1)


def test_each_gpus_utilisation_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command(tmp_path / "bin", "nvidia-smi", 'echo "0, 37"; echo "1, 90"')
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    shown = scrape(tmp_path, gpus=2)
    assert shown['serving_gpu_utilization_percent{gpu="0"}'] == 37
    assert shown['serving_gpu_utilization_percent{gpu="1"}'] == 90


def test_an_nvidia_smi_that_hangs_costs_only_its_metric(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command(tmp_path / "bin", "nvidia-smi", "exec sleep 10")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    monkeypatch.setattr(exposition, "_TIMEOUT_S", 0.1)
    shown = scrape(tmp_path, gpus=1)
    assert not [name for name in shown if "gpu_utilization" in name]
    assert "serving_live" in shown
