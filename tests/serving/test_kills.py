"""kill -9 of every part of a VM, in any order and under load. A loop stands for systemd, which starts the unit again.

The tests run in their order: the last one wears the VM out.
"""

from __future__ import annotations

import asyncio
import random
import subprocess
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest

import contract
from artifact.folder import ArtifactFolder
from serving.health import CANARY_INTERVAL_S
from tests.model.tiny import colour_jpeg
from tests.serving.conftest import b64

pytestmark = pytest.mark.servers

REPOSITORY = Path(__file__).parents[2]
SERVING_BIN = REPOSITORY / ".venv-serving" / "bin"
HOST = "127.208.13.1"
URL = f"http://{HOST}:{contract.API_PORT}"
RED = {"instances": [b64(colour_jpeg("red"))]}
GIVE_UP_AFTER = 5
SEEN_S = CANARY_INTERVAL_S + contract.PROBE_INTERVAL_S
"""A dead part is found by the next canary, and that by the next probe."""
BACK_S = 60.0


@dataclass
class Unit:
    """A VM's unit: the loop that starts the supervisor again, and what runs below it."""

    loop: psutil.Process

    def find(self, *words: str) -> list[psutil.Process]:
        """Its processes whose command line holds all words."""
        found = []
        for process in self.loop.children(recursive=True):
            try:
                line = " ".join(process.cmdline())
            except psutil.NoSuchProcess:
                continue
            if all(word in line for word in words):
                found.append(process)
        return found

    @property
    def supervisor(self) -> psutil.Process:
        return self.find("-m serving ")[0]

    def kill(self, part: str) -> psutil.Process:
        """kill -9 one process of a kind."""
        words = {
            "stub": ("triton_python_backend_stub", "default_image_gpu0"),
            "Triton": ("bin/tritonserver",),
            "gateway worker": ("serving.gateway",),
            "supervisor": ("-m serving ",),
        }
        process = self.find(*words[part])[0]
        process.kill()
        return process


@pytest.fixture(scope="module")
def unit(tiny: ArtifactFolder, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Unit]:
    """The VM, restarted as the unit's Restart=always does it."""
    command = (
        f"{SERVING_BIN}/python3 -m serving --artifact {tiny.path} --host {HOST} --set give_up_after={GIVE_UP_AFTER}"
    )
    log = tmp_path_factory.mktemp("kills") / "log"
    with log.open("w") as out:
        process = subprocess.Popen(
            ["bash", "-c", f"while :; do {command}; sleep 0.2; done"],
            cwd=REPOSITORY,
            env={"PATH": f"{SERVING_BIN}:/usr/bin:/bin"},
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        made = Unit(psutil.Process(process.pid))
        try:
            yield made
        finally:
            supervisors = made.find("-m serving ")
            process.kill()
            process.wait()
            for supervisor in supervisors:
                supervisor.terminate()
            psutil.wait_procs(supervisors, 30)


async def status(path: str) -> int:
    """Code of a health check, 0 where nobody answers: a probe takes both for a failure."""
    timeout = aiohttp.ClientTimeout(total=contract.PROBE_INTERVAL_S)
    try:
        async with aiohttp.ClientSession(timeout=timeout) as session, session.get(URL + path) as answer:
            return answer.status
    except (aiohttp.ClientError, TimeoutError):
        return 0


async def until(what: str, seconds: float, condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + seconds
    while not await condition():
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}"
        await asyncio.sleep(0.05)


async def healthy() -> bool:
    return await status(contract.MODEL_PATH) == 200


async def unhealthy() -> bool:
    return not await healthy()


async def predict(session: aiohttp.ClientSession) -> int | str:
    """Status of a prediction, or the kind of error of its connection."""
    try:
        async with session.post(URL + contract.PREDICT_PATH, json=RED) as answer:
            await answer.read()
            return answer.status
    except aiohttp.ClientError as error:
        return type(error).__name__


@asynccontextmanager
async def load() -> AsyncIterator[Counter[int | str]]:
    """A steady stream of predictions; counts how they ended."""
    answers: Counter[int | str] = Counter()

    async def send(session: aiohttp.ClientSession) -> None:
        while True:
            answers[await predict(session)] += 1
            await asyncio.sleep(0.02)

    async with aiohttp.ClientSession() as session:
        senders = [asyncio.create_task(send(session)) for _ in range(4)]
        try:
            yield answers
        finally:
            for sender in senders:
                sender.cancel()
            await asyncio.gather(*senders, return_exceptions=True)


def memory_of(supervisor: psutil.Process) -> list[Path]:
    """Shared memory that a supervisor's Triton has left behind."""
    return list(Path("/dev/shm").glob(f"tensorrt-fleet-{supervisor.pid}-*"))  # noqa: S108


PARTS = ("stub", "Triton", "gateway worker", "supervisor")


@pytest.mark.parametrize("seed", [1, 2])
async def test_whatever_is_killed_comes_back_by_itself(unit: Unit, seed: int) -> None:
    await until("the VM serves", BACK_S, healthy)
    async with load() as answers:
        for part in random.Random(seed).sample(PARTS, len(PARTS)):  # noqa: S311 - an order, not a secret
            before = unit.find("")
            killed = unit.kill(part)
            if part == "gateway worker":
                assert await healthy(), "another worker answers"
            else:
                await until(f"health turns, {part} killed", SEEN_S, unhealthy)
                assert await status(contract.LIVENESS_PATH) in ({0} if part == "supervisor" else {200})
            await until(f"health comes back, {part} killed", BACK_S, healthy)
            if part == "supervisor":
                # Nothing of the old one is left, neither processes nor their memory.
                old = [process for process in before if process.pid != unit.loop.pid]
                _, alive = await asyncio.to_thread(psutil.wait_procs, old, 10)
                assert not alive
                assert not memory_of(killed)
            answered = answers[200]

            async def served(answered: int = answered) -> bool:
                return answers[200] > answered

            await until("requests are answered again", 10, served)
    refused = {
        429,
        503,
        "ClientConnectorError",
        "ServerDisconnectedError",
        "ClientOSError",
        "ClientConnectionResetError",
    }
    assert answers[200] > 0
    assert answers.keys() <= {200, *refused}, answers


async def test_a_worker_that_dies_again_and_again_makes_the_vm_not_live(unit: Unit) -> None:
    await until("the VM serves", BACK_S, healthy)
    assert await status(contract.LIVENESS_PATH) == 200
    for _ in range(GIVE_UP_AFTER):
        before = {process.pid for process in unit.find("serving.gateway")}
        newest = max(unit.find("serving.gateway"), key=lambda process: process.create_time())
        newest.kill()

        async def replaced(before: set[int] = before) -> bool:
            return bool({process.pid for process in unit.find("serving.gateway")} - before)

        if await status(contract.LIVENESS_PATH) == 503:
            break
        await until("the worker comes back", 20, replaced)

    async def not_live() -> bool:
        return await status(contract.LIVENESS_PATH) == 503

    await until("liveness turns 503", 10, not_live)
