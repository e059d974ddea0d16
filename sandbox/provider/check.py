"""What the provider does to a program's inputs before anything is planned: checks, defaults and names."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from sandbox.provider.schema import Property, ResourceType
from sandbox.provider.wire import UNKNOWN, Json, Value, is_asset

DEFAULTS: Final = "__defaults"
"""Where an object of inputs lists which of them the provider filled in, as bridged Terraform providers do."""

NAME_SUFFIX_DIGITS: Final = 7
_MAX_NAME: Final = {"name": 63, "accountId": 30}


@dataclass(frozen=True, slots=True)
class Failure:
    """One input that cannot be: its path and what is wrong with it, what is allowed, what to do."""

    path: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Naming:
    """What a resource is called where its program gives it no name."""

    logical: str
    """The resource's name in the program."""
    seed: bytes
    proposed: str = ""
    """Name that the project's `pulumi:autonaming` setting asks for."""
    disabled: bool = False

    def name(self, maximum: int) -> str:
        """`<logical>-<7 hexadecimal digits>`, or the proposed name; raises ValueError if it is too long."""
        name = self.proposed or f"{self.logical}-{self.seed.hex()[:NAME_SUFFIX_DIGITS]}"
        if len(name) > maximum:
            raise ValueError(
                f"the generated name {name} has {len(name)} characters, {maximum} are allowed: shorten the resource's "
                "name or set one"
            )
        return name


def failures_of(resource_type: ResourceType, inputs: Json) -> Iterator[Failure]:
    """Inputs that the table knows to be wrong: unknown, unmodelled, missing, wrong type, not in an enumeration."""
    return _object_failures(
        resource_type.token, resource_type.properties, resource_type.unmodelled, inputs, prefix="", top=True
    )


def with_defaults(resource_type: ResourceType, inputs: Json, olds: Json, naming: Naming) -> tuple[Json, list[Failure]]:
    """Inputs with defaults and a name filled in; a name that was generated before stays."""
    filled = _filled(resource_type.properties, inputs)
    failures = []
    for key, prop in resource_type.properties.items():
        if not prop.autoname or key in filled or naming.disabled or _named_otherwise(key, inputs):
            continue
        if key in olds.get(DEFAULTS, ()):
            filled[key] = olds[key]
        else:
            try:
                filled[key] = naming.name(_MAX_NAME[key])
            except ValueError as error:
                failures.append(Failure(key, str(error)))
                continue
        filled[DEFAULTS] = sorted([*filled[DEFAULTS], key])
    return filled, failures


def without_marks(value: Value) -> Value:
    """The value without the provider's lists of defaults: what a resource is declared to be."""
    if isinstance(value, dict):
        return {key: without_marks(inner) for key, inner in value.items() if key != DEFAULTS}
    if isinstance(value, list):
        return [without_marks(inner) for inner in value]
    return value


def _named_otherwise(key: str, inputs: Json) -> bool:
    return key == "name" and "namePrefix" in inputs


def _filled(properties: Mapping[str, Property], inputs: Json) -> Json:
    filled: Json = {}
    for key, value in inputs.items():
        if key != DEFAULTS:
            prop = properties.get(key)
            filled[key] = _filled_value(prop, value) if prop is not None and prop.is_block else value
    defaults = [
        key for key, prop in properties.items() if prop.is_input and prop.default is not None and key not in filled
    ]
    for key in defaults:
        filled[key] = properties[key].default
    filled[DEFAULTS] = sorted(defaults)
    return filled


def _filled_value(prop: Property, value: Value) -> Value:
    if isinstance(value, list):
        return [_filled(prop.properties, element) if isinstance(element, dict) else element for element in value]
    return _filled(prop.properties, value) if isinstance(value, dict) else value


def _object_failures(
    what: str,
    properties: Mapping[str, Property],
    unmodelled: Collection[str],
    value: Json,
    *,
    prefix: str,
    top: bool = False,
) -> Iterator[Failure]:
    settable = [key for key, prop in properties.items() if prop.is_input]
    for key, inner in value.items():
        path = f"{prefix}{key}"
        if key == DEFAULTS:
            continue
        if key in unmodelled:
            yield Failure(path, f"the sandbox does not model {path} of {what}: remove it to deploy here")
        elif key not in properties:
            yield Failure(path, f"{what} has no property {path}{_suggestion(key, settable)}")
        elif not properties[key].is_input:
            yield Failure(path, f"{path} of {what} is an output: it cannot be set")
        else:
            yield from _value_failures(what, properties[key], inner, path)
    for key, prop in properties.items():
        if prop.required and key not in value:
            place = f"{prefix}{key}"
            yield Failure(place if not top else key, f"{what} requires {place}, which is not set")


def _value_failures(what: str, prop: Property, value: Value, path: str) -> Iterator[Failure]:
    if value is UNKNOWN:
        return
    if not _has_shape(prop.shape, value):
        yield Failure(path, f"{path} of {what} must be {_ARTICLES[prop.shape]}, not {_named(value)}")
        return
    if isinstance(value, list):
        for index, element in enumerate(value):
            yield from _element_failures(what, prop, element, f"{path}[{index}]")
    elif prop.shape == "map":
        for key, element in value.items():
            yield from _element_failures(what, prop, element, f"{path}.{key}")
    elif prop.shape == "object":
        yield from _object_failures(what, prop.properties, prop.unmodelled, value, prefix=f"{path}.")
    elif prop.enum and value not in prop.enum:
        yield Failure(path, f"{path} of {what} cannot be {value!r}; allowed: {', '.join(prop.enum)}")


def _element_failures(what: str, prop: Property, element: Value, path: str) -> Iterator[Failure]:
    if element is UNKNOWN:
        return
    shape = prop.element or "object"
    if not _has_shape(shape, element):
        yield Failure(path, f"{path} of {what} must be {_ARTICLES[shape]}, not {_named(element)}")
    elif prop.is_block:
        yield from _object_failures(what, prop.properties, prop.unmodelled, element, prefix=f"{path}.")
    elif prop.enum and element not in prop.enum:
        yield Failure(path, f"{path} of {what} cannot be {element!r}; allowed: {', '.join(prop.enum)}")


_ARTICLES: Final = {
    "string": "a string",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "asset": "a file or string asset",
    "map": "a map",
    "list": "a list",
    "set": "a list",
    "object": "an object",
}


def _has_shape(shape: str, value: Value) -> bool:
    match shape:
        case "string":
            return isinstance(value, str)
        case "integer":
            return isinstance(value, int) and not isinstance(value, bool)
        case "number":
            return isinstance(value, int | float) and not isinstance(value, bool)
        case "boolean":
            return isinstance(value, bool)
        case "asset":
            return is_asset(value)
        case "list" | "set":
            return isinstance(value, list)
        case _:
            return isinstance(value, dict) and not is_asset(value)


def _named(value: Value) -> str:
    match value:
        case dict():
            return "an asset" if is_asset(value) else "an object"
        case list():
            return "a list"
        case _:
            return repr(value)


def _suggestion(key: str, known: list[str]) -> str:
    close = difflib.get_close_matches(key, known, n=1)
    return f"; did you mean {close[0]}?" if close else f"; it has {', '.join(sorted(known))}"
