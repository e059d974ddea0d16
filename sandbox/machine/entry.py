"""Runs a program of a virtual machine on the bare interpreter: no site-packages, so a VM sees only its image.

    python -I -S entry.py <program> [arguments]

where <program> is a module of sandbox.machine or sandbox.machine.commands with a function `main(arguments) -> int`.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path


def command_line(program: str) -> list[str]:
    """What starts `program` (see the module) with this interpreter."""
    return [sys.executable, "-I", "-S", str(Path(__file__).resolve()), program]


def main() -> int:
    """Run the program that the command line names."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    program, arguments = sys.argv[1], sys.argv[2:]
    refusal = importlib.import_module("sandbox.machine.refusal").Refusal
    try:
        status: int = importlib.import_module(f"sandbox.machine.{program}").main(arguments)
    except refusal as answer:
        print(answer, file=sys.stderr)
        status = answer.status
    return status


if __name__ == "__main__":
    sys.exit(main())
