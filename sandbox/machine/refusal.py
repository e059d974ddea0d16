"""How a stand-in ends when it cannot do what it was asked."""

from __future__ import annotations


class Refusal(Exception):  # noqa: N818 - it is an answer, not a fault
    """Ends the program with `status` after printing the message to standard error.

    Used for what the real command would refuse, in its words, and for what is not modelled, naming it.
    """

    def __init__(self, message: str, status: int = 1) -> None:
        super().__init__(message)
        self.status = status


def not_modelled(command: str, what: str, status: int = 1) -> Refusal:
    """The refusal of something that the real command has and the stand-in has not."""
    return Refusal(f"{command}: the sandbox's stand-in does not model {what}", status)
