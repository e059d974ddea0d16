"""Create, read, update, delete: of every type, and the cloud's refusals."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import pytest

from sandbox.compute.records import GroupRecord
from sandbox.machine.instance import Instance
from sandbox.provider.errors import CloudError
from sandbox.provider.kinds import kinds
from sandbox.provider.resources import UnmodelledTypeError
from sandbox.provider.schema import resource_types
from sandbox.provider.wire import ASSET, SIGNATURE, UNKNOWN
from sandbox.store import INSTANCE as INSTANCE_RECORD
from sandbox.store import RESOURCE
from tests.sandbox_provider.world import (
    ACCOUNT,
    ADDRESS,
    ALERT,
    ARMOR,
    AUTOSCALER,
    BACKEND,
    BUCKET,
    BUCKET_MEMBER,
    CERTIFICATE,
    CONFIG,
    DASHBOARD,
    FIREWALL,
    GROUP,
    HEALTH_CHECK,
    HTTPS_PROXY,
    INSTANCE,
    METRIC,
    MINIMAL,
    NAT,
    NETWORK,
    OBJECT,
    PROJECT,
    PROJECT_MEMBER,
    PROXY,
    ROUTER,
    RULE,
    SERVICE,
    SUBNETWORK,
    TEMPLATE,
    URL_MAP,
    World,
    minimal,
    naming,
    urn,
)

IDS = {
    NETWORK: f"projects/{PROJECT}/global/networks/the-network",
    SUBNETWORK: f"projects/{PROJECT}/regions/us-central1/subnetworks/the-subnetwork",
    FIREWALL: rf"projects/{PROJECT}/global/firewalls/thing-[0-9a-f]{{7}}",
    ROUTER: f"projects/{PROJECT}/regions/us-central1/routers/the-router",
    NAT: rf"{PROJECT}/us-central1/the-router/thing-[0-9a-f]{{7}}",
    TEMPLATE: f"projects/{PROJECT}/global/instanceTemplates/the-template",
    GROUP: f"projects/{PROJECT}/regions/us-central1/instanceGroupManagers/the-group",
    AUTOSCALER: rf"projects/{PROJECT}/regions/us-central1/autoscalers/thing-[0-9a-f]{{7}}",
    HEALTH_CHECK: f"projects/{PROJECT}/global/healthChecks/the-check",
    BACKEND: f"projects/{PROJECT}/global/backendServices/the-backend",
    URL_MAP: f"projects/{PROJECT}/global/urlMaps/the-url-map",
    PROXY: f"projects/{PROJECT}/global/targetHttpProxies/the-proxy",
    HTTPS_PROXY: rf"projects/{PROJECT}/global/targetHttpsProxies/thing-[0-9a-f]{{7}}",
    CERTIFICATE: f"projects/{PROJECT}/global/sslCertificates/the-certificate",
    ADDRESS: f"projects/{PROJECT}/global/addresses/the-address",
    RULE: rf"projects/{PROJECT}/global/forwardingRules/thing-[0-9a-f]{{7}}",
    ARMOR: f"projects/{PROJECT}/global/securityPolicies/the-policy",
    INSTANCE: rf"projects/{PROJECT}/zones/us-central1-a/instances/thing-[0-9a-f]{{7}}",
    ACCOUNT: rf"projects/{PROJECT}/serviceAccounts/the-account@{PROJECT}\.iam\.gserviceaccount\.com",
    PROJECT_MEMBER: rf"{PROJECT}/roles/logging\.logWriter/serviceAccount:the-account@.*",
    SERVICE: rf"{PROJECT}/compute\.googleapis\.com",
    BUCKET: "the-bucket",
    OBJECT: r"the-bucket-thing-[0-9a-f]{7}",
    BUCKET_MEMBER: r"b/the-bucket/roles/storage\.objectViewer/serviceAccount:the-account@.*",
    METRIC: rf"projects/{PROJECT}/metricDescriptors/custom\.googleapis\.com/gpu",
    DASHBOARD: rf"projects/{PROJECT}/dashboards/[-0-9a-f]{{36}}",
    ALERT: rf"projects/{PROJECT}/alertPolicies/\d+",
}
"""Patterns of the ids: import formats of the provider's documentation."""


async def boot(world: World) -> None:
    """A machine host that needs no time: whatever a VM is to become, it is."""
    revision = -1
    while True:
        for key, record in list(world.store.items(INSTANCE_RECORD)):
            machine = Instance.of(record)
            if machine.desired == "DELETED":
                world.store.delete(INSTANCE_RECORD, key)
            elif machine.status != machine.desired:
                machine.status = machine.desired
                world.store.put(INSTANCE_RECORD, key, machine.as_json())
        revision = await world.store.changed(revision, 1.0)


async def everything(world: World) -> dict[str, tuple[str, dict[str, Any]]]:
    host = asyncio.create_task(boot(world))
    try:
        return {token: await world.create(token) for token in MINIMAL}
    finally:
        host.cancel()


async def test_every_type_is_created_with_its_id_and_all_outputs(world: World) -> None:
    made = await everything(world)
    assert set(made) == set(resource_types())
    for token, (identifier, state) in made.items():
        assert re.fullmatch(IDS[token], identifier), f"{token}: {identifier}"
        missing = [name for name, _ in resource_types()[token].outputs() if name not in state]
        assert missing == [], token
        record = world.store.get(RESOURCE, identifier)
        assert record is not None
        assert record["type"] == token
        assert "__defaults" not in json.dumps(record)


async def test_outputs_that_only_the_cloud_decides_are_unknown_in_a_plan(world: World) -> None:
    for token, kind in kinds().items():
        planned = world.resources.plan_creation(token, world.checked(token), CONFIG)
        for name, _ in resource_types()[token].outputs():
            assert (planned[name] is UNKNOWN) == (name not in kind.known_in_preview), f"{token} {name}"


async def test_what_is_read_back_declares_the_same(world: World) -> None:
    for token, (identifier, _) in (await everything(world)).items():
        inputs = world.checked(token)
        record = world.store.get(RESOURCE, identifier)
        assert record is not None
        inputs |= {key: record["inputs"][key] for key in ("name", "accountId") if key in record["inputs"]}
        found = world.resources.read(token, identifier, inputs)
        assert found is not None
        state, again = found
        assert world.resources.diff(token, inputs, state, again) == ([], False), token
        assert world.resources.diff(token, again, state, inputs) == ([], False), token


async def test_every_type_is_deleted_in_the_reverse_order_and_nothing_stays(world: World) -> None:
    made = await everything(world)
    host = asyncio.create_task(boot(world))
    for token, (identifier, _) in reversed(made.items()):
        await world.resources.delete(token, identifier)
        # An enabled API is the project's: it outlives whoever enabled it.
        assert (world.resources.read(token, identifier, {}) is None) == (token != SERVICE)
        await world.resources.delete(token, identifier)
    host.cancel()
    assert list(world.store.items(RESOURCE)) == []
    assert list(world.store.items("address")) == []
    assert world.buckets.held == {}


@pytest.mark.parametrize(
    ("held", "holder", "noun"),
    [
        (NETWORK, SUBNETWORK, "network"),
        (NETWORK, FIREWALL, "network"),
        (TEMPLATE, GROUP, "instance_template"),
        (HEALTH_CHECK, BACKEND, "health_check"),
        (GROUP, BACKEND, "instance_group_manager"),
        (BACKEND, URL_MAP, "backend_service"),
        (URL_MAP, PROXY, "url_map"),
        (PROXY, RULE, "target_http_proxy"),
        (ADDRESS, RULE, "address"),
        (CERTIFICATE, HTTPS_PROXY, "ssl_certificate"),
    ],
)
async def test_what_another_resource_uses_cannot_be_deleted(world: World, held: str, holder: str, noun: str) -> None:
    ids = await world.create_up_to(holder)
    with pytest.raises(CloudError) as refusal:
        await world.resources.delete(held, ids[held])
    assert str(refusal.value).startswith(
        f"googleapi: Error 400: The {noun} resource '{ids[held]}' is already being used by '"
    )
    assert str(refusal.value).endswith("', resourceInUseByAnotherResource")
    assert world.store.get(RESOURCE, ids[held]) is not None


async def test_an_autohealing_check_cannot_be_deleted_while_its_group_is_there(world: World) -> None:
    ids = await world.create_up_to(TEMPLATE, HEALTH_CHECK)
    await world.create(GROUP, autoHealingPolicies={"healthCheck": ids[HEALTH_CHECK], "initialDelaySec": 60})
    with pytest.raises(CloudError, match=r"health_check resource .* is already being used by .*/the-group'"):
        await world.resources.delete(HEALTH_CHECK, ids[HEALTH_CHECK])


async def test_a_template_may_go_once_its_group_has_another(world: World) -> None:
    ids = await world.create_up_to(GROUP)
    await world.create(TEMPLATE, name="another")
    old = world.checked(GROUP)
    new = world.checked(GROUP, versions=[{"instanceTemplate": "another"}])
    await world.resources.update(GROUP, urn(GROUP, "g"), ids[GROUP], old_inputs=old, inputs=new, config=CONFIG)
    await world.resources.delete(TEMPLATE, ids[TEMPLATE])


@pytest.mark.parametrize("token", [token for token in MINIMAL if token not in {DASHBOARD, ALERT, INSTANCE}])
async def test_a_name_is_taken_once(world: World, token: str) -> None:
    await world.create_up_to(token)
    if kinds()[token].overwrites:
        await world.create(token)
    else:
        with pytest.raises(CloudError) as refusal:
            await world.create(token)
        assert refusal.value.code == 409


@pytest.mark.parametrize("disabled", [False, True])
async def test_an_api_that_one_stack_lets_go_stays_enabled_for_another(world: World, disabled: bool) -> None:
    identifier, state = await world.create(SERVICE, disableOnDestroy=disabled)
    inputs = world.checked(SERVICE, disableOnDestroy=disabled)
    await world.create(SERVICE, disableOnDestroy=disabled)
    await world.resources.delete(SERVICE, identifier)
    assert world.store.get(RESOURCE, identifier) is None
    found = world.resources.read(SERVICE, identifier, inputs)
    if disabled:
        assert found is None
    else:
        assert found is not None
        assert found[1] == inputs
        assert found[0].items() >= {"service": state["service"], "project": PROJECT}.items()


@pytest.mark.parametrize(
    ("token", "changes", "missing"),
    [
        (SUBNETWORK, {"network": "nowhere"}, "global/networks/nowhere"),
        (GROUP, {"versions": [{"instanceTemplate": "nothing"}]}, "global/instanceTemplates/nothing"),
        (BACKEND, {"healthChecks": "nothing"}, "global/healthChecks/nothing"),
        (RULE, {"target": "global/targetHttpProxies/nothing"}, "global/targetHttpProxies/nothing"),
        (AUTOSCALER, {"target": "nothing"}, "regions/us-central1/instanceGroupManagers/nothing"),
    ],
)
async def test_what_a_resource_refers_to_must_be_there(
    world: World, token: str, changes: dict[str, Any], missing: str
) -> None:
    needed = await world.create_up_to(token)
    await world.resources.delete(token, needed[token])
    with pytest.raises(CloudError, match=f"Error 404: The resource 'projects/{PROJECT}/{missing}' was not found"):
        await world.create(token, **changes)


async def test_a_reference_to_a_resource_of_another_type_is_not_found(world: World) -> None:
    await world.create_up_to(NETWORK, ADDRESS)
    with pytest.raises(CloudError, match="was not found"):
        await world.create(SUBNETWORK, network=f"projects/{PROJECT}/global/addresses/the-address")


async def test_a_service_account_must_exist_to_get_a_role(world: World) -> None:
    with pytest.raises(CloudError, match=rf"Service account the-account@{PROJECT}.* does not exist"):
        await world.create(PROJECT_MEMBER)


async def test_a_bucket_with_strange_objects_stays_without_force_destroy(world: World) -> None:
    identifier, _ = await world.create(BUCKET)
    await world.buckets.put_object("the-bucket", "theirs", b"", "text/plain")
    with pytest.raises(CloudError, match="containing objects without `force_destroy` set to true"):
        await world.resources.delete(BUCKET, identifier)
    old, new = world.checked(BUCKET), world.checked(BUCKET, forceDestroy=True)
    await world.resources.update(BUCKET, urn(BUCKET, "b"), identifier, old_inputs=old, inputs=new, config=CONFIG)
    await world.resources.delete(BUCKET, identifier)
    assert world.buckets.held == {}


async def test_a_bucket_that_a_killed_daemon_made_is_taken_over(world: World) -> None:
    await world.buckets.create_bucket("the-bucket")
    identifier, _ = await world.create(BUCKET)
    assert identifier == "the-bucket"


async def test_objects_are_written_from_text_and_from_files(world: World) -> None:
    await world.create(BUCKET)
    (world.cloud.program / "file.bin").write_bytes(b"\x00\x01")
    text = {SIGNATURE: ASSET, "hash": "1", "text": "words"}
    file = {SIGNATURE: ASSET, "hash": "2", "path": "file.bin"}
    for name, source in (("text", text), ("file", file)):
        await world.create(OBJECT, name=name, content=None, source=source)
    assert world.buckets.held["the-bucket"] == {"text": b"words", "file": b"\x00\x01"}


async def test_changed_content_of_an_object_is_written_in_place(world: World) -> None:
    await world.create(BUCKET)
    identifier, _ = await world.create(OBJECT, name="o")
    old, new = world.checked(OBJECT, name="o"), world.checked(OBJECT, name="o", content="later")
    found, _ = world.resources.diff(OBJECT, old, {}, new)
    assert [(one.path, one.replaces) for one in found] == [("content", False)]
    await world.resources.update(OBJECT, urn(OBJECT, "o"), identifier, old_inputs=old, inputs=new, config=CONFIG)
    assert world.buckets.held["the-bucket"] == {"o": b"later"}


async def test_an_update_keeps_computed_values_and_drops_what_is_given_up(world: World) -> None:
    identifier, before = await world.create(HEALTH_CHECK, description="one")
    old, new = world.checked(HEALTH_CHECK, description="one"), world.checked(HEALTH_CHECK, checkIntervalSec=9)
    after = await world.resources.update(
        HEALTH_CHECK, urn(HEALTH_CHECK, "h"), identifier, old_inputs=old, inputs=new, config=CONFIG
    )
    assert after["creationTimestamp"] == before["creationTimestamp"]
    assert after["checkIntervalSec"] == 9
    assert "description" not in after


async def test_a_plan_of_an_update_shows_new_inputs_beside_old_outputs(world: World) -> None:
    _, before = await world.create(HEALTH_CHECK)
    planned = world.resources.plan_update(
        HEALTH_CHECK, world.checked(HEALTH_CHECK), before, world.checked(HEALTH_CHECK, checkIntervalSec=9)
    )
    assert planned["selfLink"] == before["selfLink"]
    assert planned["checkIntervalSec"] == 9


async def test_an_edit_behind_the_programs_back_shows_in_what_is_read(world: World) -> None:
    ids = await world.create_up_to(AUTOSCALER)
    record = world.store.get(RESOURCE, ids[AUTOSCALER])
    assert record is not None
    record["state"]["autoscalingPolicy"]["maxReplicas"] = 9
    world.store.put(RESOURCE, ids[AUTOSCALER], record)
    declared = world.checked(AUTOSCALER)
    declared["name"] = record["inputs"]["name"]
    found = world.resources.read(AUTOSCALER, ids[AUTOSCALER], declared)
    assert found is not None
    state, inputs = found
    drift, _ = world.resources.diff(AUTOSCALER, inputs, state, declared)
    assert [one.path for one in drift] == ["autoscalingPolicy.maxReplicas"]


async def test_the_size_of_a_group_is_the_controllers_and_no_drift(world: World) -> None:
    ids = await world.create_up_to(GROUP)
    world.store.put("group", ids[GROUP], GroupRecord(target_size=3, stable=True, reached=True).as_json())
    declared = world.checked(GROUP)
    found = world.resources.read(GROUP, ids[GROUP], declared)
    assert found is not None
    state, inputs = found
    assert state["targetSize"] == 3
    assert state["statuses"][0]["isStable"] is True
    assert world.resources.diff(GROUP, inputs, state, declared) == ([], False)


async def test_a_group_is_gone_only_once_its_instances_are(world: World) -> None:
    ids = await world.create_up_to(GROUP)
    machine = vm(created_by=ids[GROUP])
    world.store.put(INSTANCE_RECORD, machine.key, machine.as_json())
    deletion = asyncio.create_task(world.resources.delete(GROUP, ids[GROUP]))
    await asyncio.sleep(0)
    assert not deletion.done()
    assert world.store.get(RESOURCE, ids[GROUP]) is None
    world.store.delete(INSTANCE_RECORD, machine.key)
    await asyncio.wait_for(deletion, 5)


async def test_a_network_stays_while_a_vm_is_in_it(world: World) -> None:
    identifier, _ = await world.create(NETWORK)
    machine = vm(network=identifier)
    world.store.put(INSTANCE_RECORD, machine.key, machine.as_json())
    with pytest.raises(CloudError, match=r"network resource .* is already being used by .*/instances/vm-1'"):
        await world.resources.delete(NETWORK, identifier)


async def test_a_vm_is_in_the_network_of_its_subnetwork(world: World) -> None:
    ids = await world.create_up_to(TEMPLATE)
    record = world.store.get(RESOURCE, ids[TEMPLATE])
    assert record is not None
    assert record["state"]["networkInterfaces"][0]["network"] == f"projects/{PROJECT}/global/networks/the-network"


async def test_an_instance_is_inserted_for_the_machine_host_and_waited_for(world: World) -> None:
    await world.create_up_to(SUBNETWORK)
    host = asyncio.create_task(boot(world))
    identifier, state = await world.create(INSTANCE, metadata={"key": "value"}, metadataStartupScript="echo")
    machine = Instance.of(dict(world.store.items(INSTANCE_RECORD))[f"us-central1-a/{state['name']}"])
    assert machine.metadata == {"key": "value", "startup-script": "echo"}
    assert machine.address == state["networkInterfaces"][0]["networkIp"]
    assert state["currentStatus"] == "RUNNING"
    assert machine.numeric_id == state["instanceId"]
    old = world.checked(INSTANCE, metadata={"key": "value"}, metadataStartupScript="echo")
    new = world.checked(INSTANCE, metadata={"key": "value"}, metadataStartupScript="echo", desiredStatus="TERMINATED")
    stopped = await world.resources.update(
        INSTANCE, urn(INSTANCE, "i"), identifier, old_inputs=old, inputs=new, config=CONFIG
    )
    assert stopped["currentStatus"] == "TERMINATED"
    await world.resources.delete(INSTANCE, identifier)
    assert list(world.store.items(INSTANCE_RECORD)) == []
    host.cancel()


async def test_a_running_instance_does_not_change_its_machine_type(world: World) -> None:
    await world.create_up_to(SUBNETWORK)
    host = asyncio.create_task(boot(world))
    identifier, _ = await world.create(INSTANCE)
    host.cancel()
    with pytest.raises(CloudError, match="Changing machineType of a started instance requires stopping it"):
        await world.resources.update(
            INSTANCE,
            urn(INSTANCE, "i"),
            identifier,
            old_inputs=world.checked(INSTANCE),
            inputs=world.checked(INSTANCE, machineType="n1-standard-8"),
            config=CONFIG,
        )


async def test_a_vm_that_vanished_behind_the_programs_back_is_read_as_gone(world: World) -> None:
    await world.create_up_to(SUBNETWORK)
    host = asyncio.create_task(boot(world))
    identifier, state = await world.create(INSTANCE)
    host.cancel()
    world.store.delete(INSTANCE_RECORD, f"us-central1-a/{state['name']}")
    assert world.resources.read(INSTANCE, identifier, {}) is None


async def test_quota_is_counted_when_an_instance_is_inserted(tmp_path: Path) -> None:
    world = World.at(tmp_path, quotas={"NVIDIA_T4_GPUS": 3})
    await world.create_up_to(SUBNETWORK)
    with pytest.raises(
        CloudError, match=r"Error 403: Quota 'NVIDIA_T4_GPUS' exceeded\.  Limit: 3\.0 in region us-central1"
    ):
        await world.create(
            INSTANCE,
            guestAccelerators=[{"type": "nvidia-tesla-t4", "count": 4}],
            scheduling={"onHostMaintenance": "TERMINATE"},
        )


async def test_an_instance_fails_where_the_zone_has_no_gpu_left(tmp_path: Path) -> None:
    world = World.at(tmp_path, stockouts={"nvidia-tesla-t4": frozenset({"us-central1-a"})})
    await world.create_up_to(SUBNETWORK)
    with pytest.raises(CloudError, match=r"Error 503: The zone .*us-central1-a' does not have enough resources"):
        await world.create(
            INSTANCE,
            guestAccelerators=[{"type": "nvidia-tesla-t4", "count": 1}],
            scheduling={"onHostMaintenance": "TERMINATE"},
        )


async def test_an_address_given_by_link_is_an_address_in_the_rule(world: World) -> None:
    ids = await world.create_up_to(RULE)
    address = world.store.get(RESOURCE, ids[ADDRESS])
    rule = world.store.get(RESOURCE, ids[RULE])
    assert address is not None
    assert rule is not None
    assert rule["state"]["ipAddress"] == address["state"]["address"] == "127.204.1.1"


async def test_two_rules_cannot_have_one_address_and_port(world: World) -> None:
    await world.create_up_to(RULE)
    with pytest.raises(CloudError, match="Specified IP address is in-use and would result in a conflict"):
        await world.create(RULE, name="second")
    await world.create(RULE, name="second", portRange="81")


async def test_a_rule_without_an_address_gets_one_and_gives_it_back(world: World) -> None:
    await world.create_up_to(PROXY)
    identifier, state = await world.create(RULE, ipAddress=None)
    assert state["ipAddress"].startswith("127.204.1.")
    await world.resources.delete(RULE, identifier)
    assert list(world.store.items("address")) == []


async def test_the_parts_of_a_provider_instance_apply(world: World) -> None:
    inputs = world.checked(ADDRESS, labels={"own": "1"})
    config = type(CONFIG)(project=PROJECT, default_labels={"team": "ml"})
    _, state = await world.resources.create(ADDRESS, urn(ADDRESS, "a"), inputs, config)
    assert state["labels"] == {"own": "1"}
    assert state["effectiveLabels"] == {"own": "1", "team": "ml", "goog-pulumi-provisioned": "true"}


async def test_without_a_region_the_error_says_where_to_set_one(world: World) -> None:
    await world.create_up_to(NETWORK)
    config = type(CONFIG)(project=PROJECT)
    with pytest.raises(ValueError, match="no region: set it on the resource, or configure gcp:region"):
        await world.resources.create(ROUTER, urn(ROUTER, "r"), world.checked(ROUTER), config)


def test_an_unmodelled_type_names_itself_and_the_modelled_ones(world: World) -> None:
    with pytest.raises(
        UnmodelledTypeError, match=r"does not model gcp:sql/databaseInstance:DatabaseInstance; it models .*Network"
    ):
        world.resources.check("gcp:sql/databaseInstance:DatabaseInstance", {}, {}, naming())


def test_minimal_declarations_are_minimal() -> None:
    for token, resource_type in resource_types().items():
        for name, prop in resource_type.inputs():
            assert not prop.required or name in minimal(token)


def vm(**changes: Any) -> Instance:
    fields: dict[str, Any] = {
        "name": "vm-1",
        "zone": "us-central1-a",
        "numeric_id": "1",
        "address": "127.204.16.1",
        "machine_type": "n1-standard-4",
        "gpus": 0,
        "gpu_type": "",
        "image": "",
        "network": "",
        "subnetwork": "",
        "tags": [],
        "service_account": "",
        "scopes": [],
        "metadata": {},
    }
    return Instance(**(fields | changes))
