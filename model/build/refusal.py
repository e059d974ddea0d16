"""A gate that does not hold ends the build."""

from __future__ import annotations

from collections.abc import Iterable

from artifact.manifest import GateResult
from model.errors import BuildError


def phrase(gate: GateResult) -> str:
    """What was measured, and against what."""
    return f"{gate.name} {gate.value:.3g} (threshold {gate.threshold:g})"


def refuse(what: str, gates: Iterable[GateResult]) -> None:
    """Go on only where all gates hold.

    Raises:
        BuildError: naming those that do not.
    """
    failed = [phrase(gate) for gate in gates if not gate.passed]
    if failed:
        raise BuildError(f"{what} is too far from the original: {'; '.join(failed)}")
