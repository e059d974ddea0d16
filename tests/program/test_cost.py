"""Cost and quota against figures worked out by hand."""

from __future__ import annotations

import pytest

from components.catalog import catalog
from components.cost import monthly_cost, regions_without_prices, vm_month
from components.quota import quota_required
from components.remarks import remarks
from components.settings import Settings
from tests.program.configs import dev, parsed, pool


def of(**fleet: object) -> Settings:
    return parsed(dev(fleet=fleet))[1]


def test_a_vm_of_the_tutorial() -> None:
    """(16 vCPUs x 0.0475 + 4 GPUs x 0.35) x 730 h + 100 GiB x 0.17."""
    fleet = of().fleet
    assert vm_month(fleet, fleet.pools[0], catalog()) == pytest.approx(1593.80)


def test_a_spot_vm_of_the_tutorial() -> None:
    """(0.20892 + 4 x 0.175) x 730 h + 17; the disk costs the same."""
    fleet = of(pools=[pool(spot=True)]).fleet
    assert vm_month(fleet, fleet.pools[0], catalog()) == pytest.approx(680.51, abs=0.01)


def test_the_fleet_of_the_tutorial_with_its_balancer() -> None:
    cost = monthly_cost(of().fleet, catalog())
    assert (cost.min_usd, cost.max_usd) == (2 * 1593.80 + 18.25, 4 * 1593.80 + 18.25)


def test_a_paused_fleet_costs_its_balancer() -> None:
    assert monthly_cost(of(paused=True).fleet, catalog()) == (18.25, 18.25)


def test_quota_of_the_tutorial_holds_a_rollout_at_full_size() -> None:
    """(4 VMs + 2 of surge) x 4 GPUs, 16 vCPUs, 100 GB."""
    assert quota_required(of(), catalog()) == {
        "global": {"GPUS_ALL_REGIONS": 24},
        "us-central1": {"NVIDIA_T4_GPUS": 24, "CPUS": 96, "SSD_TOTAL_GB": 600},
    }


def test_spot_and_regions_have_quotas_of_their_own() -> None:
    settings = of(pools=[pool(), pool(spot=True, max=2), pool("europe-west1", "bcd", max=3)], diskType="pd-standard")
    assert quota_required(settings, catalog()) == {
        "global": {"GPUS_ALL_REGIONS": 24 + 16 + 24},
        "us-central1": {
            "NVIDIA_T4_GPUS": 24,
            "PREEMPTIBLE_NVIDIA_T4_GPUS": 16,
            "CPUS": 96 + 64,
            "DISKS_TOTAL_GB": 600 + 400,
            "SSD_TOTAL_GB": 100,  # the builder's
        },
        "europe-west1": {"NVIDIA_T4_GPUS": 24, "CPUS": 96, "DISKS_TOTAL_GB": 600},
    }


def test_a_rollout_without_surge_needs_no_more_than_fleet_and_builder() -> None:
    """The builder VM is off when the rollout begins: 4 x 4 GPUs and its own, 4 x 16 vCPUs and its 8."""
    settings = of(update={"maxSurge": 0, "maxUnavailable": 2})
    needed = quota_required(settings, catalog())
    assert needed["global"] == {"GPUS_ALL_REGIONS": 17}
    assert (needed["us-central1"]["NVIDIA_T4_GPUS"], needed["us-central1"]["CPUS"]) == (17, 72)


def test_a_ready_artifact_needs_no_builder() -> None:
    ready = {"artifact": "gs://registry/models/0123456789abcdef0123/"}
    settings = parsed(dev(fleet={"update": {"maxSurge": 0, "maxUnavailable": 2}}, model=ready))[1]
    assert quota_required(settings, catalog())["global"] == {"GPUS_ALL_REGIONS": 16}


def test_a_builder_beside_spot_vms_draws_on_the_regular_quota() -> None:
    limits = quota_required(of(pools=[pool(spot=True)]), catalog())["us-central1"]
    assert (limits["NVIDIA_T4_GPUS"], limits["PREEMPTIBLE_NVIDIA_T4_GPUS"]) == (1, 24)


def test_a_region_without_prices_is_priced_as_the_reference_and_named() -> None:
    settings = of(pools=[pool(), pool("europe-west1", "bc")])
    assert regions_without_prices(settings.fleet, catalog()) == ("europe-west1",)
    assert any("europe-west1" in remark and "us-central1" in remark for remark in remarks(settings, catalog()))


def test_a_container_named_by_tag_is_remarked_and_one_by_digest_is_not() -> None:
    digest = f"@sha256:{'0' * 64}"
    serving, builder = f"nvcr.io/nvidia/tritonserver:25.08-py3{digest}", f"nvcr.io/nvidia/tensorrt:25.08-py3{digest}"
    ready = "gs://registry/models/0123456789abcdef0123/"

    said = [remark.split(" ")[0] for remark in remarks(of(), catalog())]
    assert said == ["fleet.container", "model.builder.container", "model.runtime"]
    for model in ({"builder": {"container": builder}, "runtime": "onnxruntime-cpu"}, {"artifact": ready}):
        settings = parsed(dev(fleet={"container": serving}, model=model))[1]
        assert list(remarks(settings, catalog())) == []


def test_what_was_never_tried_on_a_t4_is_remarked() -> None:
    assert any("plans have not been built on a T4 by us" in remark for remark in remarks(of(), catalog()))


def test_random_weights_are_remarked() -> None:
    settings = parsed(dev(model={"source": "builtin:smoke"}))[1]
    assert any("random weights" in remark for remark in remarks(settings, catalog()))


def test_the_catalogue_is_consistent() -> None:
    """Zones belong to their regions, two at least; the reference region has every price."""
    for gpu in catalog().gpus.values():
        assert all(zone.startswith(f"{region}-") for region, zones in gpu.zones.items() for zone in zones)
        assert all(len(zones) >= 2 for zones in gpu.zones.values())
        assert catalog().reference_region in gpu.usd_per_hour
        assert set(gpu.usd_per_hour) <= set(gpu.zones)
    assert all(catalog().reference_region in family.usd_per_vcpu_hour for family in catalog().machines.values())
