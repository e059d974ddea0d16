"""Remembers, over restarts of the supervisor and until the next boot, that this VM has been in rotation."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
"""A fresh UUID at every boot of the kernel (man 5 proc_sys_kernel)."""


@dataclass(frozen=True, slots=True)
class BootMark:
    """A file that holds the boot in which the VM first served."""

    path: Path
    boot_id: Path = _BOOT_ID

    def served_before(self) -> bool:
        """Whether it has served in this boot."""
        try:
            return self.path.read_text() == self.boot_id.read_text()
        except FileNotFoundError:
            return False

    def serves(self) -> None:
        """Note that it serves now."""
        self.path.write_text(self.boot_id.read_text())
