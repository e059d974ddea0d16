"""The autoscaler's loop: metrics in, a recommendation out; and CPU time read from real processes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sandbox.compute.autoscaler import Autoscalers, average, metric_filter
from sandbox.compute.cpu import CpuMeter
from sandbox.compute.machine_types import vcpus
from sandbox.compute.records import AUTOSCALER, GROUP, AutoscalerRecord, autoscaler_record, put_record
from sandbox.machine.markers import MACHINE_MARKER, STATE_MARKER
from sandbox.monitoring.filters import FilterError
from sandbox.monitoring.series import Point, Series, TimeSeriesStore
from sandbox.store import RESOURCE
from tests.sandbox_control import world
from tests.sandbox_control.test_groups import Rig

METRIC = "custom.googleapis.com/fleet/gpu"
POLICY: dict[str, Any] = {
    "minReplicas": 2,
    "maxReplicas": 4,
    "cooldownPeriod": 0,
    "metrics": [{"name": METRIC, "target": 85.0, "type": "GAUGE"}],
}


@pytest.fixture
async def rig(tmp_path: Path) -> Rig:
    one = Rig(tmp_path)
    world.declare_template(one.store, "v1")
    world.declare_group(one.store, "v1", size=None)
    world.declare_check(one.store, world.LIVENESS_CHECK, "/alive")
    declare(one)
    await decide(one)
    await one.rounds()
    return one


def declare(rig: Rig, **changes: Any) -> None:
    inputs = {"target": world.GROUP, "autoscalingPolicy": {**POLICY, **changes}}
    world.declare(rig.store, "gcp:compute/regionAutoscaler:RegionAutoscaler", world.AUTOSCALER, inputs)


async def decide(rig: Rig) -> AutoscalerRecord:
    """A decision now, as though the last one were an interval ago."""
    last = autoscaler_record(rig.store, world.AUTOSCALER)
    if last is not None:
        aged = replace(
            last,
            sizes=tuple((at - 11.0, size) for at, size in last.sizes),
            needed=tuple((at - 11.0, size) for at, size in last.needed),
        )
        put_record(rig.store, AUTOSCALER, world.AUTOSCALER, aged)
    await Autoscalers(rig.settings, rig.store).reconcile()
    record = autoscaler_record(rig.store, world.AUTOSCALER)
    assert record is not None
    return record


def write(rig: Rig, *values: float, labels: dict[str, str] | None = None, metric: str = METRIC) -> None:
    """The agents' points: one value a VM, in order of their keys."""
    for vm, value in zip(rig.vms(), values, strict=True):
        resource = {"instance_id": vm.numeric_id, "zone": vm.zone, "project_id": world.PROJECT}
        series = Series(
            metric={"type": metric, "labels": labels or {}},
            resource={"type": "gce_instance", "labels": resource},
            kind="GAUGE",
            value_type="DOUBLE",
        )
        TimeSeriesStore(rig.store).append(series, Point(time.time(), value))


async def test_an_empty_group_gets_its_minimum_at_once(rig: Rig) -> None:
    assert len(rig.vms()) == 2


async def test_a_busy_fleet_grows(rig: Rig) -> None:
    write(rig, 100.0, 90.0)
    record = await decide(rig)
    assert (record.recommended, record.status) == (3, "ACTIVE")
    await rig.rounds()
    assert len(rig.vms()) == 3
    assert "recommended size 2 -> 3" in rig.told()


async def test_a_metric_under_another_name_is_missing(rig: Rig) -> None:
    write(rig, 100.0, 100.0, metric=METRIC + "_misspelt")
    record = await decide(rig)
    assert record.recommended == 2
    assert [kind for kind, _ in record.details] == ["MISSING_CUSTOM_METRIC_DATA_POINTS"]
    assert METRIC in record.details[0][1]


async def test_several_series_of_a_vm_are_added_and_a_filter_picks_one(rig: Rig) -> None:
    for gpu in ("0", "1"):
        write(rig, 60.0, 60.0, labels={"gpu": gpu})
    assert (await decide(rig)).recommended == 3
    declare(rig, metrics=[{**POLICY["metrics"][0], "filter": 'metric.labels.gpu = "0"'}])
    assert not any(size == 4 for _, size in (await decide(rig)).needed)
    assert (await decide(rig)).needed[-1][1] == 2


async def test_points_of_deleted_instances_do_not_count(rig: Rig) -> None:
    write(rig, 100.0, 100.0)
    for vm in rig.vms():
        rig.store.put("instance", vm.key, replace(vm, numeric_id=vm.numeric_id + "9").as_json())
    assert (await decide(rig)).details[0][0] == "MISSING_CUSTOM_METRIC_DATA_POINTS"


async def test_changed_limits_hold_at_once(rig: Rig) -> None:
    declare(rig, minReplicas=3)
    await Autoscalers(rig.settings, rig.store).reconcile()
    record = autoscaler_record(rig.store, world.AUTOSCALER)
    assert record is not None
    assert record.recommended == 3


async def test_between_two_decisions_nothing_is_written(rig: Rig) -> None:
    await decide(rig)
    revision = rig.store.revision
    await Autoscalers(rig.settings, rig.store).reconcile()
    assert rig.store.revision == revision


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"metrics": [{"name": METRIC, "target": 1.0, "type": "DELTA_PER_SECOND"}]}, "GAUGE"),
        ({"metrics": [{"name": METRIC, "target": 1.0, "filter": 'resource.labels.zone = "z"'}]}, "resource labels"),
        ({"metrics": [{"name": METRIC, "target": 1.0, "filter": "metric.labels.a != 1"}]}, "cannot read"),
        ({"loadBalancingUtilization": {"target": 0.8}}, "loadBalancingUtilization"),
    ],
)
async def test_what_cannot_be_done_is_an_error_of_the_autoscaler(rig: Rig, changes: dict[str, Any], words: str) -> None:
    declare(rig, **changes)
    record = await decide(rig)
    assert record.status == "ERROR"
    assert any(words in message for _, message in record.details)
    revision = rig.store.revision
    await Autoscalers(rig.settings, rig.store).reconcile()
    assert rig.store.revision == revision, "a lasting error must not wake the loop for ever"


async def test_an_autoscaler_without_its_group_says_so(rig: Rig) -> None:
    rig.store.delete(RESOURCE, world.GROUP)
    rig.store.delete(GROUP, world.GROUP)
    record = await decide(rig)
    assert record.details[0][0] == "SCALING_TARGET_DOES_NOT_EXIST"


async def test_the_record_goes_with_the_autoscaler(rig: Rig) -> None:
    rig.store.delete(RESOURCE, world.AUTOSCALER)
    await Autoscalers(rig.settings, rig.store).reconcile()
    assert autoscaler_record(rig.store, world.AUTOSCALER) is None


def test_a_metric_name_is_the_filters_type() -> None:
    terms = metric_filter({"name": METRIC}).terms
    assert terms == {"metric.type": METRIC, "resource.type": "gce_instance"}
    with pytest.raises(FilterError, match="differs"):
        metric_filter({"name": METRIC, "filter": 'metric.type = "other"'})


def test_a_scaled_window_falls_back_to_the_newest_point() -> None:
    points = tuple(Point(1000.0 + 15.0 * n, float(n)) for n in range(5))
    series = Series(metric={}, resource={}, kind="GAUGE", value_type="DOUBLE", points=points)
    assert average(series, 1061.0, 120.0, 1.0) == 2.0
    assert average(series, 1061.0, 120.0, 4.0) == 3.5
    assert average(series, 1070.0, 120.0, 20.0) == 4.0
    assert average(series, 1300.0, 120.0, 1.0) is None


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("n1-standard-16", 16),
        ("projects/p/zones/z/machineTypes/n1-highmem-8", 8),
        ("custom-4-8192", 4),
        ("n1-custom-6-23040-ext", 6),
        ("e2-medium", 2),
        ("c2d-standard-112", 112),
    ],
)
def test_vcpus_follow_from_the_machine_type(name: str, count: int) -> None:
    assert vcpus(name) == count


def test_a_machine_type_that_counts_gpus_is_refused() -> None:
    with pytest.raises(ValueError, match="a2-highgpu-1g"):
        vcpus("a2-highgpu-1g")


def test_cpu_time_is_that_of_the_vms_own_processes(tmp_path: Path) -> None:
    burn = "end = time.process_time() + 0.3\nwhile time.process_time() < end: pass"
    script = f"import time\ninput()\n{burn}\nprint(flush=True)\ninput()"
    environment = {**os.environ, STATE_MARKER: str(tmp_path), MACHINE_MARKER: "zone/vm"}
    meter = CpuMeter(tmp_path)
    with subprocess.Popen(
        [sys.executable, "-S", "-c", script],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert meter.utilization({"zone/vm": 2}, 100.0) == {}
        process.stdin.write(b"\n")
        process.stdin.flush()
        process.stdout.readline()
        used = meter.utilization({"zone/vm": 2, "zone/other": 2}, 101.0)
        process.communicate(b"\n", timeout=10)
    assert set(used) == {"zone/vm"}
    assert 0.14 <= used["zone/vm"] <= 0.3
