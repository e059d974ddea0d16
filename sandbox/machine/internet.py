"""How commands of a VM find that the internet is out of reach: no external address, and no Cloud NAT."""

from __future__ import annotations

from sandbox.machine.refusal import Refusal
from sandbox.machine.scratch import Scratch

_REASON = "the VM has no external address and its subnetwork no Cloud NAT"


def demand_internet(scratch: Scratch, message: str, status: int = 1) -> None:
    """Raise Refusal with what the real command says when its connections time out."""
    if scratch.isolated.exists():
        raise Refusal(f"{message} ({_REASON})", status)


def note(scratch: Scratch, *, reachable: bool) -> None:
    """Tell the commands of a running VM."""
    if reachable:
        scratch.isolated.unlink(missing_ok=True)
    elif scratch.run.is_dir():
        scratch.isolated.touch()
