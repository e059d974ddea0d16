"""The stack's configuration: typed, checked as a whole, and refused in words."""

import pulumi

from components.naming import Names
from components.settings.fleet import Pool
from components.settings.problems import InvalidSettingsError, Problem
from components.settings.stack import NAMESPACE, Settings, parse

__all__ = ["NAMESPACE", "InvalidSettingsError", "Pool", "Problem", "Settings", "load", "parse"]


def load() -> tuple[Names, Settings]:
    """Names and settings of the running stack.

    Raises:
        InvalidSettingsError: with every problem of the stack's configuration.
    """
    return parse(pulumi.runtime.config.CONFIG.get(), program=pulumi.get_project(), stack=pulumi.get_stack())
