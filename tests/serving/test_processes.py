"""Child processes: started again, ended in time, gone with their parent."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from serving.processes import FIRST_DELAY_S, MAX_DELAY_S, Child, restart_delay_s


async def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    """Wait for a condition."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - what is waited for happens in other processes
            await asyncio.sleep(0.01)


def test_restarts_slow_down_to_a_limit() -> None:
    delays = [restart_delay_s(failures) for failures in range(1, 20)]
    assert delays[0] == FIRST_DELAY_S
    assert delays == sorted(delays)
    assert delays[-1] == MAX_DELAY_S


async def test_a_process_that_ends_is_started_again() -> None:
    ended: list[int] = []
    child = Child("sleep", ["sleep", "60"], on_end=ended.append)
    child.start()
    await until(lambda: child.pid is not None)
    first = child.pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    await until(lambda: child.pid not in (None, first))
    assert ended == [first]
    assert child.failures == 1
    await child.stop(5)
    assert child.pid is None


async def test_a_process_that_cannot_start_is_hopeless_in_the_end() -> None:
    child = Child("nothing", ["/nonexistent/program"])
    child.start()
    await until(lambda: child.failures >= 2)
    assert not child.hopeless(give_up_after=10)
    child.failures = 10
    assert child.hopeless(give_up_after=10)
    await child.stop(0)


async def test_one_that_ignores_sigterm_is_killed_after_its_grace() -> None:
    child = Child("stubborn", ["bash", "-c", "trap '' TERM; echo ready >&2; while :; do sleep 0.05; done"])
    lines: list[str] = []
    child._on_line = lines.append
    child.start()
    await until(lambda: "ready" in lines)
    pid = child.pid
    assert pid is not None
    await child.stop(0.2)
    assert not psutil.pid_exists(pid)


async def test_what_a_dead_process_leaves_behind_is_ended(tmp_path: Path) -> None:
    file = tmp_path / "pid"
    child = Child("parent", ["bash", "-c", f"sleep 60 & echo $! >{file}; wait"])
    child.start()
    await until(lambda: file.exists() and file.read_text().strip() != "")
    grandchild = psutil.Process(int(file.read_text()))
    assert child.pid is not None
    os.kill(child.pid, signal.SIGKILL)
    await until(lambda: not grandchild.is_running() or grandchild.status() == psutil.STATUS_ZOMBIE)
    await child.stop(1)


def test_children_die_with_a_killed_parent() -> None:
    program = (
        "import asyncio\n"
        "from serving.processes import Child\n"
        "async def main():\n"
        "    child = Child('sleep', ['sleep', '60'])\n"
        "    child.start()\n"
        "    while child.pid is None: await asyncio.sleep(0.01)\n"
        "    print(child.pid, flush=True)\n"
        "    await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, cwd=Path(__file__).parents[2], text=True
    )
    assert parent.stdout is not None
    child = psutil.Process(int(parent.stdout.readline()))
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 10
    while child.is_running() and child.status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline, "the child outlived its parent"
        time.sleep(0.02)


async def test_output_arrives_line_by_line() -> None:
    lines: list[str] = []
    child = Child("talker", ["bash", "-c", "echo one; echo two >&2; sleep 60"], on_line=lines.append)
    child.start()
    await until(lambda: len(lines) == 2)
    await child.stop(5)
    assert lines == ["one", "two"]
