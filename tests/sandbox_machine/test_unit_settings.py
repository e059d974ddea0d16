from __future__ import annotations

import math
import signal

import pytest

from sandbox.machine.unit_settings import UnitSettings, UnitSettingsError, time_span, with_property
from sandbox.machine.units import describe_exit, is_clean


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("5", 5.0), ("500ms", 0.5), ("1min 30s", 90.0), ("2h", 7200.0), ("0", 0.0), ("1.5s", 1.5), ("infinity", math.inf)],
)
def test_time_spans(text: str, seconds: float) -> None:
    assert time_span("RestartSec", text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "5 parsecs", "-1", "5s x"])
def test_bad_time_span_names_the_property(text: str) -> None:
    with pytest.raises(UnitSettingsError, match="RestartSec"):
        time_span("RestartSec", text)


def test_properties_become_settings() -> None:
    settings = UnitSettings()
    for name, value in [
        ("Description", "a service"),
        ("Restart", "always"),
        ("RestartSec", "2"),
        ("KillSignal", "SIGINT"),
        ("TimeoutStopSec", "40"),
        ("StartLimitIntervalSec", "0"),
        ("Environment", 'A=1 "B=two words"'),
        ("Environment", "A=3"),
        ("After", "docker.service network-online.target"),
        ("Requires", "docker.service"),
        ("ExecStartPre", "-docker rm --force x"),
    ]:
        settings = with_property(settings, name, value)
    assert settings == UnitSettings(
        description="a service",
        restart="always",
        restart_s=2.0,
        kill_signal=signal.SIGINT,
        timeout_stop_s=40.0,
        start_limit_interval_s=0.0,
        environment={"A": "3", "B": "two words"},
        after=frozenset({"docker.service", "network-online.target"}),
        start_pre=(("-docker", "rm", "--force", "x"),),
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Restart", "sometimes"),
        ("KillSignal", "SIGNOPE"),
        ("MemoryMax", "1G"),
        ("Restrat", "always"),
        ("Type", "forking"),
    ],
)
def test_what_systemd_or_the_stand_in_does_not_take_is_named(name: str, value: str) -> None:
    with pytest.raises(UnitSettingsError, match=name):
        with_property(UnitSettings(), name, value)


@pytest.mark.parametrize(
    ("code", "clean", "words"),
    [
        (0, True, "code=exited, status=0"),
        (1, False, "code=exited, status=1/FAILURE"),
        (-15, True, "code=killed, status=15/TERM"),
        (-9, False, "code=killed, status=9/KILL"),
    ],
)
def test_exits_in_systemd_s_words(code: int, clean: bool, words: str) -> None:
    assert is_clean(code) is clean
    assert describe_exit(code).startswith(words)
