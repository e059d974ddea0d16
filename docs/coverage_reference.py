"""The tables of `docs/sandbox-coverage.md`: what the sandbox models, from its own tables and routes, with notes."""

from __future__ import annotations

import ast
import inspect
import tempfile
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

from aiohttp import web

from sandbox.compute.rest import ComputeApi
from sandbox.iam.policy import Policy
from sandbox.iam.tokens import Tokens
from sandbox.monitoring.rest import MonitoringApi
from sandbox.provider.kinds import kinds
from sandbox.provider.kinds.base import Kind
from sandbox.provider.schema import Property, ResourceType, resource_types
from sandbox.rest import Access
from sandbox.settings import SandboxSettings
from sandbox.storage import proxy
from sandbox.store import Store

NOTES: Final = Path(__file__).resolve().parent / "sandbox-coverage.toml"
_NOTHING: Final = "-"

Notes = Mapping[str, Mapping[str, str]]


def types() -> str:
    """A row for each modelled resource type. Raises ValueError where notes and types differ."""
    notes = _notes("types", kinds())
    rows = [
        (
            f"`{token}`",
            _inputs(resource_types()[token]),
            ", ".join(f"`{name}`" for name in sorted(_unmodelled(resource_types()[token]))) or _NOTHING,
            _references(kind),
            f"{_meaning(kind)} {notes[token]['checked']}",
            notes[token].get("approximated", _NOTHING),
        )
        for token, kind in sorted(kinds().items())
    ]
    head = ("type", "inputs (those that replace)", "refused by name", "refers to", "here", "approximated")
    return _table(head, rows)


def calls() -> str:
    """A row for each modelled call. Raises ValueError where notes and routes differ."""
    found = sorted({*_routes(), *_storage_calls()}, key=lambda call: (call.split()[1], call))
    notes = _notes("calls", found)
    rows = [(f"`{call}`", notes[call]["checked"], notes[call].get("approximated", _NOTHING)) for call in found]
    return _table(("call", "checked", "approximated"), rows)


def _notes(section: str, known: Iterable[str]) -> Notes:
    notes: Notes = tomllib.loads(NOTES.read_text())[section]
    names = set(known)
    if strangers := sorted(set(notes) - names):
        raise ValueError(f"{NOTES.name}: the sandbox does not model {', '.join(strangers)}")
    if silent := sorted(name for name in names if "checked" not in notes.get(name, {})):
        raise ValueError(f"{NOTES.name}: no word on what is checked of {', '.join(silent)}")
    return notes


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)


def _meaning(kind: Kind) -> str:
    """First sentences of the class's documentation."""
    return " ".join((inspect.getdoc(type(kind)) or "").partition("\n\n")[0].split())


def _inputs(resource_type: ResourceType) -> str:
    every = list(_settable(resource_type.properties))
    replacing = sum(prop.replaces for prop in every)
    return f"{len(every)} ({replacing})"


def _settable(properties: Mapping[str, Property]) -> Iterator[Property]:
    for prop in properties.values():
        if prop.is_input:
            yield prop
            yield from _settable(prop.properties)


def _unmodelled(resource_type: ResourceType) -> Iterator[str]:
    yield from resource_type.unmodelled
    yield from _unmodelled_inside(resource_type.properties, "")


def _unmodelled_inside(properties: Mapping[str, Property], prefix: str) -> Iterator[str]:
    for name, prop in properties.items():
        yield from (f"{prefix}{name}.{inner}" for inner in prop.unmodelled)
        yield from _unmodelled_inside(prop.properties, f"{prefix}{name}.")


def _references(kind: Kind) -> str:
    shown = []
    for reference in kind.references:
        targets = " or ".join(token.rpartition(":")[2] for token in reference.targets)
        shown.append(f"{targets}{'' if reference.holds else ' (without holding it)'}")
    return ", ".join(dict.fromkeys(shown)) or _NOTHING


def _routes() -> Iterator[str]:
    """Calls of the APIs that have a router."""
    with tempfile.TemporaryDirectory() as folder:
        settings = SandboxSettings(state=Path(folder), block=0)
        store = Store(Path(folder) / "store.sqlite")
        access = Access(settings, Tokens(store), Policy(settings, store))
        apps = {
            "/compute/v1": ComputeApi(settings, store, access).app(),
            "/v3": MonitoringApi(settings, store, access).app(),
        }
        store.close()
    for prefix, app in apps.items():
        for route in app.router.routes():
            resource = route.resource
            if isinstance(resource, web.Resource) and route.method != "HEAD":
                yield f"{route.method} {prefix}{resource.canonical}"


def _storage_calls() -> Iterator[str]:
    """Calls of Cloud Storage, whose proxy tells paths apart by pattern: object names may hold anything."""
    cases = {
        node.name: [case for inner in ast.walk(node) if isinstance(inner, ast.Match) for case in inner.cases]
        for node in ast.walk(ast.parse(inspect.getsource(proxy)))
        if isinstance(node, ast.AsyncFunctionDef)
    }
    for case in cases["_route"]:
        if case.guard is not None and isinstance(case.pattern, ast.MatchSequence):
            path = "/".join(_segment(part) for part in case.pattern.patterns)
            yield from (f"{method} /{path}" for method in _texts(case.guard))
    for case in cases["_route_metadata"]:
        if isinstance(case.pattern, ast.MatchSequence) and not isinstance(case.body[-1], ast.Raise):
            method, *parts = case.pattern.patterns
            path = "/".join(["storage/v1/b", *(_segment(part) for part in parts)])
            yield from (f"{name} /{path}" for name in _texts(method))


def _segment(pattern: ast.pattern) -> str:
    if isinstance(pattern, ast.MatchAs):
        return f"{{{pattern.name}}}"
    return next(_texts(pattern))


def _texts(node: ast.AST) -> Iterator[str]:
    return (inner.value for inner in ast.walk(node) if isinstance(inner, ast.Constant) and isinstance(inner.value, str))
