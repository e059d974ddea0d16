"""What a preview refuses of a builder VM, and what it does not mind where there is none."""

from __future__ import annotations

from typing import Any

import pytest

from components.settings.builder import BuilderSettings
from components.settings.fleet import FleetSettings
from components.settings.model import ModelSettings
from components.settings.section import Known
from components.settings.stack import builder_unlike_fleet
from tests.program.configs import REMOVED, dev, refused
from tests.program.harness import stack_config

BAKED = "projects/my-project/global/images/baked"
STOCK = stack_config("dev")["tensorrt-fleet:fleet"]["image"]
READY = "gs://registry/models/0123456789abcdef0123/"
PLACE = "tensorrt-fleet:model.builder."


def builder(**keys: Any) -> dict[str, Any]:
    return {"builder": keys}


@pytest.mark.parametrize(
    ("config", "place", "allowed"),
    [
        (dev(model=builder(zone="europe-west1-b")), "zone", "a zone of us-central1"),
        (dev(model=builder(zone="us-central1-q")), "zone", "us-central1-a"),
        (dev(model=builder(gpuType="nvidia-l4")), "gpuType", "nvidia-tesla-t4"),
        (dev(model=builder(machineType="n1-standard-96")), "machineType", "at most 48 vCPUs"),
        (dev(model=builder(container="nvcr.io/nvidia/tensorrt:25.09-py3")), "container", "release 25.08"),
        (dev(model=builder(container="nvcr.io/nvidia/tensorrt:latest")), "container", "no tag `latest`"),
        (dev(model=builder(image="projects/p/global/images/family/f")), "image", "exact image name"),
        (dev(fleet={"image": BAKED}), "image", "where fleet.image is not a stock image"),
        (dev(fleet={"image": BAKED}, model=builder(image=STOCK), network={"nat": False}), "image", "of your own"),
        (dev(model=builder(deadlineS=8000)), "deadlineS", "at most maxRunS (7200)"),
    ],
)
def test_a_builder_that_cannot_do_its_work_is_refused(config: dict[str, Any], place: str, allowed: str) -> None:
    (problem,) = refused(config)
    assert problem.path == PLACE + place
    assert allowed in problem.allowed
    assert problem.remedy


@pytest.mark.parametrize(
    "config",
    [
        dev(model={"artifact": READY, "builder": {"zone": "europe-west1-b"}}),
        dev(model={"artifact": READY}, fleet={"image": BAKED}, network={"nat": False}),
        dev(model={"runtime": "onnxruntime-cpu", "builder": {"container": "nvcr.io/nvidia/tensorrt:25.09-py3"}}),
        dev(model=builder(image=BAKED), fleet={"image": BAKED}, network={"nat": False}),
        dev(model={"builder": REMOVED}),
    ],
    ids=["no builder", "no builder, baked", "no plans", "both baked", "defaults"],
)
def test_what_does_no_harm_is_taken(config: dict[str, Any]) -> None:
    assert refused(config) == ()


@pytest.mark.parametrize(("runtime", "problems"), [("tensorrt", 1), ("onnxruntime-cpu", 0)])
def test_plans_are_built_on_the_gpu_that_serves(runtime: str, problems: int) -> None:
    """Asked of the rule itself: the catalogue has one GPU only, so far."""
    known: Known = {
        (ModelSettings, "artifact"): None,
        (ModelSettings, "runtime"): runtime,
        (BuilderSettings, "gpu_type"): "nvidia-l4",
        (FleetSettings, "gpu_type"): "nvidia-tesla-t4",
    }
    found = list(builder_unlike_fleet(known))
    assert [(problem.path, problem.allowed) for problem in found] == [
        (f"{PLACE}gpuType", "fleet.gpuType (nvidia-tesla-t4)")
    ] * problems
