"""What stops a build, in words for whoever asked for it."""

from __future__ import annotations


class BuildError(Exception):
    """The artifact cannot be built, or must not be: the message names the stage, the reason and the next step."""


def uncomputed(node: str, why: str) -> BuildError:
    """A node cannot compute what it is fed, such as an index beyond the end of a table; `why` is the runtime's word."""
    return BuildError(
        f"node {node} of the model cannot compute what it is fed: {' '.join(why.split())}; a build feeds it what "
        "model.calibration (--calibration) names: correct what is wrong there"
    )
