"""`autoscaling`: when VMs are added and taken away."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

import contract
from components.settings.section import Section


class ScaleInSettings(Section):
    """How fast a group may shrink."""

    max_replicas: int = Field(default=1, ge=1, le=1000, description="VMs that may go within one window", examples=[1])
    window_s: int = Field(default=600, ge=60, le=3600, description="seconds that the window looks back", examples=[600])


class AutoscalingSettings(Section):
    """Signals of the autoscaler: the one that asks for most VMs wins."""

    gpu_target: float = Field(
        default=85,
        gt=0,
        le=100,
        description="GPU utilisation to hold, in percent, mean over a VM's GPUs",
        examples=[85],
    )
    cpu_target: float | None = Field(
        default=0.75,
        gt=0,
        le=1,
        description="CPU utilisation to hold, as a fraction (decoding JPEGs can be the narrow place); null for none",
        examples=[0.75],
    )
    metric_source: Literal["agent", "ops-agent"] = Field(
        default="agent",
        description="who writes the GPU metric: the fleet's agent or Google's Ops Agent",
        examples=["agent"],
    )
    cool_down_s: int = Field(
        default=360, ge=0, le=3600, description="seconds from a VM's start until its metrics count", examples=[360]
    )
    scale_in: ScaleInSettings = Field(
        default=ScaleInSettings(), description="how fast a group may shrink", examples=[{"maxReplicas": 1}]
    )

    def gpu_metric(self, program: str, stack: str) -> str:
        """Monitoring type of the GPU utilisation metric of a stack."""
        return contract.gpu_metric_type(program, stack) if self.metric_source == "agent" else contract.OPS_AGENT_METRIC
