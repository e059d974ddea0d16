"""The tables of `docs/configure.md`: every setting, from the settings' own types, with reasons from settings.toml."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import annotated_types
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from components.settings.stack import Settings

FOLDER = Path(__file__).resolve().parent
NOTES = FOLDER / "settings.toml"


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting as the page shows it."""

    path: str
    """Below the namespace, as in `fleet.pools[].min`."""
    default: str
    allowed: str
    meaning: str


def settings(model: type[BaseModel] = Settings, prefix: str = "") -> Iterator[Setting]:
    """Every setting below a model, objects before what they hold. Objects that are always there have no row."""
    for name, field in model.model_fields.items():
        path = f"{prefix}{field.alias or name}"
        nested, optional, many = _nested(field.annotation)
        if nested is None or optional or many:
            allowed = "an object" if nested and not many else "a list of objects" if nested else _allowed(field)
            yield Setting(path, _default(field), allowed, (field.description or "").strip())
        if nested is not None:
            yield from settings(nested, f"{path}[]." if many else f"{path}.")


def _nested(annotation: Any) -> tuple[type[BaseModel] | None, bool, bool]:  # noqa: ANN401 - annotations have no type
    """The model inside an annotation, whether it may be absent, whether there is a list of it."""
    kind = get_origin(annotation)
    if kind is Annotated:
        return _nested(get_args(annotation)[0])
    if kind in {Union, UnionType}:
        inner = next((found for one in get_args(annotation) if (found := _nested(one)[0])), None)
        return inner, NoneType in get_args(annotation), False
    if kind is tuple:
        inner = _nested(get_args(annotation)[0])[0]
        return inner, False, inner is not None
    is_model = isinstance(annotation, type) and issubclass(annotation, BaseModel)
    return (annotation if is_model else None), False, False


def _default(field: FieldInfo) -> str:
    if field.default is PydanticUndefined:
        return "required"
    if field.default is None:
        return "none"
    return f"`{json.dumps(field.default)}`"


def _allowed(field: FieldInfo) -> str:
    return _kind(field.annotation, field.metadata)


def _kind(annotation: Any, metadata: list[Any]) -> str:  # noqa: ANN401 - annotations have no type
    kind = get_origin(annotation)
    if kind is Annotated:
        first, *more = get_args(annotation)
        return _kind(first, [*more, *metadata])
    if kind is Literal:
        return ", ".join(f"`{one}`" for one in get_args(annotation))
    if kind in {Union, UnionType}:
        shown = [_kind(one, metadata) for one in get_args(annotation) if one is not NoneType]
        return " or ".join(shown)
    if kind is tuple:
        return "list of " + _kind(get_args(annotation)[0], []).removeprefix("a ") + "s"
    if kind is dict:
        return "an object"
    names = {bool: "`true`, `false`", int: "whole number", float: "number", str: "text"}
    return (names[annotation] + _range(metadata)).strip()


def _range(metadata: list[Any]) -> str:
    parts = []
    for limit in metadata:
        if isinstance(limit, annotated_types.Ge):
            parts.append(f"from {limit.ge}")
        if isinstance(limit, annotated_types.Gt):
            parts.append(f"above {limit.gt}")
        if isinstance(limit, annotated_types.Le):
            parts.append(f"to {limit.le}")
        if isinstance(limit, annotated_types.Lt):
            parts.append(f"below {limit.lt}")
    return "".join(f" {part}" for part in parts)


def tables() -> str:
    """The page's tables, one a section.

    Raises:
        ValueError: a setting has no reason in settings.toml, or a reason belongs to no setting.
    """
    notes: dict[str, dict[str, str]] = tomllib.loads(NOTES.read_text())
    found = list(settings())
    paths = {setting.path for setting in found}
    if strangers := sorted(set(notes) - paths):
        raise ValueError(f"{NOTES.name}: no such setting: {', '.join(strangers)}")
    if silent := sorted(path for path in paths if "why" not in notes.get(path, {})):
        raise ValueError(f"{NOTES.name}: no reason for {', '.join(silent)}")
    lines: list[str] = []
    section = ""
    for setting in found:
        name = setting.path.partition(".")[0]
        if name != section:
            section = name
            about = (Settings.model_fields[_field_name(section)].description or "").strip()
            lines += ["", f"## {section}", "", f"{about[:1].upper()}{about[1:]}.", ""]
            lines += ["| setting | default | allowed | what, and why |", "| --- | --- | --- | --- |"]
        note = notes[setting.path]
        meaning = note.get("what", setting.meaning)
        text = f"{meaning[:1].upper()}{meaning[1:].rstrip('.')}. {note['why']}"
        cells = (f"`{setting.path}`", setting.default, note.get("allowed", setting.allowed), text)
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines).strip() + "\n"


def _field_name(alias: str) -> str:
    return next(name for name, field in Settings.model_fields.items() if (field.alias or name) == alias)
