from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import uuid

import pytest

from sandbox.machine.processes import ProcessId, end, environment_of, kill_marked, marked
from tests.sandbox_machine.machines import until

FORKS = "trap '' TERM; while :; do sleep 0.01; done"


@pytest.fixture
def marker() -> dict[str, str]:
    return {"SANDBOX_STATE": f"/nowhere/{uuid.uuid4()}"}


def start(command: list[str], environment: dict[str, str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command, env={"PATH": os.environ["PATH"], **environment}, start_new_session=True, stdout=subprocess.PIPE
    )


async def test_marked_processes_are_found_with_their_children_and_nobody_else(marker: dict[str, str]) -> None:
    other = start(["sleep", "60"], {"SANDBOX_STATE": "/nowhere/else"})
    mine = start(["bash", "-c", "sleep 60 & sleep 60"], {**marker, "SANDBOX_MACHINE": "zone/vm"})
    try:
        await until(lambda: len(marked(marker)) == 3, "all three run")
        assert other.pid not in {process.pid for process in marked(marker)}
        assert marked({**marker, "SANDBOX_MACHINE": "zone/other"}) == []
        assert len(marked({**marker, "SANDBOX_MACHINE": "zone/vm"})) == 3
        assert await kill_marked(marker) >= 3
        assert other.poll() is None
    finally:
        for process in (other, mine):
            process.kill()
            process.wait()


def test_process_that_has_just_been_started_is_recognised(marker: dict[str, str]) -> None:
    for _ in range(200):
        process = start(["sleep", "60"], marker)
        found = environment_of(process.pid)
        process.kill()
        process.wait()
        assert found.get("SANDBOX_STATE") == marker["SANDBOX_STATE"]


async def test_killing_wins_against_a_process_that_forks_all_the_time(marker: dict[str, str]) -> None:
    processes = [start(["bash", "-c", FORKS], marker) for _ in range(3)]
    try:
        await asyncio.sleep(0.1)
        await kill_marked(marker)
        assert marked(marker) == []
    finally:
        for process in processes:
            process.kill()
            process.wait()


async def test_stubborn_process_is_killed_after_its_notice(marker: dict[str, str]) -> None:
    process = start(
        [sys.executable, "-c", "import signal as s; s.signal(15, s.SIG_IGN); print('ready', flush=True); s.pause()"],
        marker,
    )
    identity = ProcessId.of(process.pid)
    assert identity is not None
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    await end(identity, 0.1)
    assert process.wait() == -signal.SIGKILL


async def test_end_of_a_process_is_seen_whoever_its_parent_is(marker: dict[str, str]) -> None:
    launcher = start(["bash", "-c", "sleep 0.2 </dev/null >/dev/null & exit 0"], marker)
    launcher.wait()
    (orphan,) = marked(marker)
    await asyncio.wait_for(orphan.ended(), 10)
    assert not orphan.alive


def test_pid_with_another_start_time_is_another_process() -> None:
    own = ProcessId.of(os.getpid())
    assert own is not None
    assert own.alive
    reused = ProcessId(own.pid, own.start_ticks - 1)
    assert not reused.alive
    reused.signal(signal.SIGKILL)


def test_zombie_is_dead(marker: dict[str, str]) -> None:
    process = start(["true"], marker)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert ProcessId.of(process.pid) is None
    assert environment_of(process.pid) == {}
    process.wait()
