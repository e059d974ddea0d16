"""Google's discovery documents, which `google-api-python-client` carries: the APIs' own word on their field names."""

from __future__ import annotations

import functools
import json
from importlib import resources
from typing import Any

Json = dict[str, Any]


@functools.cache
def schemas(api: str) -> Json:
    """Schemas of one API (`compute.v1`) by name."""
    folder = resources.files("googleapiclient") / "discovery_cache" / "documents"
    document: Json = json.loads((folder / f"{api}.json").read_text())
    found: Json = document["schemas"]
    return found


def schema_at(api: str, path: str) -> Json:
    """The schema of that name, or the anonymous one at a dotted path of properties below it."""
    name, *properties = path.split(".")
    schema = schemas(api)[name]
    for part in properties:
        schema = schema["properties"][part]
        schema = schema.get("items", schema)
    found: Json = schema
    return found


def unknown_fields(api: str, schema_name: str, value: object) -> list[str]:
    """Paths in `value` that the schema does not have, and enum values that it does not list."""
    return list(_unknown(api, schemas(api)[schema_name], value, ""))


def _unknown(api: str, schema: Json, value: object, path: str) -> list[str]:
    schema = schemas(api)[schema["$ref"]] if "$ref" in schema else schema
    if isinstance(value, list):
        return [bad for item in value for bad in _unknown(api, schema["items"], item, f"{path}[]")]
    if isinstance(value, dict):
        properties, free = schema.get("properties"), schema.get("additionalProperties")
        bad = []
        for name, item in value.items():
            below = properties.get(name) if properties else free
            if below is None:
                bad.append(f"{path}.{name}")
            else:
                bad += _unknown(api, below, item, f"{path}.{name}")
        return bad
    if "enum" in schema and value not in schema["enum"]:
        return [f"{path}={value}"]
    return []
