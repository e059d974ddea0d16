"""The table against what it was made from (the SDK, Google's discovery documents), and against the kinds."""

from __future__ import annotations

import importlib
import inspect
import json
from collections.abc import Iterator, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from pulumi import _types as sdk_types

from sandbox.provider.kinds import kinds
from sandbox.provider.schema import Property, ResourceType, resource_types
from tests.sandbox_provider.world import MINIMAL

TOKENS = sorted(resource_types())
_MODULES = {
    "uRLMap": "url_map",
    "iAMMember": "iam_member",
    "bucketIAMMember": "bucket_iam_member",
}
_GENERATED = {"name", "accountId"}


def sdk_module(token: str) -> tuple[Any, str]:
    _, path, name = token.split(":")
    service, file = path.split("/")
    snake = _MODULES.get(file) or "".join(f"_{c.lower()}" if c.isupper() else c for c in file)
    return importlib.import_module(f"pulumi_gcp.{service}.{snake}"), name


def args_class(token: str) -> Any:
    module, name = sdk_module(token)
    return getattr(module, f"{name}Args")


def test_every_modelled_type_has_a_kind_and_a_minimal_declaration() -> None:
    assert set(kinds()) == set(TOKENS)
    assert set(MINIMAL) == set(TOKENS)


@pytest.mark.parametrize("token", TOKENS)
def test_inputs_are_those_of_the_sdk(token: str) -> None:
    resource_type = resource_types()[token]
    given = set(sdk_types.input_type_types(args_class(token)))
    assert {name for name, _ in resource_type.inputs()} | resource_type.unmodelled == given


@pytest.mark.parametrize("token", TOKENS)
def test_required_inputs_are_those_of_the_sdk(token: str) -> None:
    arguments = args_class(token)
    names = dict(sdk_types.input_type_py_to_pulumi_names(arguments))
    signature = inspect.signature(arguments.__init__).parameters
    required = {names[py] for py in names if signature[py].default is inspect.Parameter.empty}
    resource_type = resource_types()[token]
    assert {name for name, prop in resource_type.inputs() if prop.required} == required


@pytest.mark.parametrize("token", TOKENS)
def test_outputs_are_those_of_the_sdk(token: str) -> None:
    module, name = sdk_module(token)
    known = set(sdk_types.input_type_types(getattr(module, f"_{name}State")))
    resource_type = resource_types()[token]
    assert {name for name, _ in resource_type.outputs()} <= known
    missing = known - set(resource_type.properties) - resource_type.unmodelled
    assert missing == set(), "outputs of the SDK that the table does not have"


@pytest.mark.parametrize("token", TOKENS)
def test_names_are_generated_where_the_sdk_makes_them_optional(token: str) -> None:
    for name, prop in resource_types()[token].inputs():
        if prop.autoname:
            assert name in _GENERATED
            assert not prop.required
            assert prop.replaces


@pytest.mark.parametrize("token", TOKENS)
def test_properties_of_the_kind_are_in_the_table(token: str) -> None:
    kind, resource_type = kinds()[token], resource_types()[token]
    for reference in kind.references:
        assert find(resource_type, reference.path) is not None, reference.path
        assert all(target in resource_types() for target in reference.targets)
    for path in paths(kind.filled):
        assert find(resource_type, path) is not None, path
    assert kind.known_in_preview <= {name for name, _ in resource_type.outputs()}


def test_enumerations_are_googles() -> None:
    """Every enumeration of the table is, value by value, one of the API's discovery document."""
    enumerations: dict[str, list[frozenset[str]]] = {}
    for name, token in (
        ("compute.v1", "gcp:compute/"),
        ("storage.v1", "gcp:storage/"),
        ("monitoring.v3", "gcp:monitoring/"),
    ):
        document = json.loads(
            (resources.files("googleapiclient") / f"discovery_cache/documents/{name}.json").read_text()
        )
        enumerations[token] = [frozenset(values) for values in enums(document["schemas"])]
    checked = 0
    for token, resource_type in resource_types().items():
        service = next((prefix for prefix in enumerations if token.startswith(prefix)), None)
        for path, prop in walk(resource_type.properties):
            if prop.enum and service is not None:
                assert frozenset(prop.enum) in enumerations[service], f"{token} {path}"
                checked += 1
    assert checked > 40


def test_what_updates_in_place_and_the_defaults_are_as_recorded() -> None:
    """The record was made from the schemas that the table follows; a change of either is a change on purpose."""
    recorded = json.loads((Path(__file__).parent / "golden_in_place.json").read_text())
    found = {
        token: {
            "inPlace": sorted(in_place(resource_type.properties)),
            "defaults": dict(defaults(resource_type.properties)),
        }
        for token, resource_type in resource_types().items()
    }
    assert found == recorded


def in_place(properties: Mapping[str, Property], prefix: str = "") -> Iterator[str]:
    for name, prop in properties.items():
        if prop.is_input and not prop.replaces:
            yield from in_place(prop.properties, f"{prefix}{name}.") if prop.is_block else [f"{prefix}{name}"]


def defaults(properties: Mapping[str, Property], prefix: str = "") -> Iterator[tuple[str, object]]:
    for name, prop in properties.items():
        if prop.is_input:
            if prop.default is not None:
                yield f"{prefix}{name}", prop.default
            yield from defaults(prop.properties, f"{prefix}{name}.")


def find(resource_type: ResourceType, path: str) -> Property | None:
    properties: Mapping[str, Property] = resource_type.properties
    found = None
    for part in path.replace("[]", "").split("."):
        found = properties.get(part)
        if found is None:
            return None
        properties = found.properties
    return found


def paths(value: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for key, inner in value.items():
        yield f"{prefix}{key}"
        if isinstance(inner, Mapping):
            yield from paths(inner, f"{prefix}{key}.")


def walk(properties: Mapping[str, Property], prefix: str = "") -> Iterator[tuple[str, Property]]:
    for name, prop in properties.items():
        yield f"{prefix}{name}", prop
        yield from walk(prop.properties, f"{prefix}{name}.")


def enums(value: object) -> Iterator[list[str]]:
    if isinstance(value, dict):
        if isinstance(value.get("enum"), list):
            yield value["enum"]
        for inner in value.values():
            yield from enums(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from enums(inner)
