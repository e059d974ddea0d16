"""The unit properties that transient services here may set, read as systemd reads them (systemd.service(5), 255)."""

from __future__ import annotations

import math
import re
import shlex
import signal
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final, Literal, TypeVar

Restart = Literal["no", "always", "on-success", "on-failure", "on-abnormal", "on-abort"]
KillMode = Literal["control-group", "mixed", "process"]
T = TypeVar("T", bound=str)

_RESTARTS: Final[tuple[Restart, ...]] = ("no", "always", "on-success", "on-failure", "on-abnormal", "on-abort")
_KILL_MODES: Final[tuple[KillMode, ...]] = ("control-group", "mixed", "process")
_TYPES: Final = ("simple", "exec", "oneshot")
_ORDERING: Final = ("After", "Requires", "Wants", "BindsTo")
_SPAN_UNITS: Final = {"us": 1e-6, "ms": 1e-3, "": 1.0, "s": 1.0, "sec": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}
_SPAN = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]*)")
_UNMODELLED: Final = ("ExecStop", "ExecStopPost", "ExecReload", "User", "Group", "DynamicUser", "MemoryMax", "CPUQuota")


class UnitSettingsError(Exception):
    """A property that systemd would refuse, or that this stand-in does not model; the message says which."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitSettings:
    """Properties of a transient service, with systemd's defaults."""

    description: str = ""
    type: str = "simple"
    restart: Restart = "no"
    restart_s: float = 0.1
    kill_signal: int = signal.SIGTERM
    kill_mode: KillMode = "control-group"
    timeout_stop_s: float = 90.0
    start_limit_interval_s: float = 10.0
    start_limit_burst: int = 5
    remain_after_exit: bool = False
    working_directory: str = "/"
    environment: dict[str, str] = field(default_factory=dict)
    syslog_identifier: str = ""
    """Source of its lines in the log; its command's name by default."""
    start_pre: tuple[tuple[str, ...], ...] = ()
    """Commands run before each start; a first word that begins with `-` may fail."""
    after: frozenset[str] = frozenset()
    """Units that are stopped only once this one has been, at shutdown."""


def with_property(settings: UnitSettings, name: str, value: str) -> UnitSettings:
    """`settings` with one `--property=name=value` applied; raises UnitSettingsError."""
    if name in _SINGLE:
        target, read = _SINGLE[name]
        return replace(settings, **{target: read(name, value)})
    if name == "Environment":
        pairs = dict(_pair(name, word) for word in shlex.split(value))
        return replace(settings, environment=settings.environment | pairs)
    if name == "ExecStartPre":
        return replace(settings, start_pre=(*settings.start_pre, tuple(shlex.split(value))))
    if name in _ORDERING:
        return replace(settings, after=settings.after | frozenset(value.split()))
    if name in _UNMODELLED:
        raise UnitSettingsError(f"the sandbox's systemd does not model the property {name}")
    raise UnitSettingsError(f"Unknown assignment: {name}={value}")


def time_span(name: str, value: str) -> float:
    """Seconds of a systemd time span (systemd.time(7)): `5`, `500ms`, `1min 30s`, `infinity`."""
    if value == "infinity":
        return math.inf
    if not value or _SPAN.sub("", value).strip():
        raise UnitSettingsError(f"Failed to parse {name}= parameter: {value}")
    total = 0.0
    for number, unit in _SPAN.findall(value):
        if unit not in _SPAN_UNITS:
            raise UnitSettingsError(f"Failed to parse {name}= parameter: {value}")
        total += float(number) * _SPAN_UNITS[unit]
    return total


def signal_number(name: str, value: str) -> int:
    """Number of a signal given as `SIGTERM`, `TERM` or `15`."""
    try:
        if value.isdigit():
            return signal.Signals(int(value)).value
        return signal.Signals[value if value.startswith("SIG") else f"SIG{value}"].value
    except (KeyError, ValueError):
        raise UnitSettingsError(f"Failed to parse {name}= parameter: {value}") from None


def _one_of(name: str, value: str, allowed: tuple[T, ...]) -> T:
    for candidate in allowed:
        if candidate == value:
            return candidate
    raise UnitSettingsError(f"Failed to parse {name}= parameter: {value}; allowed: {', '.join(allowed)}")


def _count(name: str, value: str) -> int:
    if not value.isdigit():
        raise UnitSettingsError(f"Failed to parse {name}= parameter: {value}")
    return int(value)


def _pair(name: str, word: str) -> tuple[str, str]:
    key, sign, value = word.partition("=")
    if not sign or not key:
        raise UnitSettingsError(f"Failed to parse {name}= parameter: {word}")
    return key, value


def _text(name: str, value: str) -> str:
    del name
    return value


def _boolean(name: str, value: str) -> bool:
    return _one_of(name, value, ("yes", "true", "no", "false")) in {"yes", "true"}


_SINGLE: Final[dict[str, tuple[str, Callable[[str, str], Any]]]] = {
    "Description": ("description", _text),
    "Type": ("type", partial(_one_of, allowed=_TYPES)),
    "Restart": ("restart", partial(_one_of, allowed=_RESTARTS)),
    "RestartSec": ("restart_s", time_span),
    "KillSignal": ("kill_signal", signal_number),
    "KillMode": ("kill_mode", partial(_one_of, allowed=_KILL_MODES)),
    "TimeoutStopSec": ("timeout_stop_s", time_span),
    "StartLimitIntervalSec": ("start_limit_interval_s", time_span),
    "StartLimitBurst": ("start_limit_burst", _count),
    "SyslogIdentifier": ("syslog_identifier", _text),
    "RemainAfterExit": ("remain_after_exit", _boolean),
    "WorkingDirectory": ("working_directory", _text),
}
"""Property -> field that it sets, and how its value is read."""
