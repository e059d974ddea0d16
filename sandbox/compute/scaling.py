"""The autoscaler's decision: one pure function, used live and by simulations.

Sources: Google Cloud, "Understanding autoscaler decisions" and "Scale based on Monitoring metrics" (2026-11), and the
compute v1 discovery document (AutoscalingPolicy, AutoscalerStatusDetails). What Google does not document is marked.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

Mode = Literal["ON", "OFF", "ONLY_UP", "ONLY_SCALE_OUT"]
Samples = tuple[tuple[float, int], ...]
"""(Unix seconds, VMs), oldest first."""

_STABILIZATION_S: Final = 600.0
_GAP_S: Final = 120.0
"""A pause this long in the autoscaler's own samples (it was not running) makes them worthless as a peak. (Ours.)"""
_EPSILON: Final = 1e-9
"""Keeps a load of exactly n targets from needing n+1 VMs by rounding of floats."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScaleInControl:
    """How many VMs the group may lose within a trailing window."""

    window_s: float
    fixed: int | None = None
    percent: int | None = None

    def allowed(self, peak: int) -> int:
        """VMs that may go from a peak size; a percentage is rounded down, to one at least."""
        if self.fixed is not None:
            return self.fixed
        return max(1, peak * self.percent // 100) if self.percent else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """An autoscaling policy. Times in unscaled seconds."""

    minimum: int
    maximum: int
    initialization_s: float
    mode: Mode = "ON"
    scale_in: ScaleInControl | None = None
    stabilization_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Signal:
    """One scaling signal: the average of a metric over the last couple of minutes for each VM that has data."""

    name: str
    target: float
    """For one VM, in the metric's unit."""
    values: Mapping[str, float]
    """By VM name."""
    missing: str = "MISSING_CUSTOM_METRIC_DATA_POINTS"
    """Status type where no VM has data; empty where the API has none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Vm:
    """A VM of the group; `running_since` in Unix seconds, 0 before it runs."""

    name: str
    running_since: float


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """What earlier decisions left for later ones."""

    needed: Samples = ()
    """Size that the load needed, before any limit."""
    sizes: Samples = ()
    """Recommended size."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """The recommended size, the API's status details, and the history for the next decision."""

    size: int
    details: tuple[tuple[str, str], ...]
    history: History


def decide(
    policy: Policy,
    *,
    current: int,
    vms: Sequence[Vm],
    signals: Sequence[Signal],
    history: History,
    now: float,
    time_scale: float = 1.0,
) -> Decision:
    """Recommend a size for a group that now has the target size `current`.

    - Scaling out looks at the load of initialised VMs alone, scaling in at that of all VMs; the need is
      ceil(load / target), and the greatest need of all signals counts.
    - Scaling in goes to the peak need of the stabilisation window, max(10 min, initialisation period) or
      `stabilization_s`, and no further than the scale-in control lets it.
    - Without data from any VM a signal neither scales out nor lets others scale in. A running VM without data counts as
      loaded to the target when scaling in. (Ours: Google does not say.)
    - `time_scale` divides every window.
    """
    details: list[tuple[str, str]] = []
    needs: list[int] = []
    mature = now - policy.initialization_s / time_scale
    initialised = {vm.name for vm in vms if vm.running_since and vm.running_since <= mature}
    running = {vm.name for vm in vms if vm.running_since}
    for signal in signals:
        data = {name: value for name, value in signal.values.items() if name in running}
        if not running:
            continue
        if not data:
            if signal.missing:
                details.append((signal.missing, f"The autoscaler finds no data points of {signal.name} for any VM."))
            needs.append(current)
            continue
        needs.append(_need(signal.target, data, running, initialised, current))
    need = max(needs, default=current)
    stabilization_s = max(_STABILIZATION_S, policy.initialization_s)
    if policy.stabilization_s is not None:
        stabilization_s = policy.stabilization_s
    needed = _trailing((*_unbroken(history.needed, now, time_scale), (now, need)), now - stabilization_s / time_scale)
    size = need if need >= current else min(current, _peak(needed, now - stabilization_s / time_scale, current))
    control_s = policy.scale_in.window_s / time_scale if policy.scale_in else 0.0
    if policy.scale_in is not None and size < current:
        peak = max((past for at, past in history.sizes if at >= now - control_s), default=current)
        peak = max(peak, current)
        size = max(size, min(current, peak - policy.scale_in.allowed(peak)))
    size, limits = _limited(policy, size)
    sizes = _trailing((*history.sizes, (now, size)), now - control_s)
    return Decision(size=size, details=(*details, *limits), history=History(needed=needed, sizes=sizes))


def _need(target: float, data: Mapping[str, float], running: set[str], initialised: set[str], current: int) -> int:
    out = _vms_for(sum(value for name, value in data.items() if name in initialised), target)
    if out > current:
        return out
    unknown = len(running - data.keys()) * target
    return min(current, _vms_for(sum(data.values()) + unknown, target))


def _vms_for(load: float, target: float) -> int:
    return math.ceil(load / target - _EPSILON)


def _limited(policy: Policy, size: int) -> tuple[int, list[tuple[str, str]]]:
    details: list[tuple[str, str]] = []
    if policy.mode == "OFF":
        details.append(("MODE_OFF", "The autoscaler's mode is OFF: its recommendation is not applied."))
    elif policy.mode in {"ONLY_UP", "ONLY_SCALE_OUT"}:
        details.append(("MODE_ONLY_SCALE_OUT", "The autoscaler's mode lets it only add VMs."))
    if policy.minimum == policy.maximum:
        details.append(("MIN_EQUALS_MAX", "The minimum and maximum number of replicas are equal: nothing can scale."))
    elif size > policy.maximum:
        details.append(("CAPPED_AT_MAX_NUM_REPLICAS", f"The load needs {size} VMs; the maximum is {policy.maximum}."))
    return max(policy.minimum, min(policy.maximum, size)), details


def _peak(needed: Samples, since: float, current: int) -> int:
    """Greatest need since then; `current` while the samples do not reach back that far."""
    if not needed or needed[0][0] > since:
        return current
    return max(need for at, need in needed if at >= since)


def _trailing(samples: Iterable[tuple[float, int]], since: float) -> Samples:
    """The samples since then, and the last one before, which shows that they are complete."""
    kept = list(samples)
    while len(kept) > 1 and kept[1][0] <= since:
        kept.pop(0)
    return tuple(kept)


def _unbroken(samples: Samples, now: float, time_scale: float) -> Samples:
    return samples if samples and now - samples[-1][0] <= _GAP_S / time_scale else ()
