"""What all kinds of resources have in common."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, ClassVar, Final

from sandbox.compute.names import relative, same
from sandbox.provider.check import Failure
from sandbox.provider.cloud import Cloud, ProviderConfig
from sandbox.provider.errors import CloudError, already_exists
from sandbox.provider.wire import UNKNOWN, Json, Value

ATTRIBUTION_LABEL: Final = {"goog-pulumi-provisioned": "true"}
"""Label that pulumi-gcp adds to everything that takes labels (`addPulumiAttributionLabel`, on by default)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """A property whose value names another resource."""

    path: str
    """With `[]` for any index: `networkInterfaces[].network`."""
    targets: tuple[str, ...]
    """Type tokens of what it may name."""
    holds: bool = True
    """The named resource cannot be deleted while this one refers to it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A resource about to be created or updated."""

    identifier: str
    inputs: Json
    config: ProviderConfig
    old: Json = field(default_factory=dict)
    """State before; empty for a new resource."""


class Kind:
    """One resource type. Subclasses say what differs from a plain record of inputs."""

    pulumi_type: ClassVar[str]
    noun: ClassVar[str]
    """What the API's errors call it, such as `instance_template`."""
    references: ClassVar[tuple[Reference, ...]] = ()
    filled: ClassVar[Json] = {}
    """Values of optional inputs that the API fills in; they are state, never inputs."""
    overwrites: ClassVar[bool] = False
    """The API takes a second creation under the same id as a change of the first."""
    unique_names: ClassVar[tuple[str, ...]] = ()
    """Properties that pulumi-gcp's `UniqueNameFields` lists: a replacement under another name need not delete first."""
    known_in_preview: ClassVar[frozenset[str]] = frozenset()
    """Outputs that the provider already computes in a plan."""

    def failures(self, inputs: Json) -> Iterator[Failure]:
        """Inputs that the provider refuses in code before anything is planned; unknown values are skipped."""
        yield from ()

    def replacing(self, old_inputs: Json, news: Json) -> Iterator[str]:
        """Top-level properties whose change forces a replacement by a rule in the provider's code."""
        yield from ()

    def equivalent(self, pattern: str, old: Value, new: Value) -> bool:
        """Whether two different values of a property mean the same."""
        return (
            isinstance(old, str)
            and isinstance(new, str)
            and any(reference.path == pattern for reference in self.references)
            and same_link(old, new)
        )

    def identifier(self, inputs: Json, config: ProviderConfig) -> str:
        """Id of a new resource."""
        raise NotImplementedError

    def outputs(self, plan: Plan, cloud: Cloud) -> Json:
        """Computed properties, and inputs in the form that the API gives back. Values of `plan.old` stay."""
        raise NotImplementedError

    def planned(self, inputs: Json, config: ProviderConfig) -> Json:
        """Outputs of `known_in_preview`."""
        return {}

    def refuse(self, plan: Plan, cloud: Cloud) -> None:
        """Raise CloudError where the API would refuse a creation or an update."""

    async def create(self, plan: Plan, state: Json, cloud: Cloud) -> Json:
        """Make what stands behind a new resource; its final state."""
        return state

    async def update(self, plan: Plan, state: Json, cloud: Cloud) -> Json:
        """Change what stands behind a resource; its final state."""
        return state

    async def delete(self, identifier: str, state: Json, cloud: Cloud) -> None:
        """Unmake what stands behind a resource, before its record goes; raises CloudError where it may not go."""

    async def vanish(self, identifier: str, cloud: Cloud) -> None:
        """Wait for what goes once the record is gone."""

    def live(self, identifier: str, state: Json, cloud: Cloud) -> Json:
        """State together with what has come of the resource since."""
        return state

    def outlived(self, identifier: str, inputs: Json, cloud: Cloud) -> Json | None:
        """State of what stayed when its record went, so that whoever else declares it still finds it; else None."""
        return None

    def exists(self, identifier: str, state: Json, cloud: Cloud) -> bool:
        """Whether what stands behind the record is still there."""
        return True

    def already_exists(self, identifier: str) -> CloudError:
        """The API's error for a name that is taken."""
        return already_exists(identifier)

    def target_of(self, reference: Reference, value: str, own: str) -> str:
        """Id of the resource that a value of this kind's property names; `own` is this resource's id."""
        return relative(value)


def same_link(one: str, other: str) -> bool:
    """Whether two references mean one resource: self link, id, partial URL or bare name, in any pair."""
    left, right = relative(one), relative(other)
    return same(one, other) or left.endswith(f"/{right}") or right.endswith(f"/{left}")


def values_at(inputs: Value, path: str) -> Iterator[tuple[str, Any]]:
    """Known values at a path with `[]` for any index, each with its own path."""
    head, _, rest = path.partition(".")
    name = head.removesuffix("[]")
    if not isinstance(inputs, dict) or name not in inputs:
        return
    value = inputs[name]
    found: Iterable[tuple[str, Any]] = [(name, value)]
    if head.endswith("[]"):
        found = (
            [(f"{name}[{index}]", element) for index, element in enumerate(value)] if isinstance(value, list) else []
        )
    for place, inner in found:
        if not rest:
            if inner is not UNKNOWN:
                yield place, inner
        else:
            yield from ((f"{place}.{deeper}", one) for deeper, one in values_at(inner, rest))


def filled_in(value: Json, defaults: Mapping[str, Any]) -> Json:
    """`value` with absent entries taken from `defaults`, objects entry by entry."""
    merged = dict(value)
    for key, default in defaults.items():
        if key not in merged:
            merged[key] = default
        elif isinstance(default, Mapping) and isinstance(merged[key], dict):
            merged[key] = filled_in(merged[key], default)
    return merged


def labels(inputs: Json, config: ProviderConfig) -> Json:
    """Label outputs of a resource that takes labels."""
    own = dict(inputs.get("labels") or {})
    effective = {**config.default_labels, **own, **ATTRIBUTION_LABEL}
    return {"labels": own, "pulumiLabels": effective, "effectiveLabels": effective}


def number() -> int:
    """A numeric id that a double holds exactly."""
    return secrets.randbelow(9 * 10**14) + 10**14


def unsigned() -> str:
    """A 64-bit numeric id as text."""
    return str(secrets.randbelow(9 * 10**18) + 10**18)


def now() -> str:
    """The time as the APIs write it."""
    return datetime.fromtimestamp(time.time(), UTC).isoformat(timespec="milliseconds")


def known(inputs: Json, *keys: str) -> bool:
    """Whether all these inputs are given and known."""
    return all(key in inputs and inputs[key] is not UNKNOWN for key in keys)
