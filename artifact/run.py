"""A build run: what it tells while it works, one object a message, none ever written twice.

    models/<key>/runs/<run>/<seq>.json

Run ids and sequence numbers sort as text in the order in which they were made, so the newest is the last by name.
"""

from __future__ import annotations

import re
import secrets
from datetime import UTC, datetime
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

RUNS: Final = "runs"
"""Folder of the runs, in the artifact's."""
BOOT_STAGE: Final = "boot"
"""What startup/builder.sh does before `python -m model` runs."""
LAST_SEQUENCE: Final = 999_999
"""Of the message that startup/builder.sh leaves when nothing else could tell how the run ended."""

_RUN = re.compile(r"[0-9]{8}T[0-9]{6}Z-[0-9a-f]{6}")
_OBJECT = re.compile(rf"{RUNS}/(?P<run>{_RUN.pattern})/(?P<sequence>[0-9]{{6}})\.json")

RunState = Literal["running", "succeeded", "failed"]


class RunStatus(BaseModel):
    """One message of a run."""

    model_config = ConfigDict(extra="forbid", frozen=True, alias_generator=to_camel, populate_by_name=True)

    run: str = Field(pattern=rf"^{_RUN.pattern}$")
    state: RunState
    stage: str
    """The stage at work, or the one that failed."""
    percent: float = Field(default=0.0, ge=0, le=100)
    """Of the whole run."""
    seconds_left: float | None = Field(default=None, ge=0)
    """Estimate; None while there is nothing to estimate from."""
    error: str = ""
    """One line, where the state is `failed`."""
    log: str = ""
    """Address of the run's log, once it is there."""


def new_run() -> str:
    """Id of a run that begins now: its time (UTC) and 24 random bits, as two builders may begin in one second."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"


def valid_run(run: str) -> str:
    """The id itself.

    Raises:
        ValueError: of another form than `new_run` makes.
    """
    if not _RUN.fullmatch(run):
        raise ValueError(f"{run!r} is no run: it must be <yyyymmdd>T<hhmmss>Z-<6 hex digits>, in UTC")
    return run


def run_file(run: str, name: str) -> str:
    """Object name of a run's file, below the artifact's folder."""
    return f"{RUNS}/{run}/{name}"


def status_object(run: str, sequence: int) -> str:
    """Object name of one message, below the artifact's folder."""
    return run_file(run, f"{sequence:06}.json")


def is_status(name: str) -> bool:
    """Whether an object name, below the artifact's folder, is a message's."""
    return _OBJECT.fullmatch(name) is not None
