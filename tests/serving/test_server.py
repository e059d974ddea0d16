"""A whole VM: supervisor, gateway workers, real Triton and agent, told by a metadata server.

The tests run in their order: the last ones end the VM.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import ANY

import aiohttp
import numpy as np
import psutil
import pytest

import contract
from artifact.folder import ArtifactFolder
from tests.model.tiny import COLOURS, KEY, SIZE, colour_jpeg
from tests.serving.conftest import b64
from tests.serving.stand_ins import FakeGoogle, command, fake_google

pytestmark = pytest.mark.servers

REPOSITORY = Path(__file__).parents[2]
SERVING_BIN = REPOSITORY / ".venv-serving" / "bin"
HOST = "127.203.7.1"
URL = f"http://{HOST}:{contract.API_PORT}"
STATUS_URL = f"{URL}{contract.MODEL_PATH}"
PREDICT_URL = f"{URL}{contract.PREDICT_PATH}"
RED = {"instances": [b64(colour_jpeg("red"))]}


@dataclass
class Vm:
    """The processes of a VM."""

    supervisor: psutil.Process
    google: FakeGoogle
    log: Path

    def find(self, *words: str) -> list[psutil.Process]:
        """Processes of the VM whose command line holds all `words`."""
        found = []
        for process in self.supervisor.children(recursive=True):
            try:
                line = " ".join(process.cmdline())
            except psutil.NoSuchProcess:
                continue
            if all(word in line for word in words):
                found.append(process)
        return found

    def one(self, *words: str) -> psutil.Process:
        """The first of them."""
        return self.find(*words)[0]

    def events(self) -> list[dict[str, Any]]:
        """What was logged."""
        return [json.loads(line) for line in self.log.read_text().splitlines()]


@pytest.fixture(scope="module")
def vm(tiny: ArtifactFolder, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vm]:
    """A VM with one GPU that serves the tiny artifact."""
    folder = tmp_path_factory.mktemp("vm")
    state = folder / "state"
    (state / "models").mkdir(parents=True)
    (state / "models" / KEY).symlink_to(tiny.path)
    smi = 'case "$1" in -L) echo "GPU 0: Tesla T4";; *) echo "0, 37";; esac'
    command(folder / "bin", "nvidia-smi", smi)
    with fake_google(HOST, 8079) as google, (folder / "log").open("w") as log:
        google.metadata |= {
            "instance/name": "vm-1",
            "instance/id": "42",
            "instance/zone": "projects/1/zones/us-central1-a",
            "instance/network-interfaces/0/ip": HOST,
            "instance/preempted": "FALSE",
            "instance/maintenance-event": "NONE",
            "instance/service-accounts/default/token": '{"access_token": "t0ken", "expires_in": 3600}',
            "project/project-id": "p",
            f"instance/attributes/{contract.ARTIFACT_KEY}": f"gs://bucket/models/{KEY}/",
            f"instance/attributes/{contract.GPU_COUNT_KEY}": "1",
            f"instance/attributes/{contract.STACK_KEY}": "tensorrt-fleet/test",
        }
        environment = {
            "PATH": f"{folder / 'bin'}:{SERVING_BIN}:/usr/bin:/bin",
            "STATE_DIRECTORY": str(state),
            "GCE_METADATA_HOST": google.address,
            "GCE_METADATA_IP": google.address,
            "GOOGLE_MONITORING_CUSTOM_ENDPOINT": google.url,
        }
        process = subprocess.Popen(
            [SERVING_BIN / "python3", "-m", "serving"],
            cwd=REPOSITORY,
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        made = Vm(psutil.Process(process.pid), google, folder / "log")
        try:
            yield made
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()


async def until(condition: Callable[[], Any], what: str, seconds: float = 20.0) -> None:
    """Wait until the condition, an async function, holds."""
    deadline = time.monotonic() + seconds
    while not await condition():
        assert time.monotonic() < deadline, f"waited {seconds} s for {what}"
        await asyncio.sleep(0.05)


async def get(url: str) -> tuple[int, bytes]:
    """Status and body; 0 where nobody answers."""
    try:
        async with aiohttp.ClientSession() as session, session.get(url) as answer:
            return answer.status, await answer.read()
    except aiohttp.ClientError:
        return 0, b""


async def post(document: Any, url: str = PREDICT_URL) -> tuple[int, Any, dict[str, str]]:
    """Status, JSON and headers of a prediction."""
    async with aiohttp.ClientSession() as session, session.post(url, data=json.dumps(document)) as answer:
        return answer.status, await answer.json(), dict(answer.headers)


async def healthy() -> bool:
    return (await get(STATUS_URL))[0] == 200


async def unhealthy() -> bool:
    return (await get(STATUS_URL))[0] == 503


async def test_it_comes_up_and_classifies_a_photo(vm: Vm) -> None:
    assert vm.supervisor.is_running()
    await until(healthy, "health to turn 200", 60)
    for name in ("red", "yellow", "black"):
        status, answer, headers = await post({"instances": [b64(colour_jpeg(name))]})
        assert status == 200
        assert answer["predictions"][0]["classes"] == list(COLOURS).index(name)
        assert sum(answer["predictions"][0]["probabilities"]) == pytest.approx(1, abs=1e-5)
        assert headers["x-served-by"] == "vm-1"
        assert headers["x-model-key"] == KEY


async def test_a_batch_of_tensors_in_column_form(vm: Vm) -> None:
    del vm
    pixels = [np.broadcast_to((np.array(COLOURS[name]) - 127) / 128, (SIZE, SIZE, 3)) for name in ("blue", "white")]
    document = {"signature_name": "tensor", "inputs": [tensor.tolist() for tensor in pixels]}
    status, answer, _ = await post(document)
    assert status == 200
    assert answer["outputs"]["classes"] == [list(COLOURS).index("blue"), list(COLOURS).index("white")]


async def test_the_agent_writes_the_gpus_utilisation_while_in_rotation(vm: Vm) -> None:
    async def written() -> bool:
        return bool(vm.google.written())

    await until(written, "a point")
    (series,) = vm.google.written()[0]["timeSeries"]
    assert series["metric"]["type"] == contract.gpu_metric_type("tensorrt-fleet", "test")
    assert series["points"][0]["value"] == {"doubleValue": 37.0}


async def test_metrics_count_what_was_answered(vm: Vm) -> None:
    del vm
    status, body = await get(f"http://{HOST}:{contract.METRICS_PORT}/metrics")
    lines = dict(line.rsplit(" ", 1) for line in body.decode().splitlines() if not line.startswith("#"))
    assert status == 200
    assert float(lines['serving_requests_total{code="200",route="predict"}']) == 4
    assert float(lines["serving_request_images_sum"]) == 5
    assert float(lines["serving_in_rotation"]) == 1
    assert float(lines['serving_triton_images_total{model="default_image_gpu0"}']) >= 3
    assert float(lines['serving_triton_queue_seconds_total{model="default_image_gpu0"}']) > 0
    assert float(lines['serving_gpu_utilization_percent{gpu="0"}']) == 37
    assert float(lines['serving_canary_age_seconds{model="default_image_gpu0"}']) < 10


async def test_a_killed_stub_is_seen_and_comes_back(vm: Vm) -> None:
    triton = vm.one("bin/tritonserver")
    vm.one("triton_python_backend_stub", "default_image_gpu0").kill()
    await until(unhealthy, "health to turn 503")
    _, body = await get(STATUS_URL)
    assert b"Stub process" in body
    assert (await get(f"{URL}{contract.LIVENESS_PATH}"))[0] == 200
    await until(healthy, "health to come back")
    assert vm.one("bin/tritonserver").pid == triton.pid, "loading the model again was enough"
    assert (await post(RED))[:2] == (200, ANY)


async def test_a_killed_triton_comes_back_and_its_absence_is_503(vm: Vm) -> None:
    vm.one("bin/tritonserver").kill()
    await until(unhealthy, "health to turn 503")
    status, answer, _ = await post(RED)
    assert status == 503
    assert "Triton" in answer["error"]
    await until(healthy, "health to come back")
    assert (await post(RED))[:2] == (200, ANY)


async def test_killed_gateway_workers_and_agent_change_no_health(vm: Vm) -> None:
    workers = vm.find("serving.gateway")
    assert len(workers) >= 2
    workers[0].kill()
    vm.one("serving.agent").kill()
    for _ in range(20):
        assert await healthy()
        await asyncio.sleep(0.05)

    async def all_back() -> bool:
        pids = {process.pid for process in vm.find("serving.gateway")}
        return len(pids) == len(workers) and workers[0].pid not in pids and bool(vm.find("serving.agent"))

    await until(all_back, "the worker and the agent to come back")


async def test_a_triton_that_hangs_is_503_and_live(vm: Vm) -> None:
    triton = vm.one("bin/tritonserver")
    triton.suspend()
    try:
        await until(unhealthy, "health to turn 503")
        assert (await get(f"{URL}{contract.LIVENESS_PATH}"))[0] == 200
        assert (await post(RED))[0] == 503
    finally:
        triton.resume()
    await until(healthy, "health to come back")


async def test_burn_keeps_triton_busy(vm: Vm) -> None:
    process = await asyncio.create_subprocess_exec(
        SERVING_BIN / "python3",
        *("-m", "serving", "--host", HOST, "burn", "--seconds", "1"),
        cwd=REPOSITORY,
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await process.communicate()
    assert process.returncode == 0
    burnt = [json.loads(line) for line in output.splitlines()]
    assert {event["model"] for event in burnt} == {"default_image_gpu0", "default_tensor_gpu0"}
    assert all(event["images"] > 0 for event in burnt)
    del vm


async def test_a_maintenance_event_takes_it_out_of_rotation_until_it_is_over(vm: Vm) -> None:
    vm.google.set("instance/maintenance-event", "TERMINATE_ON_HOST_MAINTENANCE")
    await until(unhealthy, "health to turn 503")
    assert b"host maintenance" in (await get(STATUS_URL))[1]
    status, _, headers = await post(RED)
    assert (status, headers["Connection"]) == (200, "close")
    vm.google.set("instance/maintenance-event", "NONE")
    await until(healthy, "health to come back")


@dataclass
class Balancer:
    """Sends requests over kept connections as long as its probes pass; two in a row must fail to stop it."""

    answers: Counter[Any] = field(default_factory=Counter)
    stopped: bool = False

    async def probe(self) -> None:
        misses = 0
        while misses < 2:
            misses = 0 if await healthy() else misses + 1
            await asyncio.sleep(1.0)
        self.stopped = True

    async def send(self, session: aiohttp.ClientSession) -> None:
        body = json.dumps(RED)
        while not self.stopped:
            try:
                async with session.post(PREDICT_URL, data=body) as answer:
                    await answer.read()
                    self.answers[answer.status, answer.headers.get("Connection", "")] += 1
            except aiohttp.ClientError as error:
                self.answers[type(error).__name__, str(error)] += 1


async def test_sigterm_under_load_loses_no_request_and_exits_with_0(vm: Vm) -> None:
    balancer = Balancer()
    async with aiohttp.ClientSession() as session:
        senders = [asyncio.create_task(balancer.send(session)) for _ in range(8)]

        async def under_load() -> bool:
            return sum(balancer.answers.values()) > 100

        await until(under_load, "some load")
        began = time.monotonic()
        os.kill(vm.supervisor.pid, signal.SIGTERM)
        await balancer.probe()
        await asyncio.gather(*senders)
    assert set(balancer.answers) == {(200, ""), (200, "close")}, balancer.answers
    code = await asyncio.to_thread(vm.supervisor.wait, 40)
    assert code == 0
    assert 12 <= time.monotonic() - began < 30
    messages = [(event["message"], event.get("child")) for event in vm.events()]
    assert messages.index(("draining", None)) < messages.index(("no more connections are accepted", None))
    assert messages[-1][0] == "drained"


def test_nothing_stays_behind(vm: Vm) -> None:
    assert not [p for p in psutil.process_iter(["cmdline"]) if HOST in " ".join(p.info["cmdline"] or [])]
    assert not list(Path("/dev/shm").glob(f"tensorrt-fleet-{vm.supervisor.pid}-*"))  # noqa: S108


def test_every_line_of_the_log_is_an_event_of_the_vm(vm: Vm) -> None:
    events = vm.events()
    assert {event["vm"] for event in events} == {"vm-1"}
    assert all({"time", "severity", "message", "process"} <= event.keys() for event in events)
