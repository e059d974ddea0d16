"""Configurations that people could write: valid ones, and valid ones with one value spoilt."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

from hypothesis import strategies as st

from components.catalog import catalog
from tests.program.harness import Config

GPU = catalog().gpus["nvidia-tesla-t4"]

junk = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**40), 2**40),
    st.floats(),
    st.text(max_size=20),
    st.lists(st.integers(), max_size=2),
    st.dictionaries(st.text(max_size=5), st.integers(), max_size=2),
)


@st.composite
def pools(draw: st.DrawFn) -> list[dict[str, Any]]:
    places = draw(
        st.lists(st.tuples(st.sampled_from(sorted(GPU.zones)), st.booleans()), min_size=1, max_size=5, unique=True)
    )
    found = []
    for region, spot in places:
        zones = draw(st.lists(st.sampled_from(GPU.zones[region]), min_size=2, unique=True))
        least = draw(st.integers(1, 20))
        most = least + draw(st.integers(0, 20))
        found.append({"region": region, "zones": zones, "spot": spot, "min": least, "max": most})
    return found


@st.composite
def valid_configs(draw: st.DrawFn) -> Config:
    gpus = draw(st.sampled_from(sorted(GPU.max_vcpus)))
    machines = [name for name in catalog().machine_types() if catalog().machine_type(name).vcpus <= GPU.max_vcpus[gpus]]
    cool_down = draw(st.integers(0, 1800))
    mode = draw(st.sampled_from(["UTILIZATION", "RATE"]))
    return {
        "gcp:project": draw(st.from_regex(r"[a-z][a-z0-9]{4,20}[a-z0-9]", fullmatch=True).filter(_no_reserved_word)),
        "gcp:region": draw(st.sampled_from(sorted(GPU.zones))),
        "tensorrt-fleet:model": {
            "runtime": draw(st.sampled_from(["tensorrt", "onnxruntime-cpu"])),
            "recipe": {"method": draw(st.sampled_from(["max", "percentile", "mse", "entropy"]))},
        },
        "tensorrt-fleet:fleet": {
            "gpuCount": gpus,
            "machineType": draw(st.sampled_from(machines)),
            "pools": draw(pools()),
            "diskSizeGib": draw(st.integers(50, 2000)),
            "diskType": draw(st.sampled_from(sorted(catalog().disks))),
            "image": "projects/my-images/global/images/serving-20261101",
            "container": "nvcr.io/nvidia/tritonserver:25.08-py3",
            "paused": draw(st.booleans()),
            "autohealing": {"initialDelayS": draw(st.integers(cool_down, 3600))},
        },
        "tensorrt-fleet:autoscaling": {
            "gpuTarget": draw(st.integers(1, 100)),
            "cpuTarget": draw(st.none() | st.floats(0.01, 1)),
            "metricSource": draw(st.sampled_from(["agent", "ops-agent"])),
            "coolDownS": cool_down,
        },
        "tensorrt-fleet:loadBalancer": {"mode": mode, **({"maxRatePerInstance": 100.5} if mode == "RATE" else {})},
        "tensorrt-fleet:network": {"nat": draw(st.booleans()), "iapSsh": draw(st.booleans())},
    }


@st.composite
def spoilt_configs(draw: st.DrawFn) -> tuple[Config, str]:
    """A configuration with one value replaced by junk, and the top-level key that it stands in."""
    config = copy.deepcopy(draw(valid_configs()))
    place = draw(st.sampled_from(sorted(_places(config), key=str)))
    holder: Any = config
    for step in place[:-1]:
        holder = holder[step]
    holder[place[-1]] = draw(junk)
    return config, str(place[0])


def _places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    steps: Any = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for step, item in steps:
        yield (*path, step)
        yield from _places(item, (*path, step))


def _no_reserved_word(project: str) -> bool:
    return "google" not in project and not project.startswith("goog")
