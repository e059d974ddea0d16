"""Nothing moves that a change did not move."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from artifact.key import BUILD_CODE
from components.bundle import BUILDER_CODE, SERVING_CODE
from tests.program.configs import dev, pool
from tests.program.harness import REPOSITORY, Config, Graph, run_program, stack_config

TEMPLATE = ":InstanceTemplate"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of what the program reads."""
    for entry in {*SERVING_CODE, *BUILDER_CODE, *BUILD_CODE, "__main__.py", "startup", "docs"}:
        source, target = REPOSITORY / entry, tmp_path / entry
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)
    return tmp_path


def state(graph: Graph) -> dict[str, Any]:
    """Inputs and options of the provider's resources, by URN."""
    return {urn: (resource.inputs, resource.options) for urn, resource in graph.custom.items()}


def moved(before: Graph, after: Graph) -> set[str]:
    """Names of resources that were added, removed or changed."""
    old, new = state(before), state(after)
    return {urn.rpartition("::")[2] for urn in old.keys() | new.keys() if old.get(urn) != new.get(urn)}


def run(tree: Path, config: Config | None = None) -> Graph:
    return run_program(config or dev(), repository=tree)


def append(path: Path, text: str) -> None:
    path.write_text(path.read_text(encoding="utf-8") + text, encoding="utf-8")


ROLLOUT = {"model-serving-code", "serving-us-central1-vm-template", "serving-us-central1-group"}
"""What a change of the serving code moves: the bundle, the template, and the group that refers to it."""
OTHER_MODEL = {"model-builder-vm", "serving-us-central1-vm-template", "serving-us-central1-group"}
"""What another model moves: the VM that builds it, the template, and the group."""


def test_an_edit_of_the_docs_moves_nothing(tree: Path) -> None:
    before = run(tree)
    (tree / "docs" / "page.md").write_text("more words\n", encoding="utf-8")
    (tree / "README.md").write_text("more words\n", encoding="utf-8")
    after = run(tree)

    assert moved(before, after) == set()
    assert before.outputs == after.outputs


def test_a_comment_in_the_serving_code_moves_the_template_but_not_the_model(tree: Path) -> None:
    before = run(tree)
    append(tree / "serving" / "__main__.py", "# one more comment\n")
    after = run(tree)

    assert moved(before, after) == ROLLOUT
    assert before.outputs["modelKey"] == after.outputs["modelKey"]
    assert before.outputs["instanceTemplates"] != after.outputs["instanceTemplates"]


def test_a_changed_startup_script_moves_the_template(tree: Path) -> None:
    before = run(tree)
    append(tree / "startup" / "serving.sh", "# one more comment\n")
    after = run(tree)

    assert moved(before, after) == ROLLOUT - {"model-serving-code"}
    metadata = after.one(TEMPLATE).inputs["metadata"]
    assert metadata["startup-script"] == (tree / "startup" / "serving.sh").read_text(encoding="utf-8")


def test_the_builders_startup_script_moves_neither_model_nor_fleet(tree: Path) -> None:
    before = run(tree)
    append(tree / "startup" / "builder.sh", "# one more comment\n")
    after = run(tree)

    assert moved(before, after) == {"model-builder-vm"}
    old, new = (graph.one(":Instance").inputs for graph in (before, after))
    assert {key for key in old if old[key] != new[key]} == {"metadata"}, "nothing that makes it another VM"


def test_a_comment_in_the_model_build_is_another_model(tree: Path) -> None:
    before = run(tree)
    append(tree / "model" / "__init__.py", "# one more comment\n")
    after = run(tree)

    assert before.outputs["modelKey"] != after.outputs["modelKey"]
    assert moved(before, after) == OTHER_MODEL | {"model-builder-code"}
    assert before.one(":Instance").inputs["name"] != after.one(":Instance").inputs["name"]


def test_a_changed_recipe_is_another_model_and_another_template(tree: Path) -> None:
    before = run(tree)
    after = run(tree, dev(model={"recipe": {"method": "entropy"}}))

    assert before.outputs["modelKey"] != after.outputs["modelKey"]
    assert moved(before, after) == OTHER_MODEL


def test_the_container_decides_plans_and_so_the_model_on_gpus_only(tree: Path) -> None:
    newer = {"container": "nvcr.io/nvidia/tritonserver:25.09-py3"}
    builder = {"container": "nvcr.io/nvidia/tensorrt:25.09-py3"}
    on_cpu = {"runtime": "onnxruntime-cpu"}

    assert run(tree).outputs["modelKey"] != run(tree, dev(fleet=newer, model={"builder": builder})).outputs["modelKey"]
    cpu, cpu_newer = run(tree, dev(model=on_cpu)), run(tree, dev(model=on_cpu, fleet=newer))
    assert cpu.outputs["modelKey"] == cpu_newer.outputs["modelKey"]


def test_the_key_does_not_depend_on_the_stack(tree: Path) -> None:
    keys = {run_program(dev(), stack=stack, repository=tree).outputs["modelKey"] for stack in ("dev", "other")}
    assert len(keys) == 1


def test_running_again_moves_nothing(tree: Path) -> None:
    assert state(run(tree)) == state(run(tree))


@pytest.mark.parametrize(
    ("more", "moves"),
    [
        (pool(spot=True), {"balancer-backend", "balancer-http"}),
        (pool("europe-west1", "bcd"), {"balancer-backend", "balancer-http"}),
        (pool("us-west1"), {"balancer-backend", "balancer-http"}),
    ],
    ids=["spot", "another continent", "another region"],
)
def test_another_pool_moves_only_what_sends_requests_to_it(more: dict[str, Any], moves: set[str]) -> None:
    one = run_program(dev(fleet={"pools": [pool()]}))
    two = run_program(dev(fleet={"pools": [pool(), more]}))

    changed = {name for name in moved(one, two) if any(r.name == name for r in one.resources)}
    assert changed == moves
    assert {urn for urn in one.custom if urn not in two.custom} == set()


def test_the_order_of_pools_moves_only_the_balancer() -> None:
    first, second = pool(), pool("us-east1", "bc")
    one = run_program(dev(fleet={"pools": [first, second]}))
    two = run_program(dev(fleet={"pools": [second, first]}))

    assert moved(one, two) <= {"balancer-backend", "model-builder-vm"}
    assert [graph.one(":Instance").inputs["zone"] for graph in (one, two)] == ["us-central1-a", "us-east1-b"]


def test_promotion_makes_no_other_model_and_lets_serving_read_it() -> None:
    registry = "gs://registry/models/0123456789abcdef0123/"
    built, promoted = run_program(dev()), run_program(dev(model={"artifact": registry}))

    assert promoted.outputs["modelUri"] == registry
    assert promoted.outputs["modelKey"] == "0123456789abcdef0123"
    assert promoted.of_type(":Instance") == []
    assert moved(built, promoted) == {
        "model-builder-code",
        "model-builder-vm",
        "model-ready-registry-serving-reads",
        "serving-us-central1-vm-template",
        "serving-us-central1-group",
    }
    grant = promoted.one(":BucketIAMMember", "model-ready-registry-serving-reads").inputs
    assert grant["bucket"] == "registry"
    assert grant["role"] == "roles/storage.objectViewer"
    assert grant["member"] == f"serviceAccount:{promoted.outputs['servingServiceAccount']}"


def test_an_artifact_of_the_stacks_own_bucket_needs_no_second_grant() -> None:
    uri = run_program(dev()).outputs["modelUri"]
    graph = run_program(dev(model={"artifact": uri}))

    assert not [r for r in graph.resources if "ready" in r.name]


@pytest.mark.parametrize("setting", ["artifact", "bucket"])
def test_bindings_on_another_bucket_are_other_resources(setting: str) -> None:
    """Back and forth after a failed `up` must not delete the binding that was just made again."""

    def bindings(bucket: str) -> dict[str, str]:
        uri = f"gs://{bucket}/models/0123456789abcdef0123/"
        config = dev(model={"artifact": uri}) if setting == "artifact" else dev(storage={"artifactBucket": bucket})
        grants = run_program(config).of_type(":BucketIAMMember")
        return {grant.name: grant.inputs["bucket"] for grant in grants if grant.inputs["bucket"] == bucket}

    one, other = bindings("one-registry"), bindings("other-registry")
    assert one
    assert not one.keys() & other.keys()


def test_a_shared_bucket_replaces_the_stacks_own() -> None:
    graph = run_program(dev(storage={"artifactBucket": "team-models"}))

    assert [r.name for r in graph.of_type(":Bucket")] == ["model-inputs"]
    assert graph.outputs["modelUri"].startswith("gs://team-models/models/")
    reads = graph.one(":BucketIAMMember", "model-artifacts-team-models-serving-reads").inputs
    assert (reads["bucket"], reads["role"]) == ("team-models", "roles/storage.objectViewer")


def test_the_same_configuration_deploys_the_same_under_any_stack_name() -> None:
    """No branch on the environment: a stack's name shows in names and nowhere else."""
    graphs = {stack: run_program(stack_config("prod"), stack=stack) for stack in ("prod", "dev", "local", "anything")}

    texts = {without_name(json.dumps(state(graph), sort_keys=True), stack) for stack, graph in graphs.items()}
    assert len(texts) == 1


def without_name(text: str, stack: str) -> str:
    """Without the stack's name and the startup scripts, whose own words may hold it."""
    for path in (REPOSITORY / "startup").glob("*.sh"):
        text = text.replace(json.dumps(path.read_text(encoding="utf-8")), "SCRIPT")
    text = re.sub(r"uniqueId=[0-9]+", "uniqueId=N", text)
    return re.sub(rf"\b{stack}\b", "STACK", text)
