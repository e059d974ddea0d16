"""The limits of a serving VM that an operator may set, by `--set NAME=VALUE` or by the VM's metadata."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from serving.settings import Settings


class LimitError(ValueError):
    """There is no such limit, or its value is out of range."""


@dataclass(frozen=True, slots=True)
class Limit:
    """A setting that bounds something: a whole number where its bounds are. `text` says what happens at it."""

    name: str
    least: float
    most: float
    text: str

    def parse(self, value: str | float) -> float:
        """The value, checked.

        Raises:
            LimitError: not a number within the bounds.
        """
        kind: type[int | float] = int if isinstance(self.least, int) else float
        try:
            number = kind(str(value))
        except ValueError:
            number = None
        if number is None or not self.least <= number <= self.most:
            what = "a whole number" if kind is int else "a number"
            raise LimitError(f"{self.name}: {value!r} is not {what} from {self.least} to {self.most}")
        return number


LIMITS: Final = (
    Limit("queue_deadline_s", 0.01, 20.0, "A request that would wait longer, or does, is refused: 429"),
    Limit("max_in_flight_images", 1, 65536, "Images held a GPU, waiting or running; above: 429"),
    Limit("max_body_bytes", 1024, 2**30, "A longer request body is refused: 413"),
    Limit("max_buffered_bytes", 2**20, 2**36, "Bytes of bodies that one gateway worker holds; above: 429"),
    Limit("body_timeout_s", 0.1, 600.0, "A body that takes longer to arrive is refused: 408"),
    Limit("request_timeout_s", 0.1, 3600.0, "An answer that takes longer is given up: 504"),
    Limit("drain_s", 0.0, 3600.0, "Served on for so long after SIGTERM, health being 503"),
    Limit("finish_s", 0.0, 3600.0, "Requests in flight so long after SIGTERM are given up"),
    Limit("workers", 1, 256, "Gateway processes"),
    Limit("access_log_sample", 0.0, 1.0, "Share of the answered requests that the access log tells of"),
    Limit("access_log_errors_per_s", 0, 10_000, "Failed requests that it tells of, for each gateway process"),
    Limit("give_up_after", 1, 1000, "Ends of one process in a row after which liveness is 503"),
)


def with_limits(settings: Settings, values: Mapping[str, str | float]) -> Settings:
    """The settings with other limits.

    Raises:
        LimitError: see there.
    """
    known = {limit.name: limit for limit in LIMITS}
    for name in values:
        if name not in known:
            raise LimitError(f"there is no limit {name!r}; there are {', '.join(known)}")
    checked: dict[str, Any] = {name: known[name].parse(value) for name, value in values.items()}
    return dataclasses.replace(settings, **checked)


def of_arguments(pairs: Iterable[str]) -> dict[str, str]:
    """`NAME=VALUE` of a command line, by name.

    Raises:
        LimitError: one has no `=`.
    """
    values = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise LimitError(f"--set {pair}: expected NAME=VALUE, as in --set queue_deadline_s=0.5")
        values[name] = value
    return values


def of_metadata(text: str) -> dict[str, str | float]:
    """The JSON object of names and numbers that a VM's metadata holds.

    Raises:
        LimitError: it is something else.
    """
    try:
        values = json.loads(text)
    except ValueError as error:
        raise LimitError(f"not JSON: {error}") from error
    if not isinstance(values, dict) or not all(type(value) in (int, float) for value in values.values()):
        raise LimitError(f"expected a JSON object of names and numbers, got {text}")
    return values
