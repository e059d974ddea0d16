"""`loadBalancer`: the address that clients use, and how requests are spread."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, ValidationInfo

import contract
from components.settings.section import Refusal, Section, refuse

_DOMAIN = re.compile(r"(?=.{4,253}$)([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]([a-z0-9-]{0,61}[a-z0-9])")
MAX_DOMAINS = 100
"""Google's limit for one managed certificate."""
MIN_CAPACITY_SCALER = 0.1
"""Least that Compute Engine takes beside 0 (discovery document compute.v1, Backend.capacityScaler)."""

_POLICY = re.compile(r"projects/[a-z][a-z0-9.:-]*[a-z0-9]/global/securityPolicies/[a-z]([a-z0-9-]*[a-z0-9])?")


def _domain_names(domains: tuple[str, ...]) -> tuple[str, ...]:
    if not 1 <= len(domains) <= MAX_DOMAINS:
        raise refuse(Refusal(domains, f"1 to {MAX_DOMAINS} domain names", "name the domains that clients use"))
    bad = [(i, domain) for i, domain in enumerate(domains) if not _DOMAIN.fullmatch(domain)]
    if bad:
        allowed = "a DNS name in lower case, without wildcard or final dot"
        remedy = "name a domain whose DNS you can point at the stack's ipAddress, for example api.example.com"
        raise refuse(*(Refusal(domain, allowed, remedy, (i,)) for i, domain in bad))
    return domains


def _rate_in_rate_mode(rate: float | None, info: ValidationInfo) -> float | None:
    if info.data.get("mode") == "RATE" and rate is None:
        remedy = "set it to the images a second that one VM serves (`make bench` measures it), or use mode UTILIZATION"
        raise refuse(Refusal(rate, "a number above 0 with mode RATE", remedy))
    return rate


def _scaled_capacity(scaler: float) -> float:
    if 0 < scaler < MIN_CAPACITY_SCALER:
        raise refuse(
            Refusal(scaler, f"0, or {MIN_CAPACITY_SCALER} to 1", "set it to 0 to drain the groups, or raise it")
        )
    return scaler


def _security_policy(policy: str) -> str:
    if not _POLICY.fullmatch(policy):
        allowed = "projects/<project>/global/securityPolicies/<name>"
        raise refuse(Refusal(policy, allowed, "name an existing Cloud Armor policy by its full name"))
    return policy


class HttpsSettings(Section):
    """HTTPS on port 443 with a certificate that Google manages; port 80 then only redirects."""

    domains: Annotated[tuple[str, ...], AfterValidator(_domain_names)] = Field(
        description="domain names of the certificate", examples=[["api.example.com"]]
    )


class LoggingSettings(Section):
    """Request logs of the balancer."""

    sample_rate: float = Field(default=1.0, gt=0, le=1, description="share of requests that are logged", examples=[0.1])


class LoadBalancerSettings(Section):
    """A global external Application Load Balancer."""

    port: int = Field(default=80, ge=1, le=65535, description="port for HTTP", examples=[80])
    mode: Literal["UTILIZATION", "RATE"] = Field(
        default="UTILIZATION", description="what tells that a group is full", examples=["UTILIZATION"]
    )
    max_utilization: float = Field(
        default=0.8,
        ge=0.01,
        le=1,
        description="CPU utilisation at which a group is full (mode UTILIZATION)",
        examples=[0.8],
    )
    max_rate_per_instance: Annotated[float | None, AfterValidator(_rate_in_rate_mode)] = Field(
        default=None, gt=0, description="requests a second at which one VM is full", examples=[400]
    )
    capacity_scaler: Annotated[float, AfterValidator(_scaled_capacity)] = Field(
        default=1.0, ge=0, le=1, description="factor on a group's capacity; 0 drains it", examples=[1]
    )
    timeout_s: int = Field(default=30, ge=1, le=3600, description="seconds an answer may take", examples=[30])
    queue_deadline_s: float = Field(
        default=contract.QUEUE_DEADLINE_S,
        ge=0.01,
        le=20,
        description="seconds that a request may wait on a VM before it is begun; above, it is refused with 429",
        examples=[0.5],
    )
    drain_s: int = Field(
        default=60, ge=0, le=3600, description="seconds that requests in flight have when a VM leaves", examples=[60]
    )
    protect_address: bool = Field(
        default=False,
        description="whether `pulumi destroy` refuses to give the address up, or leaves it if told so",
        examples=[True],
    )
    https: HttpsSettings | None = Field(
        default=None, description="HTTPS beside HTTP", examples=[{"domains": ["api.example.com"]}]
    )
    security_policy: Annotated[str, AfterValidator(_security_policy)] | None = Field(
        default=None,
        description="Cloud Armor policy of the backend service",
        examples=["projects/my-project/global/securityPolicies/edge"],
    )
    logging: LoggingSettings | None = Field(
        default=None, description="request logs; none by default", examples=[{"sampleRate": 0.1}]
    )
