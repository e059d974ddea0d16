"""Optimisation profiles: the ranges of batch sizes that a TensorRT plan is tuned for.

The model build builds plans with them, a VM that must build its own does too, and Triton is told their names.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

_SMALL_MAX: Final = 32
"""Greatest batch of the profile for small batches, and the smallest of the one for large batches."""
_SMALL_OPT: Final = 8


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


def batch_profiles(max_batch: int, fixed_batch: int | None = None) -> tuple[BatchProfile, ...]:
    """Profiles of a model, in the order of their indices, which are their names in Triton.

    Tactics are chosen for a profile's best batch: one profile for all sizes would serve single images with kernels
    chosen for 128. A model of fixed batch B has one profile, B alone.

    Raises:
        ValueError: no positive number of images.
    """
    if fixed_batch is not None:
        return (BatchProfile(fixed_batch, fixed_batch, fixed_batch),)
    small = BatchProfile(1, min(_SMALL_OPT, max_batch), min(_SMALL_MAX, max_batch))
    if max_batch <= _SMALL_MAX:
        return (small,)
    return small, BatchProfile(_SMALL_MAX, max_batch, max_batch)
