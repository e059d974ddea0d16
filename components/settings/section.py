"""What all settings objects have in common, and how one of them refuses a value."""

from __future__ import annotations

from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, ValidationError, ValidationInfo, field_validator
from pydantic.alias_generators import to_camel
from pydantic_core import InitErrorDetails, PydanticCustomError

REFUSED = "refused"
"""Type of the errors that `refuse` makes; their context holds `allowed` and `remedy`."""

Known = dict[tuple[type["Section"], str], Any]
"""Valid values by section and field, whatever else in their section is wrong."""


class Section(BaseModel):
    """One object of the configuration: camelCase keys, unknown ones refused, no value bent to fit.

    A validation context of type `Known` collects the fields that are valid, so that checks across sections can run
    although a section has errors elsewhere. (Checks of one value stand in its annotation: they run before it is known.)
    """

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        validate_default=True,
        allow_inf_nan=False,
        alias_generator=to_camel,
    )

    @field_validator("*", mode="after")
    @classmethod
    def _remember(cls, value: object, info: ValidationInfo) -> object:
        if info.context is not None:
            info.context[cls, info.field_name] = value
        return value


class Refusal(NamedTuple):
    """A value that is well-formed and still wrong."""

    given: object
    allowed: str
    remedy: str
    at: tuple[str | int, ...] = ()
    """Where below the validated value; empty for the value itself."""


def refuse(*refusals: Refusal) -> ValidationError:
    """The exception that a validator raises to refuse its value, at one place or several."""
    return ValidationError.from_exception_data(
        REFUSED,
        [
            InitErrorDetails(
                type=PydanticCustomError(REFUSED, "refused", {"allowed": refusal.allowed, "remedy": refusal.remedy}),
                loc=refusal.at,
                input=refusal.given,
            )
            for refusal in refusals
        ],
    )
