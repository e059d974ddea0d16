"""Which weights of a CPU graph this machine can take."""

from __future__ import annotations

from typing import Final, Literal

from model.build.machine import cpu_flags

_WIDE: Final = frozenset({"avx512_vnni", "avx_vnni", "amx_int8"})
"""With one of these 8-bit weights are safe; without, ONNX Runtime's kernels add pairs of products that saturate."""


def weight_bits() -> Literal[7, 8]:
    """Bits that are safe here."""
    return 8 if _WIDE & cpu_flags() else 7
