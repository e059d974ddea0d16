"""`poweroff`: the guest shuts itself down."""

from __future__ import annotations

from sandbox.machine import control
from sandbox.machine.refusal import not_modelled
from sandbox.machine.scratch import Scratch


def main(arguments: list[str]) -> int:
    """`poweroff`."""
    if arguments:
        raise not_modelled("poweroff", f"arguments ({' '.join(arguments)})")
    control.ask(Scratch.here().control_socket, {"do": "power-off"})
    return 0
