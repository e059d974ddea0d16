"""What is wrong with a configuration, in words: where, what was given, what is allowed, what to do."""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Sequence
from types import UnionType
from typing import Annotated, Any, Literal, NamedTuple, TypeGuard, Union, get_args, get_origin

import annotated_types
import pulumi
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from components.settings.section import REFUSED

_KINDS = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "a text",
    tuple: "a list",
    dict: "an object",
}

Path = Callable[[tuple[int | str, ...]], str]


class Problem(NamedTuple):
    """One thing that is wrong."""

    path: str
    given: str
    allowed: str
    remedy: str

    def __str__(self) -> str:
        """Three lines: where and what, what is allowed, what to do."""
        return f"{self.path}: {self.given}\n    allowed: {self.allowed}\n    do:      {self.remedy}"


class InvalidSettingsError(pulumi.RunError):
    """The configuration cannot be used. Pulumi shows the message and no traceback."""

    def __init__(self, stack: str, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        lines = "\n\n".join(f"  {problem}" for problem in problems)
        super().__init__(f"the configuration of stack {stack!r} has {count}:\n\n{lines}\n")


def shown(value: object) -> str:
    """A value as it stands in the file, cut where it gets long."""
    text = json.dumps(value, default=str)
    return text if len(text) <= 100 else text[:97] + "..."


def problems_of(path: Path, model: type[BaseModel], error: ValidationError) -> list[Problem]:
    """Every error that pydantic found in an object; `path` says where a value stands in the file."""
    return [_problem(path, model, details) for details in error.errors(include_url=False)]


def _problem(path_of: Path, model: type[BaseModel], details: ErrorDetails) -> Problem:
    unknown, given = details["type"] == "extra_forbidden", details["input"]
    loc = details["loc"] if unknown else _as_written(model, details["loc"])
    path = path_of(loc)
    context = details.get("ctx", {})
    if details["type"] == REFUSED:
        return Problem(path, shown(given), context["allowed"], context["remedy"])
    place = _locate(model, loc)
    if unknown:
        near = difflib.get_close_matches(str(loc[-1]), _keys(place.owner), n=1)
        remedy = f"did you mean `{near[0]}`?" if near else "remove it"
        return Problem(path, shown(given), f"the keys {', '.join(_keys(place.owner))}", remedy)
    allowed = _kind(place.annotation) + ("" if place.element else _limits(place.field))
    hint = _hint(place.field) if place.field else "write an object"
    if details["type"] == "missing":
        return Problem(path, "nothing", allowed, f"add it: {hint}")
    return Problem(path, shown(given), allowed, f"correct it: {hint}")


def _as_written(model: type[BaseModel], loc: Sequence[int | str]) -> tuple[int | str, ...]:
    """`loc` with the keys of the file: a refused default is reported under its field's name."""
    written: tuple[int | str, ...] = ()
    for part in loc:
        inside = _unwrapped(_locate(model, written).annotation)
        fields = inside.model_fields if _is_model(inside) else {}
        written += (_alias(part, fields[part]) if isinstance(part, str) and part in fields else part,)
    return written


class _Place(NamedTuple):
    owner: type[BaseModel]
    field: FieldInfo | None
    annotation: Any
    """Type of the value there."""
    element: bool
    """Whether it is an element of the field's list or object rather than the field itself."""


def _locate(model: type[BaseModel], loc: Sequence[int | str]) -> _Place:
    """What `loc` points at, below `model`."""
    place = _Place(model, None, model, element=False)
    for part in loc:
        inside = _unwrapped(place.annotation)
        if _is_model(inside):
            field = next((f for name, f in inside.model_fields.items() if _alias(name, f) == part), None)
            place = _Place(inside, field, field.annotation if field else None, element=False)
        else:
            element = next((argument for argument in reversed(get_args(inside)) if argument is not Ellipsis), None)
            place = _Place(place.owner, place.field, element, element=True)
    return place


def _is_model(annotation: Any) -> TypeGuard[type[BaseModel]]:  # noqa: ANN401 (annotations are of no one type)
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _unwrapped(annotation: Any) -> Any:  # noqa: ANN401 (annotations are of no one type)
    """An annotation without Annotated and without `| None`."""
    while get_origin(annotation) in {Annotated, Union, UnionType}:
        annotation = get_args(annotation)[0]
    return annotation


def _kind(annotation: Any) -> str:  # noqa: ANN401 (annotations are of no one type)
    inside = _unwrapped(annotation)
    origin = get_origin(inside) or inside
    if origin is Literal:
        return " or ".join(map(str, get_args(inside)))
    if _is_model(origin):
        return f"an object with the keys {', '.join(_keys(origin))}"
    return _KINDS[origin]


def _keys(model: type[BaseModel]) -> list[str]:
    return [_alias(name, field) for name, field in model.model_fields.items()]


def _alias(name: str, field: FieldInfo) -> str:
    return field.alias or name


def _hint(field: FieldInfo) -> str:
    example = field.examples[0] if field.examples else field.get_default(call_default_factory=True)
    return "; ".join(filter(None, (field.description, f"for example {shown(example)}")))


def _limits(field: FieldInfo | None) -> str:
    limits = []
    for limit in field.metadata if field else ():
        match limit:
            case annotated_types.Gt(gt=bound):
                limits.append(f"above {bound}")
            case annotated_types.Ge(ge=bound):
                limits.append(f"at least {bound}")
            case annotated_types.Le(le=bound):
                limits.append(f"at most {bound}")
    return ", " + " and ".join(limits) if limits else ""
