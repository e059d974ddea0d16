"""Poll a fleet until its versions, stability and backend health agree, or name what kept it from that."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final, Protocol

from client.errors import ClientError, UnavailableError
from client.fleet import FleetState
from client.rollout import Finding, findings, healthy_count, is_paused

POLL_INTERVAL_S: Final = 5.0
REPEAT_INTERVAL_S: Final = 60.0
"""A progress line appears on every change, and after this long without one."""


class FleetReader(Protocol):
    """What waiting needs of client.fleet.Fleet."""

    def state(self) -> FleetState:
        """The state now."""

    def startup_script_line(self, project: str, zone: str, vm: str) -> str:
        """The last thing that a VM's startup script said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Clock:
    """Time, so that tests need none."""

    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


def wait(fleet: FleetReader, timeout_s: float, say: Callable[[str], None], clock: Clock | None = None) -> None:
    """Return when the fleet has arrived; one progress line a change goes to `say`.

    Raises:
        ClientError: the time is over (the message names every VM with zone and reason), or the APIs refuse.
    """
    clock = clock or Clock()
    began = clock.now()
    missing: tuple[Finding, ...] = ()
    last_line, said_at = "", began
    outage: UnavailableError | None = None
    while True:
        try:
            state = fleet.state()
        except UnavailableError as error:
            outage, line = error, f"cannot tell: {error.problem}"
        else:
            outage, missing = None, findings(state)
            line = progress(state, missing)
        now = clock.now()
        if line != last_line or now - said_at >= REPEAT_INTERVAL_S:
            say(f"[{now - began:4.0f} s] {line}")
            last_line, said_at = line, now
        if outage is None and not missing:
            return
        if now - began >= timeout_s:
            raise ClientError(
                f"not there after {timeout_s:.0f} s:{_reasons(fleet, missing, outage)}",
                "`python -m client status` shows the fleet; waiting again continues where it stands.",
            )
        clock.sleep(min(POLL_INTERVAL_S, max(0.0, began + timeout_s - now)))


def progress(state: FleetState, missing: tuple[Finding, ...]) -> str:
    """One line: how many VMs are healthy, and the first thing that is missing."""
    groups = ", ".join(
        f"{group.name.name} paused"
        if is_paused(group)
        else f"{group.name.name} {healthy_count(group)} of {group.manager.target_size} VMs healthy"
        for group in state.groups
    )
    if not missing:
        return f"{groups}; versions, stability and health agree"
    more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
    return f"{groups}; {missing[0]}{more}"


def _reasons(fleet: FleetReader, missing: tuple[Finding, ...], outage: UnavailableError | None) -> str:
    lines = [str(_with_script_line(fleet, finding)) for finding in missing]
    if outage is not None:
        lines.append(outage.problem)
    return "".join(f"\n  {line}" for line in lines)


def _with_script_line(fleet: FleetReader, finding: Finding) -> Finding:
    if not finding.is_vm:
        return finding
    try:
        line = fleet.startup_script_line(finding.project, finding.place, finding.subject)
    except ClientError:
        # The VM may be gone, or not yet there: its finding says so, and the console is only more detail.
        return finding
    if not line:
        return finding
    said = f"startup script said: {line}"
    return replace(finding, reason=f"{finding.reason}; {said}" if finding.reason else said)
