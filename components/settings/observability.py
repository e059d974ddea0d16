"""`observability`: dashboard and alerts."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, Field

import contract
from components.settings.section import Refusal, Section, refuse

_CHANNEL = re.compile(r"projects/[a-z][a-z0-9.:-]*[a-z0-9]/notificationChannels/[0-9]+")


def _channels(channels: tuple[str, ...]) -> tuple[str, ...]:
    bad = [(i, channel) for i, channel in enumerate(channels) if not _CHANNEL.fullmatch(channel)]
    if bad:
        allowed = "projects/<project>/notificationChannels/<number>"
        remedy = "copy the name that `gcloud beta monitoring channels list` shows"
        raise refuse(*(Refusal(channel, allowed, remedy, (i,)) for i, channel in bad))
    return channels


class ObservabilitySettings(Section):
    """What people see and are told."""

    dashboard: bool = Field(default=True, description="whether there is a dashboard", examples=[True])
    alerts: bool = Field(default=True, description="whether there are alert policies", examples=[True])
    notification_channels: Annotated[tuple[str, ...], AfterValidator(_channels)] = Field(
        default=(),
        description="who is told when an alert fires; nobody by default: alerts then show in the console only",
        examples=[["projects/my-project/notificationChannels/1234567890"]],
    )
    access_log_sample: float = Field(
        default=contract.ACCESS_LOG_SAMPLE,
        ge=0,
        le=1,
        description="share of the answered requests that the VMs log; failed ones are logged whatever it is",
        examples=[0.1],
    )
