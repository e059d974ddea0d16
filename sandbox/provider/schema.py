"""What is known of the modelled resource types, property by property.

`types/*.json` is this sandbox's own table. Names, shapes and required inputs are those of the Python SDK pulumi-gcp
10.2.0; replacement, defaults and computed properties follow the schemas of terraform-provider-google-beta, 8.0 line
(2026-08), which that SDK wraps; enumerations are those of Google's discovery documents (compute v1 20261106, storage v1
20261009, iam v1 20261023, monitoring v3 20260129). Properties of the SDK under `unmodelled` are refused by name,
because nothing here would act on them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Final, Literal

PROVIDER_VERSION: Final = "10.2.0"
"""Version of pulumi-gcp that the table describes."""

Shape = Literal["string", "integer", "number", "boolean", "asset", "map", "list", "set", "object"]

_PLAIN: Final = ("required", "optional", "computed", "replaces", "default", "autoname")
_TYPES: Final = Path(__file__).parent / "types"


@dataclass(frozen=True, slots=True, kw_only=True)
class Property:
    """One property of a resource type or of a block inside it."""

    shape: Shape
    element: Shape | None = None
    """Of a map, list or set of plain values."""
    properties: Mapping[str, Property] = field(default_factory=dict)
    """Of an object, or of each element of a list or set of objects."""
    unmodelled: frozenset[str] = frozenset()
    """Properties of that object which Google's provider has and the sandbox refuses."""
    required: bool = False
    optional: bool = False
    computed: bool = False
    """The provider fills it in where the program does not."""
    replaces: bool = False
    """A change makes a new resource."""
    default: Any = None
    enum: tuple[str, ...] = ()
    autoname: bool = False
    """Named `<resource name>-<7 hexadecimal digits>` where the program gives no name."""

    @property
    def is_input(self) -> bool:
        """Whether a program may set it."""
        return self.required or self.optional

    @property
    def is_block(self) -> bool:
        """Whether its value, or each element of it, is an object of known properties."""
        return bool(self.properties) or self.shape == "object"

    def any_replaces(self) -> bool:
        """Whether it or anything inside it forces a replacement."""
        return self.replaces or any(inner.any_replaces() for inner in self.properties.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceType:
    """One modelled resource type."""

    token: str
    """Pulumi's type token, such as `gcp:compute/network:Network`."""
    properties: Mapping[str, Property]
    unmodelled: frozenset[str]

    def inputs(self) -> Iterator[tuple[str, Property]]:
        """Properties that a program may set."""
        return ((name, prop) for name, prop in self.properties.items() if prop.is_input)

    def outputs(self) -> Iterator[tuple[str, Property]]:
        """Properties that only the provider sets."""
        return ((name, prop) for name, prop in self.properties.items() if not prop.is_input)


@cache
def resource_types() -> Mapping[str, ResourceType]:
    """All modelled types by token."""
    found = (_read(path) for path in sorted(_TYPES.glob("*.json")))
    return {resource_type.token: resource_type for resource_type in found}


def _read(path: Path) -> ResourceType:
    table = json.loads(path.read_text())
    return ResourceType(
        token=table["type"],
        properties={name: _property(entry) for name, entry in table["properties"].items()},
        unmodelled=frozenset(table["unmodelled"]),
    )


def _property(entry: dict[str, Any]) -> Property:
    plain = {key: entry[key] for key in _PLAIN if key in entry}
    return Property(
        shape=entry["type"],
        element=entry.get("of"),
        properties={name: _property(inner) for name, inner in entry.get("properties", {}).items()},
        unmodelled=frozenset(entry.get("unmodelled", ())),
        enum=tuple(entry.get("enum", ())),
        **plain,
    )
