"""What an update would change, and which of it needs a new resource."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from sandbox.provider.check import DEFAULTS, without_marks
from sandbox.provider.schema import Property, ResourceType
from sandbox.provider.wire import SIGNATURE, UNKNOWN, Json, Value, is_asset


class Change(Enum):
    """How a property changes."""

    ADD = "add"
    DELETE = "delete"
    UPDATE = "update"


@dataclass(frozen=True, slots=True, kw_only=True)
class PropertyChange:
    """One changed property, as deep as the change reaches."""

    path: str
    """Such as `disks[0].sourceImage`."""
    change: Change
    replaces: bool

    @property
    def root(self) -> str:
        """The top-level property."""
        return self.path.partition(".")[0].partition("[")[0]


Equivalent = Callable[[str, Any, Any], bool]
"""Whether two values of the property at a path (with `[]` for any index) mean the same to the cloud."""


def changes(
    resource_type: ResourceType, old_inputs: Json, old_state: Json, news: Json, equivalent: Equivalent
) -> list[PropertyChange]:
    """Changes from what was declared, and what is, to `news`.

    As in Terraform's schemas: an input that is no longer given but may be computed stays as it is, and one that is
    newly given with the value that it already has is no change. Elements of a set have no order.
    """
    differ = _Differ(equivalent)
    return list(differ.objects(resource_type.properties, old_inputs, old_state, news, prefix="", pattern=""))


def name_requires_delete_first(
    resource_type: ResourceType, old_inputs: Json, news: Json, unique_names: Collection[str]
) -> bool:
    """Whether a replacement must delete the old resource first, because the program names it itself.

    Source: pulumi-terraform-bridge, `nameRequiresDeleteBeforeReplace` (pkg/tfbridge/schema.go). A name that the program
    gives is taken to be the old one even where it changes; `unique_names` are the properties of the few types for which
    the bridge is told to compare (`UniqueNameFields`).
    """
    defaults = news.get(DEFAULTS, ())
    if unique_names:
        return all(old_inputs.get(key) == news.get(key) and key not in defaults for key in unique_names)
    return any(prop.autoname and key in news and key not in defaults for key, prop in resource_type.properties.items())


@dataclass(frozen=True, slots=True)
class _Differ:
    equivalent: Equivalent

    def objects(
        self,
        properties: Mapping[str, Property],
        olds: Json,
        state: Json,
        news: Json,
        *,
        prefix: str,
        pattern: str,
        replaces: bool = False,
    ) -> Iterator[PropertyChange]:
        for key in sorted(olds.keys() | news.keys()):
            prop = properties.get(key)
            if key == DEFAULTS or prop is None:
                continue
            path, inner_pattern = f"{prefix}{key}", f"{pattern}{key}"
            if key not in news:
                if not prop.computed:
                    yield PropertyChange(path=path, change=Change.DELETE, replaces=replaces or prop.any_replaces())
            elif key not in olds:
                if not (prop.computed and self._same(state.get(key), news[key], inner_pattern)):
                    yield PropertyChange(path=path, change=Change.ADD, replaces=replaces or prop.any_replaces())
            else:
                yield from self.values(
                    prop, olds[key], state.get(key), news[key], path=path, pattern=inner_pattern, replaces=replaces
                )

    def values(
        self, prop: Property, old: Value, state: Value, new: Value, *, path: str, pattern: str, replaces: bool
    ) -> Iterator[PropertyChange]:
        replaces = replaces or prop.replaces
        if new is UNKNOWN or old is UNKNOWN or type(old) is not type(new):
            if not self._equal(old, new, pattern):
                yield PropertyChange(path=path, change=Change.UPDATE, replaces=replaces or prop.any_replaces())
        elif prop.shape == "set":
            old, new = _sorted(old), _sorted(new)
            yield from self.lists(prop, old, [], new, path=path, pattern=pattern, replaces=replaces)
        elif isinstance(new, list):
            elements = state if isinstance(state, list) else []
            yield from self.lists(prop, old, elements, new, path=path, pattern=pattern, replaces=replaces)
        elif prop.shape == "map":
            yield from self.maps(old, new, path=path, replaces=replaces)
        elif prop.shape == "object":
            live = state if isinstance(state, dict) else {}
            yield from self.objects(
                prop.properties, old, live, new, prefix=f"{path}.", pattern=f"{pattern}.", replaces=replaces
            )
        elif not self._equal(old, new, pattern):
            yield PropertyChange(path=path, change=Change.UPDATE, replaces=replaces)

    def lists(
        self,
        prop: Property,
        old: list[Any],
        state: list[Any],
        new: list[Any],
        *,
        path: str,
        pattern: str,
        replaces: bool,
    ) -> Iterator[PropertyChange]:
        for index in range(max(len(old), len(new))):
            place = f"{path}[{index}]"
            if index >= len(new):
                yield PropertyChange(path=place, change=Change.DELETE, replaces=replaces or prop.any_replaces())
            elif index >= len(old):
                yield PropertyChange(path=place, change=Change.ADD, replaces=replaces or prop.any_replaces())
            elif prop.is_block and isinstance(old[index], dict) and isinstance(new[index], dict):
                live = state[index] if index < len(state) and isinstance(state[index], dict) else {}
                yield from self.objects(
                    prop.properties,
                    old[index],
                    live,
                    new[index],
                    prefix=f"{place}.",
                    pattern=f"{pattern}[].",
                    replaces=replaces,
                )
            elif not self._equal(old[index], new[index], f"{pattern}[]"):
                yield PropertyChange(path=place, change=Change.UPDATE, replaces=replaces)

    def maps(self, old: Json, new: Json, *, path: str, replaces: bool) -> Iterator[PropertyChange]:
        for key in sorted(old.keys() | new.keys()):
            if old.get(key) != new.get(key):
                change = Change.ADD if key not in old else Change.DELETE if key not in new else Change.UPDATE
                place = f"{path}.{key}" if key.isidentifier() else f"{path}[{json.dumps(key)}]"
                yield PropertyChange(path=place, change=change, replaces=replaces)

    def _same(self, live: Value, new: Value, pattern: str) -> bool:
        return bool(_plain(live) == _plain(new)) or self._equal(live, new, pattern)

    def _equal(self, old: Value, new: Value, pattern: str) -> bool:
        if old is UNKNOWN or new is UNKNOWN:
            return False
        if is_asset(old) and is_asset(new):
            return bool(old.get("hash") == new.get("hash"))
        return bool(old == new) or self.equivalent(pattern, old, new)


def _sorted(elements: list[Any]) -> list[Any]:
    return sorted(elements, key=lambda element: json.dumps(_plain(element), sort_keys=True, default=repr))


def _plain(value: Value) -> Value:
    value = without_marks(value)
    return value.get("hash") if isinstance(value, dict) and SIGNATURE in value else value
