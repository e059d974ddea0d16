"""One class a resource type: identity, outputs, references, and the rules that Google's provider decides in code."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from sandbox.provider.kinds import compute, iam, instances, load_balancing, monitoring, network, storage
from sandbox.provider.kinds.base import Kind

_MODULES = (compute, iam, instances, load_balancing, monitoring, network, storage)


@cache
def kinds() -> Mapping[str, Kind]:
    """Every modelled kind by type token."""
    return {kind.pulumi_type: kind for module in _MODULES for kind in module.KINDS}
