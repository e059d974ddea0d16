"""What stops a build, in words for whoever asked for it."""

from __future__ import annotations


class BuildError(Exception):
    """The artifact cannot be built, or must not be: the message names the stage, the reason and the next step."""
