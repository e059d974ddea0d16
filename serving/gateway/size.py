"""How large a request can be that any signature could take: more is refused before it is parsed.

A parsed list takes many times the memory of its text: a 64 MiB body of small numbers or empty lists would take
gigabytes, which Python gives back late or never.
"""

from __future__ import annotations

import math
from typing import Final

from artifact.signature import SignatureFile

_BESIDES: Final = 1000
"""Commas around the values: names, shapes, parameters."""


def most_commas(signatures: SignatureFile) -> float:
    """Commas in the JSON of the largest request; infinite where shapes are open, or strings may hold commas."""
    most = 0.0
    for signature in signatures.signatures.values():
        values = 0.0
        for spec in signature.inputs:
            if spec.kind == "tensor" and (spec.dtype == "string" or -1 in spec.shape[1:]):
                return math.inf
            values += math.prod(spec.shape[1:])
        most = max(most, signature.max_batch * values)
    return most + _BESIDES
