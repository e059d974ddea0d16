"""Generation preconditions, decided from what an object is now (Google Cloud, "Request preconditions", 2026-11)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sandbox.storage.errors import StorageError, bad_request, condition_not_met


@dataclass(frozen=True, slots=True)
class Preconditions:
    """What must hold of an object; 0 as a generation means that there is none."""

    generation_match: int | None = None
    generation_not_match: int | None = None
    metageneration_match: int | None = None
    metageneration_not_match: int | None = None

    @classmethod
    def of(cls, query: Mapping[str, str]) -> Preconditions:
        """From a request's parameters. Raises StorageError for what is no number."""
        names = ("ifGenerationMatch", "ifGenerationNotMatch", "ifMetagenerationMatch", "ifMetagenerationNotMatch")
        return cls(*(_number(name, query[name]) if name in query else None for name in names))

    def failure(self, generation: int, metageneration: int, *, reading: bool) -> StorageError | None:
        """Why a request on an object with these numbers (0, 0: none) fails; None where everything holds.

        A read that fails by a `NotMatch` is 304, everything else is 412.
        """
        pairs = ((self.generation_match, generation), (self.metageneration_match, metageneration))
        if any(wanted is not None and wanted != actual for wanted, actual in pairs):
            return condition_not_met()
        pairs = ((self.generation_not_match, generation), (self.metageneration_not_match, metageneration))
        if any(unwanted is not None and unwanted == actual for unwanted, actual in pairs):
            return StorageError(304, "notModified", "Not Modified") if reading else condition_not_met()
        return None


def _number(name: str, value: str) -> int:
    if not value.isdigit():
        raise bad_request(f"Invalid value '{value}' for the parameter {name}: a number is required")
    return int(value)
