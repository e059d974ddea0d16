"""Every modelled property of every type, nested ones included: accepted, refused in a wrong shape, and compared."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from sandbox.provider.check import failures_of
from sandbox.provider.diff import changes
from sandbox.provider.schema import Property, ResourceType, resource_types
from sandbox.provider.wire import ASSET, SIGNATURE, UNKNOWN

Path = tuple[str, ...]


def settable(properties: Mapping[str, Property], above: Path = ()) -> Iterator[Path]:
    for name, prop in properties.items():
        if prop.is_input:
            yield (*above, name)
            yield from settable(prop.properties, (*above, name))


TOKENS = sorted(resource_types())


def cases(resource_type: ResourceType) -> list[Path]:
    found = list(settable(resource_type.properties))
    assert found
    return found


def chain(resource_type: ResourceType, path: Path) -> list[Property]:
    properties, found = resource_type.properties, []
    for name in path:
        found.append(properties[name])
        properties = found[-1].properties
    return found


def plain(prop: Property, turn: int) -> Any:
    """The turn-th sample of a value without known properties."""
    shape = prop.element or prop.shape
    match shape:
        case "string":
            one: Any = prop.enum[turn % len(prop.enum)] if prop.enum else f"text-{turn}"
        case "integer":
            one = turn + 1
        case "number":
            one = 0.25 * (turn + 1)
        case "boolean":
            one = turn % 2 == 0
        case _:
            one = {SIGNATURE: ASSET, "hash": str(turn), "text": str(turn)}
    if prop.element is None:
        return one
    return {"key": one} if prop.shape == "map" else [one]


def block(prop: Property, filling: dict[str, Any]) -> Any:
    for name, inner in prop.properties.items():
        if inner.required and name not in filling:
            filling[name] = sample(inner, 0)
    return filling if prop.shape == "object" else [filling]


def sample(prop: Property, turn: int) -> Any:
    return block(prop, {}) if prop.is_block else plain(prop, turn)


def declaration(resource_type: ResourceType, path: Path, value: Any) -> dict[str, Any]:
    """All required inputs, and `value` at `path`."""
    for prop, name in reversed(list(zip(chain(resource_type, path[:-1]), path[1:], strict=True))):
        value = block(prop, {name: value})
    inputs = {name: sample(prop, 0) for name, prop in resource_type.inputs() if prop.required}
    return inputs | {path[0]: value}


@pytest.mark.parametrize("token", TOKENS)
def test_a_value_of_its_shape_passes(token: str) -> None:
    resource_type = resource_types()[token]
    for path in cases(resource_type):
        for value in (sample(chain(resource_type, path)[-1], 0), UNKNOWN):
            assert list(failures_of(resource_type, declaration(resource_type, path, value))) == [], path


@pytest.mark.parametrize("token", TOKENS)
def test_a_value_of_another_shape_is_refused_by_name(token: str) -> None:
    resource_type = resource_types()[token]
    for path in cases(resource_type):
        wrong = 7 if chain(resource_type, path)[-1].shape not in {"integer", "number"} else "seven"
        failures = list(failures_of(resource_type, declaration(resource_type, path, wrong)))
        assert [one.path.replace("[0]", "") for one in failures] == [".".join(path)]
        assert repr(wrong) in failures[0].reason
        assert token in failures[0].reason


@pytest.mark.parametrize("token", TOKENS)
def test_a_value_outside_its_enumeration_is_refused_with_the_allowed_ones(token: str) -> None:
    resource_type = resource_types()[token]
    for path in cases(resource_type):
        prop = chain(resource_type, path)[-1]
        if prop.enum:
            wrong = ["NOT_A_VALUE"] if prop.shape in {"list", "set"} else "NOT_A_VALUE"
            failures = list(failures_of(resource_type, declaration(resource_type, path, wrong)))
            assert len(failures) == 1, path
            assert ", ".join(prop.enum) in failures[0].reason


@pytest.mark.parametrize("token", TOKENS)
def test_a_misspelt_property_is_refused_with_the_right_one(token: str) -> None:
    resource_type = resource_types()[token]
    for path in cases(resource_type):
        inputs = declaration(resource_type, path, sample(chain(resource_type, path)[-1], 0))
        place: Any = inputs
        for name in path[:-1]:
            place = place[name][0] if isinstance(place[name], list) else place[name]
        place[f"{path[-1]}x"] = "anything"
        failures = list(failures_of(resource_type, inputs))
        assert len(failures) == 1, path
        assert f"did you mean {path[-1]}?" in failures[0].reason


@pytest.mark.parametrize("token", TOKENS)
def test_an_unmodelled_property_is_refused_as_such_at_every_depth(token: str) -> None:
    resource_type = resource_types()[token]
    places: list[tuple[Path, frozenset[str]]] = [((), resource_type.unmodelled)]
    places += [(path, chain(resource_type, path)[-1].unmodelled) for path in cases(resource_type)]
    for above, names in places:
        for name in names:
            filling: Any = {name: "anything"}
            if above:
                inputs = declaration(resource_type, above, block(chain(resource_type, above)[-1], filling))
            else:
                inputs = declaration(resource_type, (name,), "anything")
            failures = list(failures_of(resource_type, inputs))
            assert [one.path.replace("[0]", "") for one in failures] == [".".join((*above, name))]
            assert "the sandbox does not model" in failures[0].reason


@pytest.mark.parametrize("token", TOKENS)
def test_a_changed_value_is_a_change_that_replaces_as_the_table_says(token: str) -> None:
    resource_type = resource_types()[token]
    for path in cases(resource_type):
        properties = chain(resource_type, path)
        if properties[-1].is_block:
            continue
        old, new = (declaration(resource_type, path, plain(properties[-1], turn)) for turn in (0, 1))
        found = changes(resource_type, old, old, new, lambda *_: False)
        assert {one.root for one in found} == ({path[0]} if old != new else set()), path
        assert all(one.replaces == any(each.replaces for each in properties) for one in found), path
        assert changes(resource_type, old, old, old, lambda *_: False) == []


@pytest.mark.parametrize("token", TOKENS)
def test_a_value_not_known_before_the_update_is_a_change(token: str) -> None:
    resource_type = resource_types()[token]
    for path in cases(resource_type):
        old = declaration(resource_type, path, sample(chain(resource_type, path)[-1], 0))
        found = changes(resource_type, old, old, declaration(resource_type, path, UNKNOWN), lambda *_: False)
        assert {one.root for one in found} == {path[0]}, path


@pytest.mark.parametrize("token", TOKENS)
def test_a_required_property_that_is_missing_is_named(token: str) -> None:
    resource_type = resource_types()[token]
    for path in cases(resource_type):
        if not chain(resource_type, path)[-1].required:
            continue
        inputs = declaration(resource_type, path, sample(chain(resource_type, path)[-1], 0))
        place: Any = inputs
        for name in path[:-1]:
            place = place[name][0] if isinstance(place[name], list) else place[name]
        del place[path[-1]]
        failures = list(failures_of(resource_type, inputs))
        assert [one.path.replace("[0]", "") for one in failures] == [".".join(path)]
        assert "requires" in failures[0].reason
