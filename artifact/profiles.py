"""Optimisation profiles: the ranges of batch sizes that a TensorRT plan is tuned for.

The model build builds plans with them, a VM that must build its own does too, and Triton is told their names.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class BatchProfile:
    """Smallest, best and greatest batch of one profile: TensorRT's kMIN, kOPT and kMAX."""

    smallest: int
    best: int
    greatest: int

    def __post_init__(self) -> None:
        """Check the order."""
        if not 0 < self.smallest <= self.best <= self.greatest:
            raise ValueError(f"a profile's batches must rise from 1: {self.smallest}, {self.best}, {self.greatest}")


DYNAMIC: Final = (BatchProfile(1, 8, 32), BatchProfile(32, 128, 128))
"""Of models that take any batch. Tactics are chosen for a profile's best batch: one profile for all sizes would serve
single images with kernels chosen for 128. Triton puts requests of several clients into one batch, so the greatest is
above what one request may hold.
"""


def batch_profiles(fixed_batch: int | None) -> tuple[BatchProfile, ...]:
    """Profiles of a model in the order of their indices, which are their names in Triton.

    A model of fixed batch B has one profile, B alone.
    """
    return DYNAMIC if fixed_batch is None else (BatchProfile(fixed_batch, fixed_batch, fixed_batch),)
