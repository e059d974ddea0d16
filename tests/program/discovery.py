"""Google's own description of its APIs, against which inputs are checked: names, nesting, kinds of value, enums."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from importlib import resources
from typing import Any

Schema = dict[str, Any]


@cache
def document(api: str) -> dict[str, Any]:
    """A discovery document of the package google-api-python-client, such as `compute.v1`."""
    file = resources.files("googleapiclient.discovery_cache") / "documents" / f"{api}.json"
    loaded = json.loads(file.read_text(encoding="utf-8"))
    assert isinstance(loaded, dict)
    return loaded


def schema(api: str, name: str) -> Schema:
    """A schema of an API."""
    found = document(api)["schemas"][name]
    assert isinstance(found, dict)
    return found


class Checker:
    """Checks values against one API.

    `renames` says where the provider's names and Google's differ: a path in the inputs (`disks[].sourceImage`) and the
    path in the API below the same object (`initializeParams.sourceImage`), or None where it is the provider's alone.
    """

    def __init__(self, api: str, renames: dict[str, str | None]) -> None:
        self._api = api
        self._renames = renames
        self.used: set[str] = set()

    def faults(self, value: Any, expected: Schema, path: str = "") -> Iterator[str]:
        """What is wrong with a value; nothing if the API takes it."""
        expected = self._resolved(expected)
        if expected.get("type") == "array":
            for item in value if isinstance(value, list) else [value]:
                yield from self.faults(item, expected["items"], f"{path}[]" if isinstance(value, list) else path)
        elif isinstance(value, dict):
            yield from self._object_faults(value, expected, path)
        else:
            yield from _scalar_faults(value, expected, path)

    def _object_faults(self, value: dict[str, Any], expected: Schema, path: str) -> Iterator[str]:
        properties = expected.get("properties", {})
        for key, item in value.items():
            at = f"{path}.{key}" if path else key
            if at in self._renames:
                self.used.add(at)
                target = self._renames[at]
                if target is not None:
                    yield from self._renamed_faults(item, expected, target, at)
            elif key in properties:
                yield from self.faults(item, properties[key], at)
            elif "additionalProperties" in expected:
                yield from self.faults(item, expected["additionalProperties"], at)
            else:
                yield f"{at}: the API has no such field"

    def _renamed_faults(self, value: Any, expected: Schema, target: str, at: str) -> Iterator[str]:
        *steps, last = target.split(".")
        inside = expected
        for step in steps:
            inside = self._resolved(inside)
            inside = self._resolved(inside["properties"][step.removesuffix("[]")])
            inside = inside["items"] if step.endswith("[]") else inside
        if last not in self._resolved(inside).get("properties", {}):
            yield f"{at}: the API has no field {target}"
            return
        found = self._resolved(inside)["properties"][last]
        items = value if isinstance(value, list) and target.count("[]") else [value]
        for item in items:
            yield from self.faults(item, found, at)

    def _resolved(self, expected: Schema) -> Schema:
        return schema(self._api, expected["$ref"]) if "$ref" in expected else expected


def _scalar_faults(value: Any, expected: Schema, path: str) -> Iterator[str]:
    kinds: dict[str, tuple[type, ...]] = {
        "string": (str, int) if expected.get("format") in {"int64", "uint64"} else (str,),
        "integer": (int,),
        "number": (int, float),
        "boolean": (bool,),
        "any": (str, int, float, bool),
    }
    kind = expected.get("type", "object")
    if kind not in kinds:
        yield f"{path}: {value!r} stands where the API takes an {kind}"
    elif not isinstance(value, kinds[kind]) or (isinstance(value, bool) and kind not in {"boolean", "any"}):
        yield f"{path}: {value!r} is no {kind}"
    elif "enum" in expected and value not in expected["enum"]:
        yield f"{path}: {value!r} is none of {', '.join(expected['enum'])}"
