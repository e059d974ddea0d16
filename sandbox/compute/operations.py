"""Operations: what callers of the REST API asked for, and whether it has come about."""

from __future__ import annotations

import secrets
import time
from typing import Final

from aiohttp import web

from sandbox.compute.records import instance
from sandbox.store import Json, Store

_OPERATION: Final = "operation"
"""Kind of the records: operation name -> what was asked of which instance (`zone` set) or image."""


def begin(store: Store, request: web.Request, email: str, verb: str, asked: Json) -> Json:
    """Note an operation; `asked` has `target` (a resource's id), and for an instance `zone`, `instance`, `numeric_id`
    and `desired`; `fault` where it fails at once.
    """
    number = str(secrets.randbelow(10**18) + 10**18)
    record: Json = {
        "id": number,
        "name": f"operation-{number}",
        "type": verb,
        "user": email,
        "inserted": time.time(),
        "request": request.query.get("requestId", ""),
        **asked,
    }
    store.put(_OPERATION, record["name"], record)
    return record


def repeated(store: Store, request: web.Request) -> Json | None:
    """The operation that a request with the same `requestId` began: a repeat changes nothing more."""
    wanted = request.query.get("requestId", "")
    if not wanted:
        return None
    return next((record for _, record in store.items(_OPERATION) if record.get("request") == wanted), None)


def find(store: Store, name: str, zone: str | None) -> Json | None:
    """An operation of a zone, or of the project (None)."""
    record = store.get(_OPERATION, name)
    return record if record is not None and record.get("zone") == zone else None


def is_done(store: Store, record: Json) -> bool:
    """Whether it failed, or an instance is where it was wanted or is wanted elsewhere; images are made at once."""
    if not record.get("zone") or record.get("fault"):
        return True
    vm = instance(store, f"{record['zone']}/{record['instance']}")
    if vm is None or vm.numeric_id != record["numeric_id"]:
        return True
    desired: str = record["desired"]
    return vm.status == desired or vm.desired != desired
