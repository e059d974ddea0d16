"""Where a sandbox keeps its state, and the dials a person may turn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

STORAGE_PORT: Final = 8078
"""Each VM, and the operator, reaches Cloud Storage at this port of its own address: the address is its identity."""
METADATA_PORT: Final = 8079
"""Each VM, and the operator, reaches its metadata server at this port of its own address."""
API_PORT: Final = 8077
"""Compute, Monitoring and IAM REST calls, on the operator's address."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxSettings:
    """One sandbox: a state folder and a block of loopback addresses.

    `block` is the second octet of its addresses: the operator (the person at the keyboard) is 127.<block>.0.1, load
    balancer addresses are 127.<block>.1.x, VMs are 127.<block>.<16..31>.x.
    """

    state: Path
    block: int
    project: str = "sandbox-project"
    project_number: int = 123456789012
    time_scale: float = 1.0
    """Divides the autoscaler's windows and nothing else."""
    ms_per_image: float = 2.0
    """Simulated GPU: time that one image occupies one GPU. Not a measurement of any GPU."""
    boot_delay_s: float = 1.0
    """Simulated time from an instance's insertion to the start of its startup script."""
    iam_delay_s: float = 0.0
    """Time from an IAM binding's creation until it takes effect."""
    quotas: Mapping[str, int] = field(default_factory=lambda: {"NVIDIA_T4_GPUS": 64, "PREEMPTIBLE_NVIDIA_T4_GPUS": 64})
    """Regional limits by Compute Engine's quota metric; an absent metric is unlimited."""
    stockouts: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """GPU type -> zones that have none left."""

    @property
    def operator_address(self) -> str:
        """Loopback address of the person at the keyboard."""
        return f"127.{self.block}.0.1"

    @property
    def api_url(self) -> str:
        """Root of the REST APIs."""
        return f"http://{self.operator_address}:{API_PORT}"
