"""What goes wrong with artifacts, in words for whoever asked for one."""

from __future__ import annotations


class ArtifactError(Exception):
    """An artifact is incomplete, damaged or not what it says; the message names what, and what to do."""


class ArtifactUnavailableError(ArtifactError):
    """An artifact cannot be had now: it is absent, or storage refused or did not answer. Trying again may help."""
