"""The decision of `wait`, on states made by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from client.fleet import FleetState, GroupState
from client.outputs import GroupName
from client.resources import Autoscaler, HealthStatus, InstanceGroupManager, ManagedInstance
from client.rollout import findings, healthy_count

NEW, OLD = "fleet-new", "fleet-old"


def instance(name: str = "vm-a", **changes: Any) -> ManagedInstance:
    fields: dict[str, Any] = {
        "instance": f"projects/p/zones/us-central1-a/instances/{name}",
        "instanceStatus": "RUNNING",
        "currentAction": "NONE",
        "version": {"instanceTemplate": f"projects/p/global/instanceTemplates/{NEW}"},
    }
    return ManagedInstance.model_validate(fields | changes)


def health(name: str = "vm-a", state: str = "HEALTHY", **changes: Any) -> HealthStatus:
    return HealthStatus.model_validate({"instance": f"zones/z/instances/{name}", "healthState": state} | changes)


def manager(**changes: Any) -> InstanceGroupManager:
    fields: dict[str, Any] = {
        "name": "g",
        "targetSize": 2,
        "versions": [{"instanceTemplate": f"global/instanceTemplates/{NEW}"}],
        "status": {"isStable": True, "versionTarget": {"isReached": True}},
    }
    return InstanceGroupManager.model_validate(fields | changes)


def autoscaler(smallest: int = 2, largest: int = 4, **changes: Any) -> Autoscaler:
    policy = {"minNumReplicas": smallest, "maxNumReplicas": largest}
    return Autoscaler.model_validate({"name": "s", "status": "ACTIVE", "autoscalingPolicy": policy} | changes)


ARRIVED = GroupState(
    name=GroupName("p", "us-central1", "g"),
    wanted_template=NEW,
    manager=manager(),
    instances=(instance("vm-a"), instance("vm-b")),
    health=(health("vm-a"), health("vm-b")),
    autoscaler=autoscaler(),
)


def missing(**changes: Any) -> list[str]:
    return [str(finding) for finding in findings(FleetState(groups=(replace(ARRIVED, **changes),)))]


def test_fleet_has_arrived_when_everything_agrees() -> None:
    assert missing() == []
    assert missing(autoscaler=None) == []


def test_new_group_that_is_stable_because_it_is_empty_has_not_arrived() -> None:
    (only,) = missing(manager=manager(targetSize=0), instances=(), health=())
    assert only == "g (us-central1): target size is 0, below the minimum of 2"


def test_paused_group_has_arrived_when_it_is_empty() -> None:
    paused = autoscaler(0, 0)
    assert missing(manager=manager(targetSize=0), instances=(), health=(), autoscaler=paused) == []
    leaving = instance(currentAction="DELETING")
    assert missing(manager=manager(targetSize=0), instances=(leaving,), health=(), autoscaler=paused) != []


def test_group_without_autoscaler_needs_one_vm() -> None:
    assert missing(manager=manager(targetSize=0), instances=(), health=(), autoscaler=None) != []


def test_autoscalers_reason_explains_a_size_below_the_minimum() -> None:
    scaler = autoscaler(statusDetails=[{"type": "NOT_ENOUGH_QUOTA_AVAILABLE", "message": "T4 quota is 8"}])
    (only,) = missing(manager=manager(targetSize=1), instances=(instance(),), health=(health(),), autoscaler=scaler)
    assert only.endswith("below the minimum of 2: T4 quota is 8")


def test_group_that_still_rolls_out_the_old_template_has_not_arrived() -> None:
    """Just before an update is applied the old version is reached, stable and healthy."""
    old = manager(versions=[{"instanceTemplate": f"global/instanceTemplates/{OLD}"}])
    stale = tuple(
        instance(name, version={"instanceTemplate": f"global/instanceTemplates/{OLD}"}) for name in ("vm-a", "vm-b")
    )
    assert f"g (us-central1): rolls out template {OLD}, not {NEW}" in missing(manager=old, instances=stale)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"currentAction": "CREATING", "instanceStatus": ""}, "vm-a (us-central1-a): CREATING, status none"),
        ({"currentAction": "VERIFYING"}, "vm-a (us-central1-a): VERIFYING, status RUNNING"),
        ({"instanceStatus": "TERMINATED"}, "vm-a (us-central1-a): status TERMINATED"),
        ({"version": {"instanceTemplate": OLD}}, f"vm-a (us-central1-a): still has template {OLD}"),
        (
            {
                "currentAction": "CREATING",
                "instanceStatus": "",
                "lastAttempt": {"errors": {"errors": [{"code": "ZONE_RESOURCE_POOL_EXHAUSTED", "message": "no T4"}]}},
            },
            "vm-a (us-central1-a): CREATING, status none: ZONE_RESOURCE_POOL_EXHAUSTED: no T4",
        ),
    ],
)
def test_vm_that_is_not_there_yet_is_named_with_zone_and_reason(changes: dict[str, Any], expected: str) -> None:
    assert missing(instances=(instance("vm-a", **changes), instance("vm-b"))) == [expected]


def test_vm_without_a_probe_or_with_a_bad_one_is_named() -> None:
    assert missing(health=(health("vm-b"),)) == ["vm-a (us-central1-a): not probed by the load balancer yet"]
    assert missing(health=(health("vm-a", ""), health("vm-b"))) == [
        "vm-a (us-central1-a): not probed by the load balancer yet"
    ]
    sick = health("vm-a", "UNHEALTHY", annotations={"reason": "canary failed on GPU 2"})
    assert missing(health=(sick, health("vm-b"))) == [
        "vm-a (us-central1-a): UNHEALTHY for the load balancer: reason: canary failed on GPU 2"
    ]
    (only,) = missing(health=(health("vm-a", "UNHEALTHY", annotations={"reason": "x" * 5000}), health("vm-b")))
    assert only.endswith("xxx...")
    assert len(only) < 300


def test_autohealings_view_explains_an_unhealthy_vm() -> None:
    timing_out = instance("vm-a", instanceHealth=[{"detailedHealthState": "TIMEOUT"}])
    (only,) = missing(instances=(timing_out, instance("vm-b")), health=(health("vm-a", "UNHEALTHY"), health("vm-b")))
    assert only.endswith("UNHEALTHY for the load balancer: autohealing check TIMEOUT")


def test_missing_vm_is_counted() -> None:
    assert missing(instances=(instance("vm-a"),)) == ["g (us-central1): has 1 of 2 VMs"]


def test_versions_and_stability_are_needed_even_if_every_vm_looks_right() -> None:
    status = {"isStable": False, "versionTarget": {"isReached": True}}
    assert missing(manager=manager(status=status)) == ["g (us-central1): is not stable yet"]
    status = {"isStable": True, "versionTarget": {"isReached": False}}
    assert missing(manager=manager(status=status)) == ["g (us-central1): not every VM has the new version"]
    (only,) = missing(manager=manager(status=status, updatePolicy={"type": "OPPORTUNISTIC"}))
    assert "managed update-instances g --all-instances --minimal-action replace --region us-central1" in only


def test_autoscaler_in_error_is_named() -> None:
    broken = autoscaler(status="ERROR", statusDetails=[{"type": "CUSTOM_METRIC_INVALID"}])
    assert missing(autoscaler=broken) == ["g (us-central1): autoscaler reports an error: CUSTOM_METRIC_INVALID"]


def test_every_group_must_have_arrived() -> None:
    other = replace(ARRIVED, name=GroupName("p", "europe-west4", "h"), instances=ARRIVED.instances[:1])
    found = findings(FleetState(groups=(ARRIVED, other)))
    assert [(one.subject, one.place, one.is_vm) for one in found] == [("h", "europe-west4", False)]


def test_only_the_groups_own_vms_count_as_healthy() -> None:
    assert healthy_count(replace(ARRIVED, health=(*ARRIVED.health, health("stranger")))) == 2
