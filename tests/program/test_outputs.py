"""The outputs are an interface: names and types, whatever the configuration."""

from __future__ import annotations

import pytest

from tests.program.configs import dev, pool
from tests.program.harness import STACKS, Config, run_program, stack_config

INTERFACE: dict[str, type | tuple[type, ...]] = {
    "artifactBucket": str,
    "backendService": str,
    "dashboardUrl": str,
    "endpoint": str,
    "gpuMetric": str,
    "healthUrl": str,
    "instanceGroups": list,
    "instanceTemplates": list,
    "ipAddress": str,
    "modelKey": str,
    "modelUri": str,
    "monthlyCostUsdMax": (int, float),
    "monthlyCostUsdMin": (int, float),
    "predictUrl": str,
    "quotaRequired": dict,
    "servingServiceAccount": str,
}


@pytest.mark.parametrize(
    "config",
    [
        *(stack_config(stack) for stack in STACKS),
        dev(observability={"dashboard": False, "alerts": False}),
        dev(loadBalancer={"https": {"domains": ["api.example.com"]}}),
        dev(fleet={"paused": True}),
        dev(autoscaling={"metricSource": "ops-agent"}),
    ],
)
def test_every_configuration_has_the_same_outputs(config: Config) -> None:
    outputs = run_program(config).outputs

    assert sorted(outputs) == sorted(INTERFACE)
    wrong = {name: value for name, value in outputs.items() if not isinstance(value, INTERFACE[name]) or value == ""}
    assert wrong == {}


def test_urls_follow_from_the_endpoint() -> None:
    outputs = run_program(dev(loadBalancer={"port": 8080})).outputs

    assert outputs["endpoint"] == f"http://{outputs['ipAddress']}:8080"
    assert outputs["predictUrl"] == outputs["endpoint"] + "/v1/models/default:predict"
    assert outputs["healthUrl"] == outputs["endpoint"] + "/v1/models/default"


def test_endpoint_has_no_port_where_http_has_none() -> None:
    outputs = run_program(dev(loadBalancer={"port": 80})).outputs

    assert outputs["endpoint"] == f"http://{outputs['ipAddress']}"


def test_endpoint_is_the_certificates_first_domain_with_https() -> None:
    outputs = run_program(dev(loadBalancer={"https": {"domains": ["a.example.com", "b.example.com"]}})).outputs

    assert outputs["endpoint"] == "https://a.example.com"


def test_lists_are_in_pool_order() -> None:
    order = ["us-west2", "europe-west1", "us-central1"]
    outputs = run_program(dev(fleet={"pools": [pool(region, "bc") for region in order]})).outputs

    for name in ("instanceGroups", "instanceTemplates"):
        assert len(outputs[name]) == 3
        assert all(region in link for region, link in zip(order, outputs[name], strict=True)), name
