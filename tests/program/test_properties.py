"""What holds for every configuration."""

from __future__ import annotations

import ipaddress
from itertools import pairwise

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from components.catalog import catalog
from components.cost import monthly_cost
from components.network import subnet_range
from components.quota import GLOBAL, GPUS_ALL_REGIONS, quota_required
from tests.program.configs import parsed, refused
from tests.program.harness import Config, run_program
from tests.program.strategies import GPU, spoilt_configs, valid_configs

CONSEQUENCES = ("the artifact bucket's name", "tensorrt-fleet:fleet")
"""Where junk elsewhere may show: in names made of it, and in values that are wrong beside it."""

many = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
whole_program = settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@many
@given(valid_configs())
def test_a_valid_configuration_keeps_every_value(config: Config) -> None:
    _, read = parsed(config)

    written = config["tensorrt-fleet:fleet"]
    for pool, given_pool in zip(read.fleet.pools, written["pools"], strict=True):
        assert pool.model_dump(by_alias=True, mode="json") == given_pool
    assert (read.fleet.gpu_count, read.fleet.machine_type) == (written["gpuCount"], written["machineType"])
    assert read.autoscaling.cpu_target == config["tensorrt-fleet:autoscaling"]["cpuTarget"]


@many
@given(spoilt_configs())
def test_junk_is_taken_as_a_valid_value_or_refused_by_the_name_of_its_key(spoilt: tuple[Config, str]) -> None:
    config, key = spoilt
    problems = refused(config)

    assert all(problem.given and problem.allowed and problem.remedy for problem in problems)
    assert not problems or any(problem.path.startswith((key, *CONSEQUENCES)) for problem in problems)


@many
@given(valid_configs())
def test_cost_grows_with_the_fleet_and_quota_covers_it(config: Config) -> None:
    settings = parsed(config)[1]
    fleet = settings.fleet
    cost, quota = monthly_cost(fleet, catalog()), quota_required(settings, catalog())

    assert 0 < cost.min_usd <= cost.max_usd
    regional = [limits for place, limits in quota.items() if place != GLOBAL]
    gpus = sum(limits.get(GPU.quota, 0) + limits.get(GPU.spot_quota, 0) for limits in regional)
    # The builder may have the regular quota of its region to itself, beside a Spot pool that is rolling out.
    assert quota[GLOBAL][GPUS_ALL_REGIONS] <= gpus <= quota[GLOBAL][GPUS_ALL_REGIONS] + 1
    assert gpus >= fleet.gpu_count * sum(pool.max_vms for pool in fleet.pools)
    assert set(quota) == {GLOBAL, *fleet.regions}


@many
@given(valid_configs())
def test_a_larger_pool_never_costs_less(config: Config) -> None:
    fleet = parsed(config)[1].fleet.model_copy(update={"paused": False})
    first, *others = fleet.pools
    larger = fleet.model_copy(update={"pools": (first.model_copy(update={"max_vms": first.max_vms + 1}), *others)})

    smaller_cost, larger_cost = monthly_cost(fleet, catalog()), monthly_cost(larger, catalog())
    assert larger_cost.max_usd > smaller_cost.max_usd
    assert larger_cost.min_usd == smaller_cost.min_usd


@many
@given(st.integers(8, 24))
def test_subnets_of_all_regions_lie_apart_within_the_range(prefix: int) -> None:
    whole = ipaddress.IPv4Network(f"10.0.0.0/{prefix}")
    ranges = sorted(ipaddress.IPv4Network(subnet_range(str(whole), region)) for region in GPU.zones)

    assert all(part.subnet_of(whole) for part in ranges)
    assert not any(one.overlaps(other) for one, other in pairwise(ranges))
    assert all(part.num_addresses >= 8 for part in ranges)


@whole_program
@given(valid_configs())
def test_every_valid_configuration_deploys(config: Config) -> None:
    graph = run_program(config)

    pools = config["tensorrt-fleet:fleet"]["pools"]
    assert len(graph.of_type(":RegionInstanceGroupManager")) == len(pools)
    assert len(graph.one(":BackendService").inputs["backends"]) == len(pools)
    assert all(len(resource.name) <= 54 for resource in graph.custom.values()), "63 characters hold `-` and 7 more"
