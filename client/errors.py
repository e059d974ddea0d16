"""The one kind of failure that a person meets: a sentence and the next step."""

from __future__ import annotations


class ClientError(Exception):
    """What is wrong, and what to do about it: one line (a list has lines of its own), never a traceback."""

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(f"{problem}\n{remedy}" if "\n" in problem else f"{problem.rstrip('.')}. {remedy}")
        self.problem = problem
        self.remedy = remedy


class NotFoundError(ClientError):
    """404: what was asked for is not there."""


class UnavailableError(ClientError):
    """Nothing answered, or the answer was a passing one (5xx, 429): the same question may work in a moment."""
