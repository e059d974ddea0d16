"""VPC firewall evaluation, rule by rule as Google documents it."""

from __future__ import annotations

from ipaddress import IPv4Network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.network.firewall import Target, admits, rules

NETWORK = "https://www.googleapis.com/compute/v1/projects/p/global/networks/net"
PROBES = IPv4Network("35.191.0.0/16")
TARGET = Target(network="projects/p/global/networks/net", tags=frozenset({"web"}), service_account="sa@p")


def rule(name: str = "r", *, deny: bool = False, **changes: Any) -> dict[str, Any]:
    entry = [{"protocol": "tcp", "ports": ["8888"]}]
    base = {"name": name, "network": NETWORK, "sourceRanges": ["35.191.0.0/16"]}
    return {**base, ("denies" if deny else "allows"): entry, **changes}


def tcp(*ports: str) -> list[dict[str, Any]]:
    return [{"protocol": "tcp", "ports": list(ports)}]


ALLOWED = [
    pytest.param([rule()], id="a rule for just that"),
    pytest.param([rule(allows=tcp("80", "8000-9000"))], id="port range"),
    pytest.param([rule(allows=[{"protocol": "tcp"}])], id="all TCP ports"),
    pytest.param([rule(allows=[{"protocol": "all"}])], id="all protocols"),
    pytest.param([rule(allows=[{"protocol": "6", "ports": ["8888"]}])], id="protocol number"),
    pytest.param([rule(sourceRanges=["0.0.0.0/0"])], id="from anywhere"),
    pytest.param([rule(sourceRanges=None)], id="no source means anywhere"),
    pytest.param([rule(sourceRanges=["35.191.0.0/17", "35.191.128.0/17"])], id="two halves"),
    pytest.param(
        [rule("a", sourceRanges=["35.191.0.0/17"]), rule("b", sourceRanges=["35.191.128.0/17"])], id="halves in two"
    ),
    pytest.param([rule(targetTags=["web", "other"])], id="target tag"),
    pytest.param([rule(targetServiceAccounts=["sa@p"])], id="target service account"),
    pytest.param([rule(direction="INGRESS", disabled=False)], id="defaults spelled out"),
    pytest.param([rule("d", deny=True, priority=1001), rule("a", priority=1000)], id="allow has priority"),
    pytest.param([rule("d", deny=True, targetTags=["db"]), rule("a")], id="deny for others"),
    pytest.param([rule("d", deny=True, denies=tcp("22"), priority=1), rule("a")], id="deny of another port"),
    pytest.param([rule("d", deny=True, disabled=True, priority=1), rule("a")], id="disabled deny"),
    pytest.param([rule("e", deny=True, direction="EGRESS", priority=1), rule("a")], id="egress deny"),
    pytest.param([rule(network="net")], id="network by name"),
]

REFUSED = [
    pytest.param([], "implied deny", id="no rule"),
    pytest.param([rule(allows=tcp("80"))], "implied deny", id="another port"),
    pytest.param([rule(allows=[{"protocol": "udp"}])], "implied deny", id="another protocol"),
    pytest.param([rule(sourceRanges=["130.211.0.0/22"])], "implied deny", id="another source"),
    pytest.param([rule(sourceRanges=["35.191.0.0/17"])], "implied deny", id="half of the sources"),
    pytest.param([rule(disabled=True)], "implied deny", id="disabled"),
    pytest.param([rule(direction="EGRESS")], "implied deny", id="egress"),
    pytest.param([rule(targetTags=["db"])], "implied deny", id="another tag"),
    pytest.param([rule(targetServiceAccounts=["other@p"])], "implied deny", id="another account"),
    pytest.param([rule(network=NETWORK + "2")], "implied deny", id="another network"),
    pytest.param([rule(sourceRanges=[], sourceTags=["web"])], "implied deny", id="source tags name no range"),
    pytest.param([rule("d", deny=True, priority=999), rule("a")], "d", id="deny has priority"),
    pytest.param([rule("d", deny=True), rule("a")], "d", id="deny wins a tie"),
    pytest.param(
        [rule("d", deny=True, sourceRanges=["35.191.7.0/24"], priority=1), rule("a")], "d", id="deny of a part"
    ),
]


@pytest.mark.parametrize("declared", ALLOWED)
def test_lets_through(declared: list[dict[str, Any]]) -> None:
    verdict = admits(rules(declared), PROBES, TARGET, 8888)
    assert verdict.allowed, verdict.rule


@pytest.mark.parametrize(("declared", "decider"), REFUSED)
def test_refuses_and_names_the_rule(declared: list[dict[str, Any]], decider: str) -> None:
    verdict = admits(rules(declared), PROBES, TARGET, 8888)
    assert not verdict.allowed
    assert decider in verdict.rule


RULES = st.lists(
    st.builds(
        lambda deny, priority, ranges: rule(f"r{priority}{deny}", deny=deny, priority=priority, sourceRanges=ranges),
        st.booleans(),
        st.integers(0, 3),
        st.lists(
            st.builds(lambda third, bits: f"35.191.{third}.0/{bits}", st.integers(0, 7), st.integers(16, 24)),
            min_size=1,
            max_size=3,
        ),
    ),
    max_size=5,
)


@given(declared=RULES)
def test_a_range_is_admitted_exactly_if_each_of_its_addresses_is(declared: list[dict[str, Any]]) -> None:
    source = IPv4Network("35.191.0.0/20")
    parsed = rules(declared)
    whole = admits(parsed, source, TARGET, 8888).allowed
    parts = [admits(parsed, IPv4Network(f"35.191.{third}.1/32"), TARGET, 8888).allowed for third in range(16)]
    assert whole is all(parts)
