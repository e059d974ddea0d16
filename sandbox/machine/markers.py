"""Environment variables by which a sandbox finds its processes again, whatever has become of their parents."""

from __future__ import annotations

STATE_MARKER = "SANDBOX_STATE"
"""Environment variable of everything that a sandbox starts: its state folder."""
MACHINE_MARKER = "SANDBOX_MACHINE"
"""Environment variable of everything that runs in a VM: the VM's key."""
