"""The life of a declared resource: checked, compared, created, read, updated, deleted."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Final

from sandbox.provider.check import Failure, Naming, failures_of, with_defaults, without_marks
from sandbox.provider.cloud import Cloud, ProviderConfig
from sandbox.provider.diff import PropertyChange, changes, name_requires_delete_first
from sandbox.provider.errors import in_use, not_found
from sandbox.provider.kinds import kinds
from sandbox.provider.kinds.base import Kind, Plan, Reference, filled_in, values_at
from sandbox.provider.schema import Property, ResourceType, resource_types
from sandbox.provider.wire import UNKNOWN, Json
from sandbox.store import INSTANCE, RESOURCE

_EMPTY: Final[Mapping[str, object]] = {
    "string": "",
    "integer": 0,
    "number": 0,
    "boolean": False,
    "list": [],
    "set": [],
    "map": {},
}
"""What the provider gives back for an output without a value, by shape."""


class UnmodelledTypeError(Exception):
    """A resource type that the sandbox does not have."""

    def __init__(self, token: str) -> None:
        """`token` is the type's."""
        modelled = ", ".join(f"{name.split(':')[1].split('/')[0]}.{name.split(':')[2]}" for name in resource_types())
        super().__init__(f"the sandbox does not model {token}; it models {modelled}")


class Resources:
    """Everything that a program declares, with the cloud's rules; `store` holds one record for each resource."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud

    def check(self, token: str, news: Json, olds: Json, naming: Naming) -> tuple[Json, list[Failure]]:
        """Inputs with defaults and a name, or what is wrong with them. Raises UnmodelledTypeError."""
        kind, resource_type = _known(token)
        failures = list(failures_of(resource_type, news))
        if failures:
            return news, failures
        inputs, failures = with_defaults(resource_type, news, olds, naming)
        return inputs, failures + list(kind.failures(inputs))

    def diff(self, token: str, old_inputs: Json, old_state: Json, news: Json) -> tuple[list[PropertyChange], bool]:
        """What would change, and whether the old resource must be deleted before a replacement is created."""
        kind, resource_type = _known(token)
        found = changes(resource_type, old_inputs, old_state, news, kind.equivalent)
        forced = set(kind.replacing(old_inputs, news))
        found = [
            PropertyChange(path=one.path, change=one.change, replaces=one.replaces or one.root in forced)
            for one in found
        ]
        replaces = any(one.replaces for one in found)
        return found, replaces and name_requires_delete_first(resource_type, old_inputs, news, kind.unique_names)

    def plan_creation(self, token: str, inputs: Json, config: ProviderConfig) -> Json:
        """State of a resource that is yet to be created: what only the cloud decides is unknown."""
        kind, resource_type = _known(token)
        outputs = {name: UNKNOWN for name, _ in resource_type.outputs()}
        declared: Json = without_marks(inputs)
        return outputs | kind.planned(inputs, config) | declared

    async def create(self, token: str, urn: str, inputs: Json, config: ProviderConfig) -> tuple[str, Json]:
        """Create a resource; its id and state. Raises CloudError as the API would, ValueError for a missing region."""
        kind, resource_type = _known(token)
        declared = without_marks(inputs)
        plan = Plan(identifier=kind.identifier(declared, config), inputs=declared, config=config)
        existing = self._cloud.store.get(RESOURCE, plan.identifier)
        if existing is not None and not kind.overwrites:
            raise kind.already_exists(plan.identifier)
        self._require_references(kind, plan)
        kind.refuse(plan, self._cloud)
        state = _state(kind, resource_type, plan, self._cloud)
        state = await kind.create(plan, state, self._cloud)
        self._put(plan, token, urn, state, created=time.time())
        self._cloud.store.event(plan.identifier, "created")
        return plan.identifier, kind.live(plan.identifier, state, self._cloud)

    def read(self, token: str, identifier: str, inputs: Json) -> tuple[Json, Json] | None:
        """Live state and the inputs that would declare it; None if the resource is gone.

        `inputs` says which inputs the program gives; without any (an import) all that were declared are returned.
        """
        kind, resource_type = _known(token)
        record = self._record(token, identifier)
        if record is None and (stayed := kind.outlived(identifier, without_marks(inputs), self._cloud)) is not None:
            return stayed, _projected(resource_type.properties, inputs or stayed, stayed)
        if record is None or not kind.exists(identifier, record["state"], self._cloud):
            return None
        state = kind.live(identifier, record["state"], self._cloud)
        wanted = inputs or record["inputs"]
        return state, _projected(resource_type.properties, wanted, state)

    async def update(
        self, token: str, urn: str, identifier: str, *, old_inputs: Json, inputs: Json, config: ProviderConfig
    ) -> Json:
        """Change a resource in place; its state. Raises CloudError."""
        kind, resource_type = _known(token)
        record = self._record(token, identifier)
        if record is None:
            raise not_found(identifier)
        declared = without_marks(inputs)
        kept = _kept(resource_type, without_marks(old_inputs), declared, record["state"])
        plan = Plan(identifier=identifier, inputs=declared, config=config, old=kept)
        self._require_references(kind, plan)
        kind.refuse(plan, self._cloud)
        state = _state(kind, resource_type, plan, self._cloud)
        state = await kind.update(plan, state, self._cloud)
        self._put(plan, token, urn, state, created=record["created"])
        self._cloud.store.event(identifier, "updated")
        return kind.live(identifier, state, self._cloud)

    def plan_update(self, token: str, old_inputs: Json, old_state: Json, news: Json) -> Json:
        """State after an update that is yet to run."""
        _, resource_type = _known(token)
        declared: Json = without_marks(news)
        return _kept(resource_type, without_marks(old_inputs), declared, old_state) | declared

    async def delete(self, token: str, identifier: str) -> None:
        """Delete a resource; one that is gone already is no error. Raises CloudError where it may not go."""
        kind, _ = _known(token)
        record = self._record(token, identifier)
        if record is not None:
            self._refuse_if_held(kind, identifier)
            await kind.delete(identifier, record["state"], self._cloud)
            self._cloud.store.delete(RESOURCE, identifier)
            self._cloud.store.event(identifier, "deleted")
        await kind.vanish(identifier, self._cloud)

    def _record(self, token: str, identifier: str) -> Json | None:
        record = self._cloud.store.get(RESOURCE, identifier)
        return record if record is not None and record["type"] == token else None

    def _put(self, plan: Plan, token: str, urn: str, state: Json, created: float) -> None:
        record = {"type": token, "urn": urn, "inputs": plan.inputs, "state": state, "created": created}
        self._cloud.store.put(RESOURCE, plan.identifier, record)

    def _require_references(self, kind: Kind, plan: Plan) -> None:
        for reference, value in _references(kind, plan.inputs):
            target = kind.target_of(reference, value, plan.identifier)
            record = self._cloud.store.get(RESOURCE, target)
            if (record is None or record["type"] not in reference.targets) and not _is_literal(value):
                raise not_found(target)

    def _refuse_if_held(self, kind: Kind, identifier: str) -> None:
        for user, record in self._cloud.store.items(RESOURCE):
            other = kinds()[record["type"]]
            for reference, value in _references(other, record["inputs"]):
                if (
                    reference.holds
                    and kind.pulumi_type in reference.targets
                    and not _is_literal(value)
                    and other.target_of(reference, value, user) == identifier
                ):
                    raise in_use(kind.noun, identifier, user)
        for key, machine in self._cloud.store.items(INSTANCE):
            if identifier in {machine["network"], machine["subnetwork"]}:
                zone, name = key.split("/")
                raise in_use(
                    kind.noun, identifier, f"projects/{identifier.split('/')[1]}/zones/{zone}/instances/{name}"
                )


def _known(token: str) -> tuple[Kind, ResourceType]:
    kind = kinds().get(token)
    if kind is None:
        raise UnmodelledTypeError(token)
    return kind, resource_types()[token]


def _references(kind: Kind, inputs: Json) -> Iterator[tuple[Reference, str]]:
    for reference in kind.references:
        for _, value in values_at(inputs, reference.path):
            yield reference, value


def _is_literal(value: str) -> bool:
    """Whether an address is given by number, not by name."""
    return value[:1].isdigit()


def _state(kind: Kind, resource_type: ResourceType, plan: Plan, cloud: Cloud) -> Json:
    given = plan.old | plan.inputs | kind.outputs(plan, cloud)
    empty = {name: _EMPTY[prop.shape] for name, prop in resource_type.outputs() if prop.shape in _EMPTY}
    return filled_in(filled_in(given, kind.filled), empty)


def _kept(resource_type: ResourceType, old_inputs: Json, news: Json, state: Json) -> Json:
    """What of the state survives an update: computed values, and inputs that are not given up."""
    given_up = {key for key in old_inputs if key not in news and not resource_type.properties[key].computed}
    return {key: value for key, value in state.items() if key not in given_up}


def _projected(properties: Mapping[str, Property], wanted: Json, state: Json) -> Json:
    """The state's values for the inputs that are wanted, so that an edit behind the program's back shows in them."""
    found: Json = {}
    for key, value in wanted.items():
        prop = properties.get(key)
        if prop is None:
            found[key] = value
        elif key in state:
            found[key] = _projected_value(prop, value, state[key])
    return found


def _projected_value(prop: Property, wanted: object, live: object) -> object:
    if isinstance(wanted, dict) and isinstance(live, dict) and prop.shape == "object":
        return _projected(prop.properties, wanted, live)
    if isinstance(wanted, list) and isinstance(live, list) and prop.is_block:
        return [
            _projected(prop.properties, wanted[index], one) if index < len(wanted) else _inputs_only(prop, one)
            for index, one in enumerate(live)
        ]
    return live


def _inputs_only(prop: Property, live: Json) -> Json:
    return {key: value for key, value in live.items() if key in prop.properties and prop.properties[key].is_input}
