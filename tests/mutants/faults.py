"""Faults that someone could plausibly make, each with the test that must catch it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Fault:
    """One edit of one file: `old`, which stands there exactly once, becomes `new`."""

    name: str
    file: str
    old: str
    new: str
    test: str

    def apply(self, text: str) -> str:
        """Return the faulty text; raises ValueError if `old` is not there exactly once."""
        if text.count(self.old) != 1:
            raise ValueError(f"fault {self.name!r}: {self.old!r} stands {text.count(self.old)} times in {self.file}")
        return text.replace(self.old, self.new)


FAULTS: tuple[Fault, ...] = ()
