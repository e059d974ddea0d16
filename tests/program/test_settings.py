"""A wrong configuration is refused as a whole, in words, before anything is made."""

from __future__ import annotations

from typing import Any

import pulumi
import pytest

from tests.program.configs import REMOVED, dev, parsed, pool, refused
from tests.program.harness import STACKS, Config, run_program, stack_config

FLEET = "tensorrt-fleet:fleet"
STOCK = "projects/ubuntu-os-accelerator-images/global/images/ubuntu-accelerator-2404-amd64-with-nvidia-580-v20260820"
FAMILY = "projects/ubuntu-os-accelerator-images/global/images/family/ubuntu-accelerator-2404-amd64-with-nvidia-580"
NETWORK = "projects/net-host/global/networks/shared"
SUBNET = "projects/net-host/regions/us-central1/subnetworks/serving"


def fleet(**keys: Any) -> Config:
    return dev(fleet=keys)


BAD = {
    "unknown key": (fleet(gpuCuont=4), f"{FLEET}.gpuCuont", "gpuCount", "did you mean `gpuCount`"),
    "unknown key in Python's spelling": (
        fleet(gpu_count=4),
        f"{FLEET}.gpu_count",
        "gpuCount",
        "did you mean `gpuCount`",
    ),
    "unknown key far from any": (fleet(colour="red"), f"{FLEET}.colour", "pools", "remove it"),
    "unknown key in a pool": (fleet(pools=[pool(zone="a")]), f"{FLEET}.pools[0].zone", "zones", "did you mean `zones`"),
    "unknown object": (dev(flet={}), "tensorrt-fleet:flet", "fleet", "did you mean `fleet`"),
    "wrong type": (fleet(gpuCount="4"), f"{FLEET}.gpuCount", "a whole number", "for example 4"),
    "wrong type of a switch": (
        dev(network={"nat": "yes"}),
        "tensorrt-fleet:network.nat",
        "true or false",
        "for example",
    ),
    "wrong type in a list": (fleet(tags=["web", 7]), f"{FLEET}.tags[1]", "a text", "for example"),
    "wrong type in an object": (
        dev(network={"existing": {"network": NETWORK, "subnetworks": {"us-central1": 1}}, "nat": False}),
        "tensorrt-fleet:network.existing.subnetworks.us-central1",
        "a text",
        "for example",
    ),
    "text for an object": (
        {**dev(), "tensorrt-fleet:storage": "hello"},
        "tensorrt-fleet:storage",
        "an object with the keys artifactBucket, protect, forceDestroy",
        "for example",
    ),
    "fraction for a count": (fleet(gpuCount=1.5), f"{FLEET}.gpuCount", "a whole number", "for example 4"),
    "missing key": (fleet(image=REMOVED), f"{FLEET}.image", "a text", "add it"),
    "missing object": (
        {key: value for key, value in dev().items() if key != FLEET},
        FLEET,
        "an object with the keys",
        "add it",
    ),
    "no pools": (fleet(pools=[]), f"{FLEET}.pools", "one pool or more", "add a pool"),
    "one zone": (fleet(pools=[pool(zones="a")]), f"{FLEET}.pools[0].zones", "two or more", "another zone"),
    "one zone twice": (fleet(pools=[pool(zones="aa")]), f"{FLEET}.pools[0].zones", "different", "another zone"),
    "zone without T4s": (
        fleet(pools=[pool(zones="ad")]),
        f"{FLEET}.pools[0].zones[1]",
        "us-central1-a, us-central1-b, us-central1-c, us-central1-f",
        "nvidia-tesla-t4",
    ),
    "zone of another region": (
        fleet(pools=[{**pool(), "zones": ["us-central1-a", "us-east1-b"]}]),
        f"{FLEET}.pools[0].zones[1]",
        "a zone of us-central1",
        "another pool",
    ),
    "region without T4s": (fleet(pools=[pool("us-east5")]), f"{FLEET}.pools[0].region", "us-central1", "two zones"),
    "3 GPUs": (fleet(gpuCount=3), f"{FLEET}.gpuCount", "1, 2, 4", "attaches to one VM"),
    "unknown GPU": (fleet(gpuType="nvidia-l4"), f"{FLEET}.gpuType", "nvidia-tesla-t4", "catalogue"),
    "too many vCPUs for the GPUs": (
        fleet(gpuCount=1, machineType="n1-standard-64"),
        f"{FLEET}.machineType",
        "at most 48 vCPUs with gpuCount 1",
        "more GPUs",
    ),
    "machine without GPUs": (fleet(machineType="e2-standard-4"), f"{FLEET}.machineType", "n1-standard-16", "GPUs can"),
    "CPU platform of other machines": (
        fleet(minCpuPlatform="Intel Ice Lake"),
        f"{FLEET}.minCpuPlatform",
        "Intel Skylake",
        "n1-standard-16 runs on",
    ),
    "min above max": (fleet(pools=[pool(min=5)]), f"{FLEET}.pools[0].max", "min (5) or more", "lower min"),
    "min 0": (fleet(pools=[pool(min=0)]), f"{FLEET}.pools[0].min", "at least 1", "fleet.paused"),
    "surge below the zones": (
        fleet(update={"maxSurge": 1}),
        f"{FLEET}.update.maxSurge",
        "0, or 2 (the zones of a pool) or more",
        "zone by zone",
    ),
    "surge below the zones of one pool": (
        fleet(update={"maxSurge": 2}, pools=[pool(), pool("us-east1", "bcd")]),
        f"{FLEET}.update.maxSurge",
        "0, or 3",
        "zone by zone",
    ),
    "unavailable below the zones": (
        fleet(update={"maxUnavailable": 1}),
        f"{FLEET}.update.maxUnavailable",
        "0, or 2",
        "zone by zone",
    ),
    "neither surge nor unavailable": (
        fleet(update={"maxSurge": 0}),
        f"{FLEET}.update.maxSurge",
        "more than 0",
        "maxUnavailable",
    ),
    "BALANCED with redistribution": (
        fleet(update={"shape": "BALANCED", "redistribution": "PROACTIVE"}),
        f"{FLEET}.update.redistribution",
        "NONE with shape BALANCED",
        "set shape to EVEN",
    ),
    "EVEN without redistribution": (
        fleet(update={"redistribution": "NONE"}),
        f"{FLEET}.update.redistribution",
        "PROACTIVE with shape EVEN",
        "set shape to BALANCED",
    ),
    "unknown shape": (fleet(update={"shape": "ANY"}), f"{FLEET}.update.shape", "EVEN or BALANCED", "for example"),
    "autohealing delay below the initialisation period": (
        fleet(autohealing={"initialDelayS": 300}),
        f"{FLEET}.autohealing.initialDelayS",
        "autoscaling.coolDownS (360) or more",
        "coolDownS",
    ),
    "probe longer than its interval": (
        fleet(autohealing={"timeoutS": 11}),
        f"{FLEET}.autohealing.timeoutS",
        "at most intervalS (10)",
        "raise intervalS",
    ),
    "image family": (fleet(image=FAMILY), f"{FLEET}.image", "<exact image name>", "make bump-image"),
    "image by its bare name": (fleet(image="ubuntu"), f"{FLEET}.image", "projects/<project>", "gcloud compute images"),
    "stock image without NAT": (
        dev(network={"nat": False}),
        f"{FLEET}.image",
        "of your own",
        "make image ROLE=serving",
    ),
    "container without tag": (
        fleet(container="nvcr.io/nvidia/tritonserver"),
        f"{FLEET}.container",
        "<tag>",
        "25.08-py3",
    ),
    "container tagged latest": (
        fleet(container="nvcr.io/a/b:latest"),
        f"{FLEET}.container",
        "no tag `latest`",
        "25.08",
    ),
    "disk too small": (fleet(diskSizeGib=10), f"{FLEET}.diskSizeGib", "at least 50", "for example 100"),
    "unknown disk": (fleet(diskType="local-ssd"), f"{FLEET}.diskType", "pd-ssd", "boot from"),
    "bad network tag": (fleet(tags=["HTTP server"]), f"{FLEET}.tags[0]", "lower-case", "rename"),
    "two equal pools": (
        fleet(pools=[pool(), pool(zones="bc")]),
        f"{FLEET}.pools[1]",
        "one pool on demand and one Spot a region",
        "merge",
    ),
    "GPU target out of range": (
        dev(autoscaling={"gpuTarget": 101}),
        "tensorrt-fleet:autoscaling.gpuTarget",
        "above 0 and at most 100",
        "for example 85",
    ),
    "CPU target in percent": (
        dev(autoscaling={"cpuTarget": 75}),
        "tensorrt-fleet:autoscaling.cpuTarget",
        "above 0 and at most 1",
        "for example 0.75",
    ),
    "utilisation out of range": (
        dev(loadBalancer={"maxUtilization": 1.5}),
        "tensorrt-fleet:loadBalancer.maxUtilization",
        "at most 1",
        "for example 0.8",
    ),
    "no number": (
        dev(loadBalancer={"maxUtilization": float("nan")}),
        "tensorrt-fleet:loadBalancer.maxUtilization",
        "at most 1",
        "for example 0.8",
    ),
    "RATE without a rate": (
        dev(loadBalancer={"mode": "RATE"}),
        "tensorrt-fleet:loadBalancer.maxRatePerInstance",
        "above 0 with mode RATE",
        "make bench",
    ),
    "hardly any capacity": (
        dev(loadBalancer={"capacityScaler": 0.05}),
        "tensorrt-fleet:loadBalancer.capacityScaler",
        "0, or 0.1 to 1",
        "drain",
    ),
    "the only pool drained": (
        dev(loadBalancer={"capacityScaler": 0}),
        "tensorrt-fleet:loadBalancer.capacityScaler",
        "0.1 to 1 with a single pool",
        "fleet.paused",
    ),
    "unknown mode": (
        dev(loadBalancer={"mode": "rate"}),
        "tensorrt-fleet:loadBalancer.mode",
        "UTILIZATION or RATE",
        "for example",
    ),
    "bad domain name": (
        dev(loadBalancer={"https": {"domains": ["api.example.com", "*.example.com"]}}),
        "tensorrt-fleet:loadBalancer.https.domains[1]",
        "without wildcard",
        "api.example.com",
    ),
    "no domain name": (
        dev(loadBalancer={"https": {"domains": []}}),
        "tensorrt-fleet:loadBalancer.https.domains",
        "1 to 100",
        "name the domains",
    ),
    "bad security policy": (
        dev(loadBalancer={"securityPolicy": "edge"}),
        "tensorrt-fleet:loadBalancer.securityPolicy",
        "projects/<project>/global/securityPolicies/<name>",
        "full name",
    ),
    "bad bucket name": (
        dev(storage={"artifactBucket": "gs://Models"}),
        "tensorrt-fleet:storage.artifactBucket",
        "3 to 63",
        "without gs://",
    ),
    "bucket name that Google keeps": (
        dev(storage={"artifactBucket": "my-google-models"}),
        "tensorrt-fleet:storage.artifactBucket",
        "without `google`",
        "existing bucket",
    ),
    "public address range": (
        dev(network={"subnetCidr": "8.8.0.0/16"}),
        "tensorrt-fleet:network.subnetCidr",
        "private IPv4 range",
        "10.64.0.0/16",
    ),
    "range with host bits": (
        dev(network={"subnetCidr": "10.64.0.1/16"}),
        "tensorrt-fleet:network.subnetCidr",
        "host bits zero",
        "10.64.0.0/16",
    ),
    "range too small": (
        dev(network={"subnetCidr": "10.64.0.0/26"}),
        "tensorrt-fleet:network.subnetCidr",
        "/8 to /24",
        "32 subnets",
    ),
    "existing network by its bare name": (
        dev(network={"existing": {"network": "shared", "subnetworks": {"us-central1": SUBNET}}}),
        "tensorrt-fleet:network.existing.network",
        "projects/<project>/global/networks/<name>",
        "full name",
    ),
    "subnet of another region": (
        dev(network={"existing": {"network": NETWORK, "subnetworks": {"us-east1": SUBNET, "us-central1": SUBNET}}}),
        "tensorrt-fleet:network.existing.subnetworks.us-east1",
        "regions/us-east1/subnetworks",
        "subnet of us-east1",
    ),
    "region without subnet": (
        dev(network={"existing": {"network": NETWORK, "subnetworks": {}}}),
        "tensorrt-fleet:network.existing.subnetworks.us-central1",
        "regions/us-central1/subnetworks",
        "name the subnet",
    ),
    "NAT twice": (
        dev(network={"existing": {"network": NETWORK, "subnetworks": {"us-central1": SUBNET}, "hasNat": True}}),
        "tensorrt-fleet:network.nat",
        "false where network.existing.hasNat is true",
        "one Cloud NAT",
    ),
    "bad artifact address": (
        dev(model={"artifact": "gs://models/latest/"}),
        "tensorrt-fleet:model.artifact",
        "gs://<bucket>/models/<key>/",
        "model publish",
    ),
    "unknown source": (dev(model={"source": "resnet"}), "tensorrt-fleet:model.source", "builtin:", "model.artifact"),
    "unknown model of Keras": (
        dev(model={"source": "keras:resnet"}),
        "tensorrt-fleet:model.source",
        "keras:ResNet50V2",
        "your own model's address",
    ),
    "source without a generation": (
        dev(model={"source": "gs://my-models/m.tar.gz"}),
        "tensorrt-fleet:model.source",
        "gs://<bucket>/<object>#<generation>",
        "gcloud storage objects describe gs://my-models/m.tar.gz --format='value(generation)'",
    ),
    "source of an unknown kind": (
        dev(model={"source": "gs://my-models/m.zip#17"}),
        "tensorrt-fleet:model.source",
        ".tar.gz",
        "must end in .tar",
    ),
    "unknown calibration": (
        dev(model={"calibration": "mine"}),
        "tensorrt-fleet:model.calibration",
        "builtin",
        "no file or folder of this machine",
    ),
    "pixels divided by nothing": (
        dev(model={"preprocessing": {"height": 8, "width": 8, "mean": [0, 0, 0], "std": [1, 0, 1]}}),
        "tensorrt-fleet:model.preprocessing.std",
        "three numbers above 0",
        "[1, 1, 1]",
    ),
    "labels without a generation": (
        dev(model={"labels": "gs://my-models/labels.txt"}),
        "tensorrt-fleet:model.labels",
        ".txt",
        "gcloud storage objects describe",
    ),
    "unknown runtime": (
        dev(model={"runtime": "cpu"}),
        "tensorrt-fleet:model.runtime",
        "onnxruntime-cpu",
        "for example",
    ),
    "unknown method": (
        dev(model={"recipe": {"method": "median"}}),
        "tensorrt-fleet:model.recipe.method",
        "max or percentile or mse or entropy",
        "correct it",
    ),
    "unsupported weight bits": (
        dev(model={"recipe": {"cpuWeightBits": 4}}),
        "tensorrt-fleet:model.recipe.cpuWeightBits",
        "7 or 8",
        "correct it",
    ),
    "bad notification channel": (
        dev(observability={"notificationChannels": ["ops@example.com"]}),
        "tensorrt-fleet:observability.notificationChannels[0]",
        "projects/<project>/notificationChannels/<number>",
        "gcloud beta monitoring",
    ),
    "bad project id": (
        {**dev(), "gcp:project": "My Project"},
        "gcp:project",
        "6 to 30",
        "pulumi config set gcp:project",
    ),
    "missing region": (
        {key: value for key, value in dev().items() if key != "gcp:region"},
        "gcp:region",
        "a text",
        "us-central1",
    ),
    "zone for a region": ({**dev(), "gcp:region": "us-central1-a"}, "gcp:region", "us-central1", "gcp:region"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_value_is_refused_with_place_value_choices_and_remedy(case: str) -> None:
    config, path, allowed, remedy = BAD[case]

    (problem,) = refused(config)

    assert problem.path == path
    assert allowed in problem.allowed
    assert remedy in problem.remedy
    assert problem.given, "the value that was given is shown"


def test_the_value_given_is_shown_as_it_stands_in_the_file() -> None:
    (problem,) = refused(fleet(machineType="e2-standard-4"))
    assert problem.given == '"e2-standard-4"'


@pytest.mark.parametrize("stack", ["Dev", "1st", "a-much-too-long-name", "dev-", "dev_eu"])
def test_a_stack_name_that_no_account_can_carry_is_refused(stack: str) -> None:
    (problem,) = refused(dev(), stack)
    assert (problem.path, "pulumi stack rename" in problem.remedy) == ("the stack's name", True)


def test_names_that_are_too_long_together_are_refused() -> None:
    config = {**dev(), "gcp:project": "a-project-with-a-very-long-id1"}
    (problem,) = refused(config, "sixteen-letters-")[:1]
    assert problem.path == "the stack's name"
    (problem,) = refused(config, "sixteen-letters1")
    assert problem.path == "the artifact bucket's name"
    assert "rename the stack" in problem.remedy


def test_all_problems_of_a_file_are_reported_at_once() -> None:
    config = {
        **dev(
            fleet={
                "pools": [pool(zones="a", min=9), pool("us-east1", "b"), {"region": "us-west1"}],
                "gpuCount": 3,
                "image": FAMILY,
                "update": {"shape": "BALANCED", "redistribution": "PROACTIVE"},
                "autohealing": {"initialDelayS": 10},
            },
            autoscaling={"gpuTarget": 0, "coolDown": 5},
            loadBalancer={"mode": "RATE", "port": 0},
            network={"nat": "no"},
            storage={"artifactBucket": "x"},
        ),
        "gcp:project": "P",
        "tensorrt-fleet:fleat": {},
    }

    assert {problem.path for problem in refused(config, "Dev")} == {
        "gcp:project",
        "tensorrt-fleet:fleat",
        f"{FLEET}.pools[0].zones",
        f"{FLEET}.pools[0].max",
        f"{FLEET}.pools[1].zones",
        f"{FLEET}.pools[2].zones",
        f"{FLEET}.pools[2].min",
        f"{FLEET}.pools[2].max",
        f"{FLEET}.gpuCount",
        f"{FLEET}.image",
        f"{FLEET}.update.redistribution",
        f"{FLEET}.autohealing.initialDelayS",
        "tensorrt-fleet:autoscaling.gpuTarget",
        "tensorrt-fleet:autoscaling.coolDown",
        "tensorrt-fleet:loadBalancer.maxRatePerInstance",
        "tensorrt-fleet:loadBalancer.port",
        "tensorrt-fleet:network.nat",
        "tensorrt-fleet:storage.artifactBucket",
        "the stack's name",
    }


def test_checks_across_objects_run_although_one_of_them_has_other_errors() -> None:
    config = dev(fleet={"pools": [pool(zones="a")]}, network={"nat": False, "subnetCidr": "nonsense"})

    assert {problem.path for problem in refused(config)} == {
        f"{FLEET}.pools[0].zones",
        f"{FLEET}.image",
        "tensorrt-fleet:network.subnetCidr",
    }


def test_the_program_stops_without_a_traceback_and_without_resources() -> None:
    with pytest.raises(pulumi.RunError) as caught:
        run_program(fleet(gpuCount=3, diskSizeGib=1), preview=True)

    message = str(caught.value)
    assert "2 problems" in message
    assert f"{FLEET}.gpuCount: 3\n    allowed: 1, 2, 4\n    do:      " in message
    assert "Traceback" not in message


@pytest.mark.parametrize("stack", STACKS)
def test_stack_files_are_valid(stack: str) -> None:
    names, settings = parsed(stack_config(stack), stack)
    assert (names.stack, names.program) == (stack, "tensorrt-fleet")
    assert settings.fleet.pools


def test_a_stock_image_is_fine_where_an_existing_network_has_nat() -> None:
    existing = {"network": NETWORK, "subnetworks": {"us-central1": SUBNET}, "hasNat": True}
    _, settings = parsed(dev(network={"nat": False, "existing": existing}))
    assert settings.network.reaches_internet


def test_on_demand_and_spot_pools_share_a_region() -> None:
    _, settings = parsed(fleet(pools=[pool(), pool(spot=True)]))
    assert [p.name for p in settings.fleet.pools] == ["us-central1", "us-central1-spot"]
    assert settings.fleet.regions == ("us-central1",)


def test_an_artifact_address_may_lack_its_final_slash() -> None:
    _, settings = parsed(dev(model={"artifact": "gs://registry/models/0123456789abcdef0123"}))
    assert settings.model.artifact == "gs://registry/models/0123456789abcdef0123/"
