"""The autoscaler's decision, case by case and in general."""

from __future__ import annotations

import math
from collections.abc import Mapping

from hypothesis import given
from hypothesis import strategies as st

from sandbox.compute.scaling import Decision, History, Policy, ScaleInControl, Signal, Vm, decide

NOW = 100_000.0
POLICY = Policy(minimum=2, maximum=10, initialization_s=360.0)


def vms(count: int, age_s: float = 1000.0) -> list[Vm]:
    return [Vm(name=f"vm{n}", running_since=NOW - age_s) for n in range(count)]


def gpu(values: Mapping[str, float], target: float = 85.0) -> Signal:
    return Signal(name="gpu", target=target, values=values)


def equal(count: int, value: float) -> dict[str, float]:
    return {f"vm{n}": value for n in range(count)}


def steady(need: int, since_s: float = 3600.0, step_s: float = 60.0) -> History:
    """Samples of one need up to now."""
    times = [NOW - since_s + step_s * n for n in range(int(since_s / step_s))]
    return History(needed=tuple((at, need) for at in times), sizes=tuple((at, need) for at in times))


def choose(
    signals: list[Signal],
    *,
    current: int = 4,
    policy: Policy = POLICY,
    history: History | None = None,
    machines: list[Vm] | None = None,
    time_scale: float = 1.0,
) -> Decision:
    return decide(
        policy,
        current=current,
        vms=vms(current) if machines is None else machines,
        signals=signals,
        history=history or History(),
        now=NOW,
        time_scale=time_scale,
    )


def test_the_load_divided_by_the_target_rounded_up_is_the_size() -> None:
    assert choose([gpu(equal(4, 100.0))]).size == 5
    assert choose([gpu(equal(4, 85.0))]).size == 4


def test_the_greatest_need_of_all_signals_counts() -> None:
    cpu = Signal(name="cpu", target=0.75, values=equal(4, 1.2))
    assert choose([gpu(equal(4, 85.0)), cpu]).size == 7
    assert choose([cpu, gpu(equal(4, 170.0))]).size == 8


def test_scaling_in_waits_until_the_peak_has_left_the_window() -> None:
    quiet = [gpu(equal(4, 10.0))]
    assert choose(quiet).size == 4, "no history yet"
    assert choose(quiet, history=steady(4)).size == 4
    past = History(needed=tuple((NOW - 60.0 * n, 4 if n >= 11 else 1) for n in range(30, 0, -1)))
    assert choose(quiet, history=past).size == 2
    recent = History(needed=tuple((NOW - 60.0 * n, 3 if n == 9 else 1) for n in range(30, 0, -1)))
    assert choose(quiet, history=recent).size == 3


def test_a_gap_in_the_samples_starts_the_window_anew() -> None:
    gap = History(needed=tuple((NOW - 600.0 - 60.0 * n, 1) for n in range(30, 0, -1)))
    assert choose([gpu(equal(4, 10.0))], history=gap).size == 4


def test_time_scale_shortens_the_windows() -> None:
    past = History(needed=tuple((NOW - 6.0 * n, 1) for n in range(30, 0, -1)))
    quiet = [gpu(equal(4, 10.0))]
    assert choose(quiet, history=past).size == 4
    assert choose(quiet, history=past, time_scale=10.0).size == 2
    young = [*vms(4), Vm(name="vm4", running_since=NOW - 40.0)]
    busy = [gpu(equal(5, 100.0))]
    assert choose(busy, current=4, machines=young).size == 5
    assert choose(busy, current=4, machines=young, time_scale=10.0).size == 6


def test_vms_that_initialise_do_not_count_for_scaling_out() -> None:
    machines = [Vm(name="vm0", running_since=NOW - 1000.0), Vm(name="vm1", running_since=NOW - 10.0)]
    assert choose([gpu({"vm0": 80.0, "vm1": 100.0})], current=2, machines=machines).size == 2
    assert choose([gpu({"vm0": 80.0, "vm1": 100.0})], current=2).size == 3


def test_the_scale_in_control_limits_the_loss_within_its_window() -> None:
    policy = Policy(minimum=1, maximum=10, initialization_s=60.0, scale_in=ScaleInControl(window_s=600.0, fixed=1))
    history = History(needed=steady(1).needed, sizes=((NOW - 300.0, 8), (NOW - 60.0, 8)))
    quiet = [gpu(equal(8, 1.0))]
    assert choose(quiet, current=8, policy=policy, history=history).size == 7
    already = History(needed=steady(1).needed, sizes=((NOW - 300.0, 8), (NOW - 60.0, 7)))
    assert choose([gpu(equal(7, 1.0))], current=7, policy=policy, history=already).size == 7
    later = History(needed=steady(1).needed, sizes=((NOW - 700.0, 8), (NOW - 650.0, 7)))
    assert choose([gpu(equal(7, 1.0))], current=7, policy=policy, history=later).size == 6


def test_percentages_of_the_scale_in_control_round_down_to_one_at_least() -> None:
    assert ScaleInControl(window_s=1, percent=50).allowed(5) == 2
    assert ScaleInControl(window_s=1, percent=10).allowed(5) == 1
    assert ScaleInControl(window_s=1, percent=0).allowed(5) == 0


def test_without_data_nothing_moves_and_the_status_says_so() -> None:
    decision = choose([gpu({})], history=steady(1))
    assert decision.size == 4
    assert [kind for kind, _ in decision.details] == ["MISSING_CUSTOM_METRIC_DATA_POINTS"]


def test_a_signal_without_data_lets_others_scale_out_but_not_in() -> None:
    cpu = Signal(name="cpu", target=0.75, values=equal(4, 1.2))
    assert choose([gpu({}), cpu], history=steady(1)).size == 7
    idle = Signal(name="cpu", target=0.75, values=equal(4, 0.01))
    assert choose([gpu({}), idle], history=steady(1)).size == 4


def test_a_vm_without_data_counts_as_busy_when_scaling_in() -> None:
    assert choose([gpu({"vm0": 1.0, "vm1": 1.0, "vm2": 1.0})], history=steady(1)).size == 2
    all_but_one = choose([gpu({"vm0": 1.0})], history=steady(1))
    assert all_but_one.size == 4


def test_minimum_and_maximum_hold_and_zero_pauses() -> None:
    decision = choose([gpu(equal(4, 1000.0))])
    assert decision.size == 10
    assert "CAPPED_AT_MAX_NUM_REPLICAS" in [kind for kind, _ in decision.details]
    paused = Policy(minimum=0, maximum=0, initialization_s=60.0, scale_in=ScaleInControl(window_s=600, fixed=1))
    assert choose([gpu(equal(4, 100.0))], policy=paused).size == 0
    assert choose([], current=0, machines=[]).size == 2


def test_modes_are_reported() -> None:
    for mode, kind in (("OFF", "MODE_OFF"), ("ONLY_SCALE_OUT", "MODE_ONLY_SCALE_OUT")):
        policy = Policy(minimum=1, maximum=4, initialization_s=60.0, mode=mode)  # type: ignore[arg-type]
        assert kind in [found for found, _ in choose([], policy=policy).details]


LOADS = st.lists(st.floats(0, 500), min_size=1, max_size=8)


@given(loads=LOADS, extra=st.floats(0, 200), target=st.floats(1, 100))
def test_more_load_never_means_fewer_vms(loads: list[float], extra: float, target: float) -> None:
    values = {f"vm{n}": load for n, load in enumerate(loads)}
    more = {**values, "vm0": values["vm0"] + extra}
    history = steady(1)
    before = choose([gpu(values, target)], current=len(loads), history=history).size
    after = choose([gpu(more, target)], current=len(loads), history=history).size
    assert after >= before


@given(loads=LOADS, target=st.floats(1, 100), past=st.integers(0, 12), minimum=st.integers(0, 4))
def test_the_size_serves_the_load_within_the_limits_or_is_at_a_limit(
    loads: list[float], target: float, past: int, minimum: int
) -> None:
    policy = Policy(minimum=minimum, maximum=10, initialization_s=60.0)
    values = {f"vm{n}": load for n, load in enumerate(loads)}
    decision = choose([gpu(values, target)], current=len(loads), policy=policy, history=steady(past))
    assert minimum <= decision.size <= 10
    assert decision.size == 10 or decision.size * target >= sum(loads) - 1e-6 * target
    assert decision.size <= max(minimum, past, len(loads), math.ceil(sum(loads) / target))


@given(needs=st.lists(st.floats(0, 400), min_size=30, max_size=80))
def test_history_stays_bounded_and_scaling_in_never_undercuts_the_window(needs: list[float]) -> None:
    policy = Policy(minimum=0, maximum=20, initialization_s=60.0)
    history, size, seen = History(), 4, list[tuple[float, int]]()
    for step, load in enumerate(needs):
        now = NOW + 60.0 * step
        machines = [Vm(name=f"vm{n}", running_since=NOW - 1000.0) for n in range(size)]
        share = {vm.name: load / max(1, size) for vm in machines}
        decision = decide(policy, current=size, vms=machines, signals=[gpu(share)], history=history, now=now)
        seen.append((now, math.ceil(load / 85.0 - 1e-9) if size else 0))
        window = [need for at, need in seen if at >= now - 600.0]
        if decision.size < size:
            assert decision.size >= min(max(window), size)
        history, size = decision.history, decision.size
        assert len(history.needed) <= 12
