"""VPC firewall rules as Google evaluates them, for the one question asked here: may these sources reach this port?

Source: Google Cloud, "VPC firewall rules" (2026-11): the lowest priority number decides, a deny wins over an allow of
the same priority, and ingress that no rule names is denied.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network, ip_network
from typing import Any, Final, Literal

from sandbox.compute.names import same

TYPE: Final = "gcp:compute/firewall:Firewall"

_TCP: Final = frozenset({"tcp", "6", "all"})
_LOWEST_PRIORITY: Final = 1000
"""What a rule without a priority has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One ingress rule. Port ranges are inclusive; no range means every port."""

    name: str
    network: str
    action: Literal["allow", "deny"]
    priority: int
    tcp_ports: tuple[tuple[int, int], ...] | None
    """None: the rule does not speak of TCP."""
    sources: tuple[IPv4Network, ...]
    target_tags: frozenset[str]
    target_service_accounts: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The instance that traffic is for."""

    network: str
    tags: frozenset[str]
    service_account: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether traffic passes, and which rule said so."""

    allowed: bool
    rule: str
    """Name of the rule that decided, or why none did."""


def rules(declared: Iterable[Mapping[str, Any]]) -> list[Rule]:
    """Enabled ingress rules among declared Firewall resources, by their camelCase properties.

    Rules with source tags or source service accounts alone admit instances, never the ranges asked about here.
    """
    found: list[Rule] = []
    for one in declared:
        if one.get("disabled") or one.get("direction", "INGRESS") != "INGRESS":
            continue
        ranges = one.get("sourceRanges") or ()
        if not ranges and not one.get("sourceTags") and not one.get("sourceServiceAccounts"):
            ranges = ("0.0.0.0/0",)
        action: Literal["allow", "deny"] = "allow" if one.get("allows") else "deny"
        found.append(
            Rule(
                name=one["name"],
                network=one["network"],
                action=action,
                priority=int(one.get("priority", _LOWEST_PRIORITY)),
                tcp_ports=_tcp_ports(one.get("allows") or one.get("denies") or ()),
                sources=tuple(net for net in (ip_network(r, strict=False) for r in ranges) if net.version == 4),
                target_tags=frozenset(one.get("targetTags") or ()),
                target_service_accounts=frozenset(one.get("targetServiceAccounts") or ()),
            )
        )
    return found


def admits(declared: Iterable[Rule], source: IPv4Network, target: Target, port: int) -> Verdict:
    """Whether every address of `source` may reach TCP `port` of `target`.

    A range that a rule splits is judged by its parts; the first part that is denied decides.
    """
    relevant = [rule for rule in declared if _speaks_of(rule, target, port)]
    relevant.sort(key=lambda rule: (rule.priority, rule.action == "allow", rule.name))
    return _judge(relevant, source)


def _judge(ordered: list[Rule], source: IPv4Network) -> Verdict:
    for index, rule in enumerate(ordered):
        if any(source.subnet_of(net) for net in rule.sources):
            return Verdict(rule.action == "allow", rule.name)
        inside = next((net for net in rule.sources if net.subnet_of(source)), None)
        if inside is not None:
            if rule.action == "deny":
                return Verdict(allowed=False, rule=rule.name)
            for part in source.address_exclude(inside):
                verdict = _judge(ordered[index:], part)
                if not verdict.allowed:
                    return verdict
            return Verdict(allowed=True, rule=rule.name)
    return Verdict(allowed=False, rule="no rule allows it (implied deny)")


def _speaks_of(rule: Rule, target: Target, port: int) -> bool:
    if rule.tcp_ports is None or not same(rule.network, target.network):
        return False
    if rule.tcp_ports and not any(low <= port <= high for low, high in rule.tcp_ports):
        return False
    if rule.target_tags and not rule.target_tags & target.tags:
        return False
    return not rule.target_service_accounts or target.service_account in rule.target_service_accounts


def _tcp_ports(entries: Iterable[Mapping[str, Any]]) -> tuple[tuple[int, int], ...] | None:
    ranges: list[tuple[int, int]] = []
    spoken = False
    for entry in entries:
        if str(entry["protocol"]).lower() not in _TCP:
            continue
        ports = entry.get("ports") or ()
        if not ports:
            return ()
        spoken = True
        for port in ports:
            low, _, high = str(port).partition("-")
            ranges.append((int(low), int(high or low)))
    return tuple(ranges) if spoken else None
