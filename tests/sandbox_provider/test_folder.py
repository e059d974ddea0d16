from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from sandbox.folder import Running, SandboxError, StateFolder, exclusive, lock_port
from sandbox.machine.processes import ProcessId


def test_a_block_is_chosen_by_the_folders_name_and_stays(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path / "state")
    block = folder.settings().block
    assert 16 <= block <= 247
    (tmp_path / "other").mkdir()
    assert StateFolder(tmp_path / "state").settings().block == block


def test_a_block_that_another_sandbox_holds_is_passed_over(tmp_path: Path) -> None:
    wanted = StateFolder(tmp_path / "state").settings().block
    (tmp_path / "state" / "block").unlink()
    with lock_port(wanted):
        assert StateFolder(tmp_path / "state").settings().block != wanted


def test_the_daemons_block_cannot_be_held_twice(tmp_path: Path) -> None:
    block = StateFolder(tmp_path / "state").settings().block
    with lock_port(block), pytest.raises(OSError, match="in use"), lock_port(block):
        pass


def test_dials_are_read_and_unknown_ones_refused(tmp_path: Path) -> None:
    (tmp_path / "sandbox.json").write_text(json.dumps({"timeScale": 10, "iamDelayS": 2}))
    settings = StateFolder(tmp_path).settings()
    assert (settings.time_scale, settings.iam_delay_s) == (10.0, 2.0)
    (tmp_path / "sandbox.json").write_text(json.dumps({"timescale": 10}))
    with pytest.raises(SandboxError, match="no setting timescale; it has timeScale"):
        StateFolder(tmp_path).settings()


def test_scarcity_is_a_setting(tmp_path: Path) -> None:
    scarce = {"quotas": {"NVIDIA_T4_GPUS": 2}, "stockouts": {"nvidia-tesla-t4": ["us-central1-a"]}}
    (tmp_path / "sandbox.json").write_text(json.dumps(scarce))
    settings = StateFolder(tmp_path).settings()
    assert settings.quotas == {"NVIDIA_T4_GPUS": 2, "PREEMPTIBLE_NVIDIA_T4_GPUS": 64}
    assert settings.stockouts == {"nvidia-tesla-t4": {"us-central1-a"}}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"timeScale": "fast"}', 'timeScale cannot be "fast"'),
        ('{"quotas": 4}', "quotas cannot be 4"),
        ('{"stockouts": {"nvidia-tesla-t4": "us-central1-a"}}', "stockouts cannot be"),
        ('{"timeScale": 1', "is not JSON"),
        ("[]", "must hold an object"),
    ],
)
def test_a_dial_of_another_shape_is_refused_by_name(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "sandbox.json").write_text(text)
    with pytest.raises(SandboxError, match=words):
        StateFolder(tmp_path).settings()


def test_a_daemon_is_running_while_its_very_process_lives(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path)
    assert folder.running() is None
    own = ProcessId.of(os.getpid())
    assert own is not None
    alive = Running(pid=own.pid, start_ticks=own.start_ticks, provider_port=1, version="v")
    folder.announce(alive)
    assert folder.running() == alive
    folder.announce(Running(pid=own.pid, start_ticks=own.start_ticks + 1, provider_port=1, version="v"))
    assert folder.running() is None
    folder.daemon.write_text("{")
    assert folder.running() is None


def test_a_lock_is_held_by_one(tmp_path: Path) -> None:
    with exclusive(tmp_path / "lock"), pytest.raises(BlockingIOError), exclusive(tmp_path / "lock"):
        pass
    with exclusive(tmp_path / "lock"):
        pass
