"""What the parts promise, apart from what any one stack file says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import contract
from artifact.key import artifact_key
from artifact.recipe import BuildRequest
from artifact.source import StoredObject, content_digest
from components.naming import FLEET_LABEL
from components.settings.network import ExistingNetwork
from serving.limits import LIMITS, of_metadata
from tests.program.configs import dev, pool
from tests.program.harness import REPOSITORY, STACKS, Config, Graph, Resource, run_program, stack_config

EXISTING = {
    "network": "projects/net-host/global/networks/shared",
    "subnetworks": {"us-central1": "projects/net-host/regions/us-central1/subnetworks/serving"},
}


def template(config: Config) -> dict[str, Any]:
    return run_program(config).one(":InstanceTemplate").inputs


def autoscaling(config: Config) -> dict[str, Any]:
    policy = run_program(config).one(":RegionAutoscaler").inputs["autoscalingPolicy"]
    assert isinstance(policy, dict)
    return policy


def needed_by(resource: Resource) -> set[str]:
    """Names of the resources that it explicitly waits for."""
    return {urn.rpartition("::")[2] for urn in resource.options.get("dependsOn", ())}


@pytest.mark.parametrize("stack", STACKS)
class TestEveryStack:
    def test_vms_have_no_public_address(self, stack: str) -> None:
        for one in run_program(stack_config(stack), stack=stack).of_type(":InstanceTemplate"):
            (interface,) = one.inputs["networkInterfaces"]
            assert "accessConfigs" not in interface

    def test_only_the_balancer_and_its_probes_reach_the_vms_and_only_the_api(self, stack: str) -> None:
        graph = run_program(stack_config(stack), stack=stack)
        rules = {rule.name: rule.inputs for rule in graph.of_type(":Firewall")}
        probes = rules.pop("network-allow-probes")

        assert probes["sourceRanges"] == ["130.211.0.0/22", "35.191.0.0/16"]
        assert probes["allows"] == [{"protocol": "tcp", "ports": ["8888"]}]
        assert probes["targetServiceAccounts"] == [graph.outputs["servingServiceAccount"]]
        assert probes["direction"] == "INGRESS"
        assert set(rules) <= {"network-allow-iap-ssh"}

    def test_agent_descriptor_and_autoscaler_name_one_metric(self, stack: str) -> None:
        graph = run_program(stack_config(stack), stack=stack)
        one = graph.of_type(":InstanceTemplate")[0].inputs["metadata"]
        agent = contract.gpu_metric_type(*one[contract.STACK_KEY].split("/"))
        autoscaler = graph.of_type(":RegionAutoscaler")[0].inputs["autoscalingPolicy"]["metrics"][0]["name"]

        assert agent == autoscaler == graph.one(":MetricDescriptor").inputs["type"] == graph.outputs["gpuMetric"]

    def test_groups_leave_their_size_to_the_autoscaler(self, stack: str) -> None:
        for group in run_program(stack_config(stack), stack=stack).of_type(":RegionInstanceGroupManager"):
            assert "targetSize" not in group.inputs
            assert group.inputs["waitForInstances"] is False

    def test_the_balancer_asks_for_serving_health_and_autohealing_for_liveness(self, stack: str) -> None:
        graph = run_program(stack_config(stack), stack=stack)
        checks = {check.name: check.inputs for check in graph.of_type(":HealthCheck")}
        serving = checks.pop("balancer-serving-health")

        assert serving["httpHealthCheck"] == {"port": 8888, "requestPath": "/v1/models/default"}
        assert (serving["checkIntervalSec"], serving["unhealthyThreshold"]) == (3, 2)
        assert checks
        for liveness in checks.values():
            assert liveness["httpHealthCheck"] == {"port": 8888, "requestPath": "/healthz"}
            assert liveness["unhealthyThreshold"] == 10

    def test_a_vm_counts_as_live_only_after_the_balancer_found_it_healthy(self, stack: str) -> None:
        """A rollout deletes an old VM once a new one is live; the balancer may have asked just before it served."""
        graph = run_program(stack_config(stack), stack=stack)
        checks = {check.name: check.inputs for check in graph.of_type(":HealthCheck")}
        serving = checks.pop("balancer-serving-health")

        latest_healthy_s = (serving["healthyThreshold"] + 1) * serving["checkIntervalSec"]
        assert checks
        for liveness in checks.values():
            assert (liveness["healthyThreshold"] - 1) * liveness["checkIntervalSec"] >= latest_healthy_s

    def test_load_balancing_scheme_is_explicit(self, stack: str) -> None:
        graph = run_program(stack_config(stack), stack=stack)
        for resource in (*graph.of_type(":BackendService"), *graph.of_type(":GlobalForwardingRule")):
            assert resource.inputs["loadBalancingScheme"] == "EXTERNAL_MANAGED"

    def test_names_that_must_be_new_are_left_to_autonaming(self, stack: str) -> None:
        """A template with a fixed name cannot be made before the old one is deleted, which is in use."""
        for resource in run_program(stack_config(stack), stack=stack).custom.values():
            if resource.type.startswith("gcp:storage") or resource.type.endswith(":Instance"):
                continue
            assert "name" not in resource.inputs
            assert "deleteBeforeReplace" not in resource.options

    def test_vms_wait_for_what_they_need_at_boot(self, stack: str) -> None:
        graph = run_program(stack_config(stack), stack=stack)
        nat = {r.name for r in graph.of_type(":RouterNat")}
        for group in graph.of_type(":RegionInstanceGroupManager"):
            assert needed_by(group) >= nat | {
                "network-allow-probes",
                "identity-serving-metrics",
                "identity-serving-logs",
                "model-inputs-serving-reads",
                "model-artifacts-serving-reads",
            }

    def test_the_address_answers_only_once_groups_are_sized(self, stack: str) -> None:
        graph = run_program(stack_config(stack), stack=stack)
        (rule,) = graph.of_type(":GlobalForwardingRule")
        assert needed_by(rule) == {autoscaler.name for autoscaler in graph.of_type(":RegionAutoscaler")}

    def test_everything_comes_after_the_apis(self, stack: str) -> None:
        graph = run_program(stack_config(stack), stack=stack)
        apis = {api.name for api in graph.of_type(":Service")}
        outermost = (r for r in graph.resources if r.type.startswith("tensorrt-fleet:") and len(r.parents) == 1)
        for component in (r for r in outermost if r.name != "services"):
            assert needed_by(component) == apis
        for api in graph.of_type(":Service"):
            assert api.inputs["disableOnDestroy"] is False

    def test_serving_reads_and_the_builder_cannot_overwrite(self, stack: str) -> None:
        graph = run_program(stack_config(stack), stack=stack)
        grants = {
            (
                r.inputs["bucket"].rpartition("-")[2],
                r.inputs["role"],
                r.inputs["member"].split("@")[0].rpartition("-")[2],
            )
            for r in graph.of_type(":BucketIAMMember")
        }
        viewer, creator = "roles/storage.objectViewer", "roles/storage.objectCreator"
        assert grants == {
            ("inputs", viewer, "builder"),
            ("inputs", viewer, "serving"),
            ("artifacts", viewer, "builder"),
            ("artifacts", creator, "builder"),
            ("artifacts", viewer, "serving"),
        }
        project = {(r.inputs["role"], r.name) for r in graph.of_type(":IAMMember")}
        assert project == {
            ("roles/logging.logWriter", "identity-serving-logs"),
            ("roles/logging.logWriter", "identity-builder-logs"),
            ("roles/monitoring.metricWriter", "identity-serving-metrics"),
        }


class TestTemplate:
    def test_a_vm_of_the_tutorial(self) -> None:
        vm = template(dev())

        assert vm["machineType"] == "n1-standard-16"
        assert vm["guestAccelerators"] == [{"type": "nvidia-tesla-t4", "count": 4}]
        assert vm["minCpuPlatform"] == "Intel Skylake"
        assert vm["scheduling"]["onHostMaintenance"] == "TERMINATE"
        (disk,) = vm["disks"]
        assert (disk["diskSizeGb"], disk["diskType"], disk["boot"]) == (100, "pd-ssd", True)
        assert vm["tags"] == ["http-server", "https-server"]
        assert vm["serviceAccount"]["scopes"] == ["https://www.googleapis.com/auth/cloud-platform"]
        assert vm["shieldedInstanceConfig"]["enableVtpm"]
        assert vm["shieldedInstanceConfig"]["enableIntegrityMonitoring"]

    def test_metadata_holds_every_key_of_the_contract(self) -> None:
        keys = {value for name, value in vars(contract).items() if name.endswith("_KEY")}
        assert keys - {contract.BUILD_REQUEST_KEY, contract.SERVING_LIMITS_KEY} <= template(dev())["metadata"].keys()

    @pytest.mark.parametrize(
        ("changes", "limits"),
        [
            ({"observability": {"accessLogSample": 0.5}}, {"access_log_sample": 0.5}),
            ({"loadBalancer": {"queueDeadlineS": 0.25}}, {"queue_deadline_s": 0.25}),
        ],
    )
    def test_vms_are_told_other_limits_as_serving_reads_them(
        self, changes: dict[str, Any], limits: dict[str, float]
    ) -> None:
        assert contract.SERVING_LIMITS_KEY not in template(dev())["metadata"]
        values = of_metadata(template(dev(**changes))["metadata"][contract.SERVING_LIMITS_KEY])
        assert values == limits
        assert values.keys() <= {limit.name for limit in LIMITS}

    def test_spot_vms_are_spot_and_others_are_not(self) -> None:
        spot, standard = (template(dev(fleet={"pools": [pool(spot=spot)]}))["scheduling"] for spot in (True, False))

        assert spot == {
            "automaticRestart": False,
            "onHostMaintenance": "TERMINATE",
            "preemptible": True,
            "provisioningModel": "SPOT",
        }
        assert (standard["provisioningModel"], standard["automaticRestart"]) == ("STANDARD", True)

    def test_old_bundles_outlive_the_rollout_that_replaces_them(self) -> None:
        assert run_program(dev()).one(":BucketObject", "model-serving-code").options["retainOnDelete"]

    def test_templates_wait_for_what_makes_their_model(self) -> None:
        graph = run_program(dev(fleet={"pools": [pool(), pool(spot=True)]}))
        for one in graph.of_type(":InstanceTemplate"):
            assert needed_by(one) >= {"model-builder-vm", "model-artifacts-serving-reads"}
            assert one.options["hooks"] == {"beforeCreate": ["model-is-built"]}

    def test_a_ready_artifact_is_waited_for_without_a_builder(self) -> None:
        graph = run_program(dev(model={"artifact": "gs://registry/models/0123456789abcdef0123/"}))
        assert graph.one(":InstanceTemplate").options["hooks"] == {"beforeCreate": ["model-is-built"]}
        assert [r.name for r in graph.of_type(":BucketObject")] == ["model-serving-code"]


def builder(config: Config) -> Resource:
    return run_program(config).one(":Instance")


class TestBuilder:
    def test_a_vm_with_one_t4_that_ends_by_itself(self) -> None:
        vm = builder(dev()).inputs

        assert (vm["machineType"], vm["zone"]) == ("n1-standard-8", "us-central1-a")
        assert vm["guestAccelerators"] == [{"type": "nvidia-tesla-t4", "count": 1}]
        assert vm["scheduling"]["onHostMaintenance"] == "TERMINATE"
        assert vm["scheduling"]["maxRunDuration"] == {"seconds": 7200}
        assert vm["scheduling"]["instanceTerminationAction"] == "STOP"
        assert vm["networkInterfaces"] == [{"subnetwork": vm["networkInterfaces"][0]["subnetwork"]}], (
            "no public address"
        )
        assert vm["shieldedInstanceConfig"]["enableVtpm"] is True
        assert "-builder@" in vm["serviceAccount"]["email"]

    def test_nothing_declares_whether_it_runs(self) -> None:
        """It powers itself off: a declared status would start it again with every `up`."""
        assert "desiredStatus" not in builder(dev()).inputs

    def test_its_name_carries_stack_and_key(self) -> None:
        config = stack_config("dev")
        graph = run_program(config, stack="s" * 16)
        name = graph.one(":Instance").inputs["name"]
        assert name == f"{'s' * 16}-builder-{graph.outputs['modelKey']}"
        assert len(name) <= 63

    def test_it_waits_for_its_bindings_and_its_way_out(self) -> None:
        assert needed_by(builder(dev())) >= {
            "identity-builder-logs",
            "model-inputs-builder-reads",
            "model-artifacts-builder-creates",
            "model-artifacts-builder-reads",
            "network-nat-us-central1",
        }

    def test_it_is_told_what_to_build_and_where_it_belongs(self) -> None:
        graph = run_program(dev(model={"recipe": {"method": "max"}}))
        metadata = graph.one(":Instance").inputs["metadata"]
        request = BuildRequest.model_validate_json(metadata[contract.BUILD_REQUEST_KEY])

        assert request.recipe.method == "max"
        assert artifact_key(request.inputs(REPOSITORY)) == graph.outputs["modelKey"]
        assert metadata[contract.ARTIFACT_KEY] == graph.outputs["modelUri"]
        assert metadata[contract.CODE_KEY].endswith(f"/code/{metadata[contract.CODE_SHA256_KEY]}.tar.gz")
        assert metadata[contract.CONTAINER_KEY] == "nvcr.io/nvidia/tensorrt:25.08-py3"

    def test_a_model_in_cloud_storage_is_read_with_the_builders_own_rights(self) -> None:
        graph = run_program(dev(model={"source": "gs://my-models/m.tar.gz#17", "labels": "gs://my-models/l.txt#18"}))
        grant = graph.one(":BucketIAMMember", "model-source-my-models-builder-reads").inputs
        assert (grant["bucket"], grant["role"]) == ("my-models", "roles/storage.objectViewer")
        assert "-builder@" in grant["member"]
        assert "model-source-my-models-builder-reads" in needed_by(graph.one(":Instance"))
        request = json.loads(graph.one(":Instance").inputs["metadata"][contract.BUILD_REQUEST_KEY])
        assert (request["source"], request["labels"]) == ("gs://my-models/m.tar.gz#17", "gs://my-models/l.txt#18")

    def test_a_model_of_this_machine_is_uploaded_under_its_content_and_keeps_its_key(self, tmp_path: Path) -> None:
        folder = tmp_path / "model"
        folder.mkdir()
        (folder / "saved_model.pb").write_bytes(b"graph")
        (tmp_path / "photos.TAR.GZ").write_bytes(b"photos")
        paths = {"source": str(folder), "calibration": str(tmp_path / "photos.TAR.GZ")}
        graph = run_program(dev(model=paths))
        request = BuildRequest.model_validate_json(
            graph.one(":Instance").inputs["metadata"][contract.BUILD_REQUEST_KEY]
        )
        for role, suffix in (("source", ".tar"), ("calibration", ".tar.gz")):
            sent = graph.one(":BucketObject", f"model-{role}").inputs
            digest = StoredObject.parse(getattr(request, role)).sha256
            assert sent["name"] == f"{role}/{digest}{suffix}"
            assert content_digest(REPOSITORY / sent["source"]["asset"]) == digest
            assert getattr(request, role) == f"gs://{sent['bucket']}/{sent['name']}#sha256:{digest}"
            assert f"model-{role}" in needed_by(graph.one(":Instance"))
        asked = BuildRequest.model_validate(request.model_dump() | paths)
        keys = {artifact_key(one.inputs(REPOSITORY)) for one in (request, asked)}
        assert keys == {graph.outputs["modelKey"]}

    def test_nothing_is_uploaded_for_a_ready_artifact(self, tmp_path: Path) -> None:
        (tmp_path / "graph.pb").write_bytes(b"graph")
        ready = {"source": str(tmp_path / "graph.pb"), "artifact": "gs://registry/models/0123456789abcdef0123/"}
        assert [r.name for r in run_program(dev(model=ready)).of_type(":BucketObject")] == ["model-serving-code"]

    @pytest.mark.parametrize(("runtime", "gpus"), [("tensorrt", "1"), ("onnxruntime-cpu", "0")])
    def test_it_waits_for_a_gpu_only_where_plans_are_built(self, runtime: str, gpus: str) -> None:
        assert builder(dev(model={"runtime": runtime})).inputs["metadata"][contract.GPU_COUNT_KEY] == gpus

    def test_no_alert_takes_it_for_one_of_the_fleet(self) -> None:
        assert FLEET_LABEL not in builder(dev()).inputs["labels"]


class TestGroup:
    def test_a_rollout_adds_before_it_takes_away(self) -> None:
        policy = (
            run_program(dev(fleet={"pools": [pool(zones="abf")]}))
            .one(":RegionInstanceGroupManager")
            .inputs["updatePolicy"]
        )
        assert policy == {
            "type": "PROACTIVE",
            "minimalAction": "REPLACE",
            "mostDisruptiveAllowedAction": "REPLACE",
            "replacementMethod": "SUBSTITUTE",
            "instanceRedistributionType": "PROACTIVE",
            "maxSurgeFixed": 3,
            "maxUnavailableFixed": 0,
        }

    def test_a_balanced_group_is_not_redistributed(self) -> None:
        group = run_program(dev(fleet={"update": {"shape": "BALANCED"}})).one(":RegionInstanceGroupManager").inputs
        assert group["distributionPolicyTargetShape"] == "BALANCED"
        assert group["updatePolicy"]["instanceRedistributionType"] == "NONE"

    def test_autoscaling_signals_of_the_tutorial(self) -> None:
        policy = autoscaling(dev())

        assert (policy["minReplicas"], policy["maxReplicas"], policy["cooldownPeriod"]) == (2, 4, 360)
        (metric,) = policy["metrics"]
        assert (metric["type"], metric["target"]) == ("GAUGE", 85)
        assert policy["cpuUtilization"] == {"target": 0.75}
        assert policy["scaleInControl"] == {"maxScaledInReplicas": {"fixed": 1}, "timeWindowSec": 600}

    def test_the_ops_agents_series_of_all_gpus_are_added_up(self) -> None:
        """One series a GPU, four GPUs: 85 % of each is 340 (Google Cloud adds several series of one VM)."""
        (metric,) = autoscaling(dev(autoscaling={"metricSource": "ops-agent"}))["metrics"]
        assert (metric["name"], metric["target"]) == ("agent.googleapis.com/gpu/utilization", 340)

    def test_google_s_own_metric_is_not_described(self) -> None:
        assert run_program(dev(autoscaling={"metricSource": "ops-agent"})).of_type(":MetricDescriptor") == []

    def test_cpu_can_be_left_out(self) -> None:
        assert "cpuUtilization" not in autoscaling(dev(autoscaling={"cpuTarget": None}))

    def test_a_paused_fleet_has_no_vms_and_raises_no_alarm(self) -> None:
        config = dev(fleet={"paused": True})
        policy = autoscaling(config)
        assert (policy["minReplicas"], policy["maxReplicas"]) == (0, 0)
        assert run_program(config).one(":AlertPolicy", "observability-silence").inputs["enabled"] is False

    def test_vm_names_begin_with_stack_and_pool(self) -> None:
        groups = run_program(dev(fleet={"pools": [pool(), pool(spot=True)]})).of_type(":RegionInstanceGroupManager")
        assert {g.inputs["baseInstanceName"] for g in groups} == {"dev-us-central1", "dev-us-central1-spot"}


class TestProtection:
    def test_prod_keeps_what_others_rely_on_and_nothing_else(self) -> None:
        graph = run_program(stack_config("prod"), stack="prod")
        kept = {r.name for r in graph.resources if r.options.get("protect")}
        assert kept == {"model-inputs", "model-artifacts", "balancer-address"}
        assert not [b for b in graph.of_type(":Bucket") if b.inputs["forceDestroy"]]

    @pytest.mark.parametrize("stack", ["dev", "small", "local"])
    def test_other_stacks_leave_nothing(self, stack: str) -> None:
        graph = run_program(stack_config(stack), stack=stack)
        assert not [r.name for r in graph.resources if r.options.get("protect")]
        assert all(b.inputs["forceDestroy"] for b in graph.of_type(":Bucket"))


class TestNetwork:
    def test_no_nat_where_none_is_asked_for(self) -> None:
        graph = run_program(stack_config("prod"), stack="prod")
        assert graph.of_type(":Router") == graph.of_type(":RouterNat") == []

    def test_subnets_reach_google_without_public_addresses(self) -> None:
        for subnet in run_program(dev(fleet={"pools": [pool(), pool("us-west1")]})).of_type(":Subnetwork"):
            assert subnet.inputs["privateIpGoogleAccess"] is True

    def test_an_existing_network_is_used_and_only_its_rules_are_made(self) -> None:
        graph = run_program(dev(network={"existing": EXISTING}))

        assert graph.of_type(":Network") == [r for r in graph.of_type(":Network") if r.type.startswith("tensorrt")]
        assert graph.of_type(":Subnetwork") == []
        (interface,) = graph.one(":InstanceTemplate").inputs["networkInterfaces"]
        assert interface["subnetwork"] == EXISTING["subnetworks"]["us-central1"]  # type: ignore[index]
        assert ExistingNetwork.model_validate_json(json.dumps(EXISTING)).project == "net-host"
        for rule in graph.of_type(":Firewall"):
            assert (rule.inputs["project"], rule.inputs["network"]) == ("net-host", EXISTING["network"])

    def test_ssh_comes_through_identity_aware_proxy_only(self) -> None:
        rule = run_program(dev(network={"iapSsh": True})).one(":Firewall", "network-allow-iap-ssh").inputs
        assert rule["sourceRanges"] == ["35.235.240.0/20"]
        assert rule["allows"] == [{"protocol": "tcp", "ports": ["22"]}]


class TestLoadBalancer:
    def test_the_chain_of_the_tutorial(self) -> None:
        graph = run_program(dev())
        backend, urls, proxy, rule = (
            graph.one(kind) for kind in (":BackendService", ":URLMap", ":TargetHttpProxy", ":GlobalForwardingRule")
        )

        (group,) = backend.inputs["backends"]
        assert (group["balancingMode"], group["maxUtilization"], group["capacityScaler"]) == ("UTILIZATION", 0.8, 1)
        assert group["group"] == graph.outputs["instanceGroups"][0]
        assert (backend.inputs["portName"], backend.inputs["protocol"]) == ("http", "HTTP")
        assert urls.inputs["defaultService"] == graph.outputs["backendService"]
        assert proxy.inputs["urlMap"].endswith("urlMaps/balancer-url-map-1a2b3c4")
        assert rule.inputs["target"].endswith("targetHttpProxies/balancer-http-proxy-1a2b3c4")
        assert (rule.inputs["ipAddress"], rule.inputs["portRange"]) == (graph.outputs["ipAddress"], "80")

    def test_rate_mode_counts_requests_and_no_cpu(self) -> None:
        config = dev(loadBalancer={"mode": "RATE", "maxRatePerInstance": 400})
        (group,) = run_program(config).one(":BackendService").inputs["backends"]
        assert (group["balancingMode"], group["maxRatePerInstance"]) == ("RATE", 400)
        assert "maxUtilization" not in group

    def test_https_serves_and_http_redirects_without_losing_the_body(self) -> None:
        graph = run_program(dev(loadBalancer={"https": {"domains": ["api.example.com"]}}))

        assert graph.one(":ManagedSslCertificate").inputs["managed"] == {"domains": ["api.example.com"]}
        rules = {rule.name: rule.inputs for rule in graph.of_type(":GlobalForwardingRule")}
        assert rules["balancer-https"]["portRange"] == "443"
        assert "targetHttpsProxies" in rules["balancer-https"]["target"]
        assert graph.one(":TargetHttpsProxy").inputs["urlMap"].endswith("balancer-url-map-1a2b3c4")
        assert graph.one(":TargetHttpProxy").inputs["urlMap"].endswith("balancer-redirect-1a2b3c4")
        redirect = graph.one(":URLMap", "balancer-redirect").inputs["defaultUrlRedirect"]
        assert (redirect["httpsRedirect"], redirect["redirectResponseCode"]) == (True, "PERMANENT_REDIRECT")

    def test_policy_and_logging_are_by_configuration(self) -> None:
        policy = "projects/my-project/global/securityPolicies/edge"
        plain = run_program(dev()).one(":BackendService").inputs
        guarded = run_program(dev(loadBalancer={"securityPolicy": policy, "logging": {"sampleRate": 0.25}}))

        assert "securityPolicy" not in plain
        assert plain["logConfig"] == {"enable": False}
        assert guarded.one(":BackendService").inputs["securityPolicy"] == policy
        assert guarded.one(":BackendService").inputs["logConfig"] == {"enable": True, "sampleRate": 0.25}


class TestObservability:
    def test_alerts_tell_the_channels_that_are_named(self) -> None:
        channel = "projects/my-project/notificationChannels/7"
        alerts = run_program(dev(observability={"notificationChannels": [channel]})).of_type(":AlertPolicy")
        assert len(alerts) == 2
        assert all(alert.inputs["notificationChannels"] == [channel] for alert in alerts)

    def test_silence_is_the_fleets_not_one_vms(self) -> None:
        (condition,) = run_program(dev()).one(":AlertPolicy", "observability-silence").inputs["conditions"]
        absent = condition["conditionAbsent"]
        assert 'metric.type="custom.googleapis.com/tensorrt_fleet/dev/gpu_utilization"' in absent["filter"]
        assert [a["crossSeriesReducer"] for a in absent["aggregations"]] == ["REDUCE_COUNT"]

    def test_failures_are_counted_for_this_balancer(self) -> None:
        graph = run_program(dev())
        (condition,) = graph.one(":AlertPolicy", "observability-failures").inputs["conditions"]
        for key in ("filter", "denominatorFilter"):
            assert 'url_map_name="balancer-url-map-1a2b3c4"' in condition["conditionThreshold"][key]

    def test_dashboard_and_alerts_can_be_left_out(self) -> None:
        graph = run_program(dev(observability={"dashboard": False, "alerts": False}))
        assert graph.of_type(":Dashboard") == graph.of_type(":AlertPolicy") == []

    def test_dashboard_tiles_do_not_overlap(self) -> None:
        board = json.loads(run_program(dev()).one(":Dashboard").inputs["dashboardJson"])["mosaicLayout"]
        cells = [
            (x, y)
            for tile in board["tiles"]
            for x in range(tile["xPos"], tile["xPos"] + tile["width"])
            for y in range(tile["yPos"], tile["yPos"] + tile["height"])
        ]
        assert len(cells) == len(set(cells))
        assert max(x for x, _ in cells) < board["columns"]


def test_graph_has_no_call_to_the_cloud_in_preview() -> None:
    """The harness answers no invoke: a program that made one would fail here."""
    graph: Graph = run_program(dev(), preview=True)
    assert graph.resources
