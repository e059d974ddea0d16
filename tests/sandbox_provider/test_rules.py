"""Rules that Google's provider, or the API behind it, decides in code."""

from __future__ import annotations

from typing import Any

import pytest

from sandbox.provider.check import DEFAULTS
from sandbox.provider.errors import CloudError
from sandbox.provider.wire import UNKNOWN
from tests.sandbox_provider.world import (
    ACCOUNT,
    ADDRESS,
    ALERT,
    AUTOSCALER,
    BACKEND,
    BUCKET,
    CONFIG,
    DASHBOARD,
    FIREWALL,
    GROUP,
    HEALTH_CHECK,
    HTTPS_PROXY,
    INSTANCE,
    METRIC,
    NAT,
    NETWORK,
    OBJECT,
    PROJECT_MEMBER,
    RULE,
    SERVICE,
    SUBNETWORK,
    TEMPLATE,
    URL_MAP,
    World,
    minimal,
    naming,
)

GPU = [{"type": "nvidia-tesla-t4", "count": 1}]


@pytest.mark.parametrize(
    ("token", "changes", "path", "words"),
    [
        (NETWORK, {"name": "Wrong_Name"}, "name", "lower-case letters"),
        (SUBNETWORK, {"ipCidrRange": "10.0.0.1/20"}, "ipCidrRange", "host bits"),
        (SUBNETWORK, {"ipCidrRange": None}, "ipCidrRange", "such as 10.0.0.0/20"),
        (FIREWALL, {"denies": [{"protocol": "tcp"}]}, "allows", "exactly one of allows and denies"),
        (FIREWALL, {"sourceRanges": None}, "sourceRanges", "one of sourceRanges"),
        (FIREWALL, {"targetServiceAccounts": ["a"], "targetTags": ["b"]}, "targetServiceAccounts", "conflicts with"),
        (NAT, {"sourceSubnetworkIpRangesToNat": "LIST_OF_SUBNETWORKS"}, "subnetworks", "exactly if"),
        (NAT, {"natIpAllocateOption": "MANUAL_ONLY"}, "natIps", "required"),
        (TEMPLATE, {"name": "a", "namePrefix": "b"}, "namePrefix", "conflicts with name"),
        (
            TEMPLATE,
            {"metadataStartupScript": "x", "metadata": {"startup-script": "y"}},
            "metadataStartupScript",
            "not both",
        ),
        (TEMPLATE, {"guestAccelerators": GPU}, "scheduling.onHostMaintenance", "TERMINATE"),
        (INSTANCE, {"guestAccelerators": GPU}, "scheduling.onHostMaintenance", "TERMINATE"),
        (
            TEMPLATE,
            {"scheduling": {"provisioningModel": "SPOT", "automaticRestart": False}},
            "scheduling.preemptible",
            "must be true",
        ),
        (TEMPLATE, {"scheduling": {"preemptible": True}}, "scheduling.automaticRestart", "must be false"),
        (INSTANCE, {"bootDisk": {}}, "bootDisk.initializeParams.image", "name an image"),
        (GROUP, {"distributionPolicyZones": None}, "distributionPolicyZones", "name them"),
        (GROUP, {"waitForInstances": True}, "waitForInstances", "does not model"),
        (
            GROUP,
            {"autoHealingPolicies": {"healthCheck": "c", "initialDelaySec": 3601}},
            "autoHealingPolicies.initialDelaySec",
            "0 to 3600",
        ),
        (HEALTH_CHECK, {"tcpHealthCheck": {"port": 1}}, "httpHealthCheck", "exactly one"),
        (HEALTH_CHECK, {"httpHealthCheck": None}, "httpHealthCheck", "exactly one"),
        (HEALTH_CHECK, {"timeoutSec": 6}, "timeoutSec", "must not exceed checkIntervalSec 5"),
        (URL_MAP, {"defaultService": None}, "defaultService", "exactly one"),
        (HTTPS_PROXY, {"sslCertificates": []}, "sslCertificates", "needs a certificate"),
        (RULE, {"portRange": "80-90"}, "portRange", "one port"),
        (RULE, {"portRange": "http"}, "portRange", "one port"),
        (RULE, {"portRange": None}, "portRange", "is not set"),
        (ACCOUNT, {"accountId": "short"}, "accountId", "6 to 30"),
        (PROJECT_MEMBER, {"member": "someone"}, "member", "serviceAccount:"),
        (PROJECT_MEMBER, {"role": "viewer"}, "role", "roles/<name>"),
        (SERVICE, {"service": "compute"}, "service", ".googleapis.com"),
        (BUCKET, {"name": "google-things"}, "name", "nor contain google"),
        (BUCKET, {"name": "Upper"}, "name", "lower-case"),
        (OBJECT, {"content": None}, "source", "exactly one"),
        (METRIC, {"type": "compute.googleapis.com/x"}, "type", "custom.googleapis.com/"),
        (DASHBOARD, {"dashboardJson": "{"}, "dashboardJson", "not JSON"),
        (DASHBOARD, {"dashboardJson": "{}"}, "dashboardJson", "displayName"),
        (ALERT, {"conditions": [{"displayName": "none"}]}, "conditions[0]", "exactly one"),
    ],
)
def test_a_plan_is_refused(world: World, token: str, changes: dict[str, Any], path: str, words: str) -> None:
    _, failures = world.resources.check(token, minimal(token, **changes), {}, naming())
    assert [one.path for one in failures] == [path]
    assert words in failures[0].reason


def policy(**changes: Any) -> dict[str, Any]:
    return {"updatePolicy": {"type": "PROACTIVE", "minimalAction": "REPLACE"} | changes}


def backend(**changes: Any) -> dict[str, Any]:
    return {"backends": [minimal(BACKEND)["backends"][0] | changes]}


def limits(low: int, high: int, **changes: Any) -> dict[str, Any]:
    return {"autoscalingPolicy": {"minReplicas": low, "maxReplicas": high} | changes}


@pytest.mark.parametrize(
    ("token", "changes", "words"),
    [
        (GROUP, policy(maxSurgeFixed=1), "has to be either 0 or at least equal to the number of zones"),
        (GROUP, policy(maxUnavailableFixed=1), "Fixed updatePolicy.maxUnavailable"),
        (GROUP, policy(replacementMethod="RECREATE", maxSurgeFixed=2), "replacement method is set to RECREATE"),
        (
            GROUP,
            policy(instanceRedistributionType="PROACTIVE") | {"distributionPolicyTargetShape": "BALANCED"},
            "target shape BALANCED",
        ),
        (AUTOSCALER, limits(5, 4), "must not be lower"),
        (AUTOSCALER, limits(1, 4, cpuUtilization={"target": 75.0}), "between 0"),
        (BACKEND, backend(balancingMode="RATE"), "Max rate or max rate per instance"),
        (BACKEND, backend(maxUtilization=8.0), "backends[0].maxUtilization"),
        (BACKEND, {"healthChecks": None}, "Health check is required"),
    ],
)
async def test_the_api_refuses_a_creation(world: World, token: str, changes: dict[str, Any], words: str) -> None:
    ids = await world.create_up_to(token)
    await world.resources.delete(token, ids[token])
    with pytest.raises(CloudError) as refusal:
        await world.create(token, **changes)
    assert words in str(refusal.value)


async def test_subnetworks_of_one_network_do_not_overlap(world: World) -> None:
    await world.create_up_to(SUBNETWORK)
    with pytest.raises(CloudError, match=r"10\.0\.8\.0/24 conflicts with existing subnetwork 'the-subnetwork'"):
        await world.create(SUBNETWORK, name="second", ipCidrRange="10.0.8.0/24")
    await world.create(SUBNETWORK, name="second", ipCidrRange="10.0.16.0/24")


async def test_a_group_is_not_resized_beside_its_autoscaler(world: World) -> None:
    ids = await world.create_up_to(AUTOSCALER)
    old, new = world.checked(GROUP), world.checked(GROUP, targetSize=3)
    with pytest.raises(CloudError, match="Resizing of autoscaled regional managed instance groups is not allowed"):
        await world.resources.update(
            GROUP, "urn:pulumi:s::p::t::g", ids[GROUP], old_inputs=old, inputs=new, config=CONFIG
        )


@pytest.mark.parametrize(
    ("token", "old", "new", "replaced"),
    [
        (TEMPLATE, {"metadata": {"a": "1"}}, {"metadata": {"a": "2"}}, True),
        (TEMPLATE, {"metadataStartupScript": "1"}, {"metadataStartupScript": "2"}, True),
        (TEMPLATE, {"labels": {"a": "1"}}, {"labels": {"a": "2"}}, True),
        (INSTANCE, {"metadata": {"a": "1"}}, {"metadata": {"a": "2"}}, False),
        (INSTANCE, {"metadataStartupScript": "1"}, {"metadataStartupScript": "2"}, True),
        (INSTANCE, {"metadataStartupScript": "1"}, {"metadata": {"startup-script": "1"}}, False),
        (INSTANCE, {"labels": {"a": "1"}}, {"labels": {"a": "2"}}, False),
        (SUBNETWORK, {"ipCidrRange": "10.0.0.0/20"}, {"ipCidrRange": "10.0.0.0/19"}, False),
        (SUBNETWORK, {"ipCidrRange": "10.0.0.0/20"}, {"ipCidrRange": "10.0.0.0/21"}, True),
        (GROUP, {"versions": [{"instanceTemplate": "a"}]}, {"versions": [{"instanceTemplate": "b"}]}, False),
    ],
)
def test_what_replaces_by_a_rule_in_code(
    world: World, token: str, old: dict[str, Any], new: dict[str, Any], replaced: bool
) -> None:
    found, _ = world.resources.diff(token, world.checked(token, **old), {}, world.checked(token, **new))
    assert found
    assert any(one.replaces for one in found) == replaced


@pytest.mark.parametrize(
    ("token", "old", "new"),
    [
        (BUCKET, {"location": "us-central1"}, {"location": "US-CENTRAL1"}),
        (RULE, {"portRange": "80"}, {"portRange": "80-80"}),
        (DASHBOARD, {"dashboardJson": '{"displayName":"d","a":1}'}, {"dashboardJson": '{"a": 1, "displayName": "d"}'}),
        (
            SUBNETWORK,
            {"network": "the-network"},
            {"network": "https://www.googleapis.com/compute/v1/projects/sandbox-project/global/networks/the-network"},
        ),
        (FIREWALL, {"sourceRanges": ["10.0.0.0/8", "11.0.0.0/8"]}, {"sourceRanges": ["11.0.0.0/8", "10.0.0.0/8"]}),
    ],
)
def test_two_ways_to_say_one_thing_are_no_change(
    world: World, token: str, old: dict[str, Any], new: dict[str, Any]
) -> None:
    found, _ = world.resources.diff(token, world.checked(token, **old), {}, world.checked(token, **new))
    assert found == []


def test_an_optional_computed_input_that_is_given_up_stays(world: World) -> None:
    old, new = world.checked(BACKEND, timeoutSec=60), world.checked(BACKEND)
    assert world.resources.diff(BACKEND, old, {"timeoutSec": 60}, new) == ([], False)


def test_an_input_given_with_the_value_that_it_has_is_no_change(world: World) -> None:
    old, new = world.checked(BACKEND), world.checked(BACKEND, timeoutSec=30)
    assert world.resources.diff(BACKEND, old, {"timeoutSec": 30}, new) == ([], False)
    found, _ = world.resources.diff(BACKEND, old, {"timeoutSec": 60}, new)
    assert [one.path for one in found] == ["timeoutSec"]


def test_a_replacement_under_a_name_that_the_program_gives_deletes_first(world: World) -> None:
    old, new = (world.checked(ADDRESS, description=text) for text in ("one", "two"))
    assert world.resources.diff(ADDRESS, old, {}, new)[1] is True
    renamed = world.checked(ADDRESS, name="another")
    assert world.resources.diff(ADDRESS, old, {}, renamed)[1] is True
    old, new = (world.checked(ADDRESS, name=None, description=text) for text in ("one", "two"))
    assert world.resources.diff(ADDRESS, old, {}, new)[1] is False


def test_a_template_under_another_name_need_not_delete_first(world: World) -> None:
    old, new = (world.checked(TEMPLATE, machineType=text) for text in ("one", "two"))
    assert world.resources.diff(TEMPLATE, old, {}, new)[1] is True
    renamed = world.checked(TEMPLATE, name="another", machineType="two")
    assert world.resources.diff(TEMPLATE, old, {}, renamed)[1] is False


def test_a_generated_name_has_seven_digits_and_stays(world: World) -> None:
    first, _ = world.resources.check(ADDRESS, {}, {}, naming("address"))
    assert first["name"] == "address-0001020"
    assert first[DEFAULTS] == ["addressType", "name"]
    later = naming("address", proposed="something-else")
    again, _ = world.resources.check(ADDRESS, {}, first, later)
    assert again["name"] == "address-0001020"
    given, _ = world.resources.check(ADDRESS, {}, {"name": "mine", DEFAULTS: []}, later)
    assert given["name"] == "something-else"


def test_autonaming_can_be_disabled_and_a_name_be_too_long(world: World) -> None:
    inputs, failures = world.resources.check(ADDRESS, {}, {}, naming("address", disabled=True))
    assert "name" not in inputs
    assert failures == []
    _, failures = world.resources.check(ADDRESS, {}, {}, naming("a" * 60))
    assert "has 68 characters, 63 are allowed" in failures[0].reason


def test_a_template_with_a_prefix_gets_no_generated_name(world: World) -> None:
    inputs, _ = world.resources.check(TEMPLATE, minimal(TEMPLATE, name=None, namePrefix="vm-"), {}, naming())
    assert "name" not in inputs


def test_defaults_are_filled_in_at_every_depth_and_marked(world: World) -> None:
    inputs = world.checked(GROUP, instanceLifecyclePolicy={"forceUpdateOnRepair": "YES"})
    lifecycle = inputs["instanceLifecyclePolicy"]
    assert lifecycle["defaultActionOnFailure"] == "REPAIR"
    assert lifecycle[DEFAULTS] == ["defaultActionOnFailure", "onFailedHealthCheck"]


def test_values_that_are_not_known_yet_pass_every_rule(world: World) -> None:
    for token in (SUBNETWORK, RULE, ACCOUNT, PROJECT_MEMBER, BUCKET, METRIC, DASHBOARD):
        inputs = dict.fromkeys(minimal(token), UNKNOWN)
        _, failures = world.resources.check(token, inputs, {}, naming())
        assert failures == [], token


def test_the_address_of_a_service_account_is_known_in_a_plan(world: World) -> None:
    planned = world.resources.plan_creation(ACCOUNT, world.checked(ACCOUNT), CONFIG)
    assert planned["email"] == "the-account@sandbox-project.iam.gserviceaccount.com"
    assert planned["uniqueId"] is UNKNOWN
