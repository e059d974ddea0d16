"""Property values as they travel between engine and provider.

Source: Pulumi's provider protocol, "Property values" (sdk/go/common/resource/plugin/rpc.go of v3.259.0). The handshake
declines secrets, outputs and resource references, so the engine sends plain values and keeps the secret marks itself.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from google.protobuf import json_format, struct_pb2
from pulumi.runtime import rpc

Json = dict[str, Any]
Value = Any
"""Anything that JSON can hold, an asset's object, or UNKNOWN."""

SIGNATURE: Final = "4dabf18193072939515e22adb298388d"
"""Key that marks an object as a value of its own kind."""
ASSET: Final = "c44067f5952c0a294b673a41bacd8c17"

_UNKNOWNS: Final = frozenset(
    {
        rpc.UNKNOWN,
        "1c4a061d-8072-4f0a-a4cb-0ff528b18fe7",
        "3eeb2bf0-c639-47a8-9e75-3b44932eb421",
        "6a19a0b0-7e62-4c92-b797-7f8e31da9cc2",
        "030794c1-ac77-496b-92df-f27374a8bd58",
        "e48ece36-62e2-4504-bad9-02848725956a",
        "dd056dcd-154b-4c76-9bd3-c8f88648b5ff",
    }
)
"""What stands for an unknown string, boolean, number, array, asset, archive or object."""


@dataclass(frozen=True, slots=True)
class _Unknown:
    """A value that is not known before the update runs."""

    def __repr__(self) -> str:
        return "UNKNOWN"


UNKNOWN: Final = _Unknown()


def decode(struct: struct_pb2.Struct) -> Json:
    """Python values of a message; whole numbers become int, absent values are left out."""
    value: Json = _decoded(json_format.MessageToDict(struct))
    return value


def encode(values: Json) -> struct_pb2.Struct:
    """A message of Python values."""
    struct = struct_pb2.Struct()
    struct.update(_encoded(values))
    return struct


def is_known(value: object) -> bool:
    """Whether nothing inside `value` is unknown."""
    if isinstance(value, dict):
        return all(is_known(inner) for inner in value.values())
    if isinstance(value, list):
        return all(is_known(inner) for inner in value)
    return value is not UNKNOWN


def is_asset(value: object) -> bool:
    """Whether `value` is a file or text asset."""
    return isinstance(value, dict) and value.get(SIGNATURE) == ASSET


def asset_bytes(asset: Json, program: Path) -> bytes:
    """Content of an asset; relative paths start at the folder of the program.

    Raises FileNotFoundError where the file is gone, and ValueError for a remote asset.
    """
    if "path" in asset:
        path: str = asset["path"]
        return (program / path).read_bytes()
    if "text" in asset:
        text: str = asset["text"]
        return text.encode()
    if "bytes" in asset:
        return base64.b64decode(asset["bytes"])
    raise ValueError(f"the sandbox reads file and string assets, not {asset.get('uri', 'a remote one')}")


def _decoded(value: object) -> Value:
    match value:
        case dict():
            return {key: _decoded(inner) for key, inner in value.items() if inner is not None}
        case list():
            return [_decoded(inner) for inner in value]
        case float() if value.is_integer():
            return int(value)
        case str() if value in _UNKNOWNS:
            return UNKNOWN
        case _:
            return value


def _encoded(value: object) -> Value:
    match value:
        case dict():
            return {key: _encoded(inner) for key, inner in value.items() if inner is not None}
        case list() | tuple():
            return [_encoded(inner) for inner in value]
        case _Unknown():
            return rpc.UNKNOWN
        case _:
            return value
