"""Autoscalers: the loop that reads the signals, asks for a decision and keeps it for the group manager."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

from sandbox.compute.cpu import CpuMeter
from sandbox.compute.declared import AUTOSCALER, declared
from sandbox.compute.loop import Controller
from sandbox.compute.machine_types import vcpus
from sandbox.compute.names import relative, short
from sandbox.compute.records import (
    AUTOSCALER as RECORD,
)
from sandbox.compute.records import (
    AutoscalerRecord,
    autoscaler_record,
    group_record,
    instance,
    instances,
    put_record,
)
from sandbox.compute.scaling import History, Policy, ScaleInControl, Signal, Vm, decide
from sandbox.machine.instance import Instance
from sandbox.monitoring.descriptors import CPU_UTILIZATION
from sandbox.monitoring.filters import Filter, FilterError
from sandbox.monitoring.series import Point, Series, TimeSeriesStore
from sandbox.settings import SandboxSettings
from sandbox.store import Json, Store

_SAMPLE_S: Final = 10.0
"""Between two decisions, and two points of CPU utilisation."""
_SHORTEST_SAMPLE_S: Final = 1.0
AVERAGED_S: Final = 120.0
"""The "last couple of minutes" that a gauge is averaged over."""


class Autoscalers(Controller):
    """Keeps a recommended size for every declared regional autoscaler, in its `autoscaler` record."""

    def __init__(self, settings: SandboxSettings, store: Store) -> None:
        self._sample_s = max(_SHORTEST_SAMPLE_S, _SAMPLE_S / settings.time_scale)
        super().__init__(store, "autoscalers", self._sample_s)
        self._settings = settings
        self._series = TimeSeriesStore(store)
        self._meter = CpuMeter(settings.state)
        self._metered = 0.0
        self._told: set[str] = set()

    async def reconcile(self) -> None:
        """Meter CPU and decide where it is time to; a changed policy is decided upon at once."""
        now = time.time()
        if now - self._metered >= self._sample_s:
            self._metered = now
            self._write_cpu(now)
        known = dict(declared(self._store, AUTOSCALER))
        for identifier, found in known.items():
            self._decide(identifier, found, now)
        for name, _ in list(self._store.items(RECORD)):
            if name not in known:
                self._store.delete(RECORD, name)

    def _write_cpu(self, now: float) -> None:
        running: dict[str, Instance] = {}
        counts: dict[str, int] = {}
        for vm in instances(self._store):
            if vm.status != "RUNNING":
                continue
            try:
                counts[vm.key] = vcpus(vm.machine_type)
            except ValueError as unknown:
                self._tell(vm.name, str(unknown))
            running[vm.key] = vm
        for key, value in self._meter.utilization(counts, now).items():
            vm = running[key]
            series = Series(
                metric={"type": CPU_UTILIZATION, "labels": {"instance_name": vm.name}},
                resource=_resource(vm, self._settings.project),
                kind="GAUGE",
                value_type="DOUBLE",
            )
            self._series.append(series, Point(now, value))

    def _decide(self, identifier: str, found: Json, now: float) -> None:
        spec = found["autoscalingPolicy"]
        policy = policy_of(spec)
        last = autoscaler_record(self._store, identifier)
        target = relative(found["target"])
        group = group_record(self._store, target)
        if last is not None and last.sizes and now - last.sizes[-1][0] < self._sample_s:
            in_limits = policy.minimum <= last.recommended <= policy.maximum
            if in_limits and last.target == target:
                return
        if group is None:
            details = (("SCALING_TARGET_DOES_NOT_EXIST", f"The instance group {target} does not exist."),)
            record = AutoscalerRecord(target=target, recommended=policy.minimum, status="ERROR", details=details)
            put_record(self._store, RECORD, identifier, record)
            return
        members = [member for member in group.members if not member.retiring]
        vms = {m.name: vm for m in members if (vm := instance(self._store, f"{m.zone}/{m.name}")) is not None}
        signals, invalid = self._signals(identifier, spec, vms, now)
        decision = decide(
            policy,
            current=group.target_size,
            vms=[Vm(name=member.name, running_since=member.running_since) for member in members],
            signals=signals,
            history=History(needed=last.needed, sizes=last.sizes) if last else History(),
            now=now,
            time_scale=self._settings.time_scale,
        )
        record = AutoscalerRecord(
            target=target,
            recommended=decision.size,
            status="ERROR" if invalid else "ACTIVE",
            details=(*invalid, *decision.details),
            needed=decision.history.needed,
            sizes=decision.history.sizes,
        )
        self._announce(identifier, last, record, signals)
        put_record(self._store, RECORD, identifier, record)

    def _signals(
        self, identifier: str, spec: Json, vms: Mapping[str, Instance], now: float
    ) -> tuple[list[Signal], tuple[tuple[str, str], ...]]:
        signals: list[Signal] = []
        invalid: list[tuple[str, str]] = []
        for metric in spec.get("metrics") or ():
            try:
                wanted = metric_filter(metric)
            except FilterError as failure:
                invalid.append(("CUSTOM_METRIC_INVALID", f"{metric['name']}: {failure}"))
                continue
            values = self._averages(wanted, vms, now)
            signals.append(Signal(name=metric["name"], target=float(metric["target"]), values=values))
        cpu = spec.get("cpuUtilization")
        if cpu:
            values = self._averages(Filter({"metric.type": CPU_UTILIZATION}), vms, now)
            signals.append(Signal(name="CPU utilization", target=float(cpu["target"]), values=values, missing=""))
        invalid += [
            ("UNKNOWN", f"autoscalingPolicy.{name}: the sandbox does not model it.")
            for name in ("loadBalancingUtilization", "scalingSchedules")
            if spec.get(name)
        ]
        if cpu and cpu.get("predictiveMethod", "NONE") != "NONE":
            invalid.append(("UNKNOWN", "autoscalingPolicy.cpuUtilization.predictiveMethod: the sandbox models NONE."))
        for _, message in invalid:
            self._tell(short(identifier), message)
        return signals, tuple(invalid)

    def _averages(self, wanted: Filter, vms: Mapping[str, Instance], now: float) -> dict[str, float]:
        """Per VM: the mean of each series over the averaging window; several series of one VM are added together."""
        ids = {vm.numeric_id: name for name, vm in vms.items()}
        sums: dict[str, float] = {}
        for series in self._series.matching(wanted):
            name = ids.get(series.resource["labels"].get("instance_id", ""))
            if series.resource["type"] != "gce_instance" or name is None:
                continue
            value = average(series, now, AVERAGED_S, self._settings.time_scale)
            if value is not None:
                sums[name] = sums.get(name, 0.0) + value
        return sums

    def _announce(
        self, identifier: str, last: AutoscalerRecord | None, record: AutoscalerRecord, signals: Sequence[Signal]
    ) -> None:
        subject = short(identifier)
        if last is None or last.recommended != record.recommended:
            loads = ", ".join(
                f"{signal.name} {sum(signal.values.values()) / len(signal.values):.3g} of {signal.target:g}"
                for signal in signals
                if signal.values
            )
            before = last.recommended if last else "none"
            self._store.event(subject, f"recommended size {before} -> {record.recommended} ({loads or 'no data'})")
        for kind, message in record.details:
            if last is None or kind not in {known for known, _ in last.details}:
                self._store.event(subject, f"{kind}: {message}")

    def _tell(self, subject: str, text: str) -> None:
        if text not in self._told:
            self._told.add(text)
            self._store.event(subject, text)


def policy_of(spec: Json) -> Policy:
    """The policy of a RegionAutoscaler's `autoscalingPolicy`, with the API's defaults."""
    control = spec.get("scaleInControl") or spec.get("scaleDownControl")
    stabilization = spec.get("stabilizationPeriod")
    return Policy(
        minimum=int(spec["minReplicas"]),
        maximum=int(spec["maxReplicas"]),
        initialization_s=float(spec.get("cooldownPeriod", 60)),
        mode=spec.get("mode", "ON"),
        scale_in=_control(control) if control else None,
        stabilization_s=None if stabilization is None else float(stabilization),
    )


def _control(control: Json) -> ScaleInControl:
    most = control.get("maxScaledInReplicas") or control.get("maxScaledDownReplicas") or {}
    return ScaleInControl(
        window_s=float(control.get("timeWindowSec", 0)),
        fixed=None if most.get("fixed") is None else int(most["fixed"]),
        percent=None if most.get("percent") is None else int(most["percent"]),
    )


def metric_filter(metric: Mapping[str, Any]) -> Filter:
    """Series that an autoscaler's metric means. Raises FilterError for what the API or the sandbox cannot do."""
    if metric.get("type", "GAUGE") != "GAUGE":
        raise FilterError(f"type {metric['type']}: the sandbox models GAUGE")
    if metric.get("singleInstanceAssignment"):
        raise FilterError("singleInstanceAssignment: the sandbox models target")
    terms = dict(Filter.parse(metric.get("filter") or "").terms)
    if any(name.startswith("resource.labels") for name in terms):
        raise FilterError("a filter on resource labels is not allowed for the resource type gce_instance")
    if terms.setdefault("resource.type", "gce_instance") != "gce_instance":
        raise FilterError(f"resource.type {terms['resource.type']}: the sandbox models gce_instance")
    if terms.setdefault("metric.type", metric["name"]) != metric["name"]:
        raise FilterError("the filter's metric.type differs from the metric's name")
    return Filter(terms)


def average(series: Series, now: float, window_s: float, time_scale: float) -> float | None:
    """Mean of a gauge over the window; its newest point where scaling made the window shorter than its period."""
    points = series.between(now - window_s / time_scale, now) or series.between(now - window_s, now)[-1:]
    return sum(float(point.value) for point in points) / len(points) if points else None


def _resource(vm: Instance, project: str) -> dict[str, Any]:
    return {"type": "gce_instance", "labels": {"project_id": project, "instance_id": vm.numeric_id, "zone": vm.zone}}
