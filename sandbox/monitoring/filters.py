"""Monitoring filters, as far as agents, clients and autoscalers here write them: equalities joined by AND.

The autoscaler's own filters know nothing else either (Google Cloud, "Scale based on Monitoring metrics", 2026-11).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

_TERM = re.compile(
    r"""\s*(?P<name>(?:metric|resource)\.(?:type|labels?\.(?:[A-Za-z_]\w*|"[^"]+"))|project)
        \s*=\s*(?:"(?P<text>(?:[^"\\]|\\.)*)"|(?P<bare>[\w./-]+))\s*""",
    re.VERBOSE,
)
_AND = re.compile(r"AND\b")
_ESCAPE = re.compile(r"\\(.)")
_PROJECT: Final = "project"


class FilterError(ValueError):
    """A filter that cannot be read, with the place where reading ended."""


@dataclass(frozen=True, slots=True)
class Filter:
    """What a series must have: selector such as `metric.type` or `resource.labels.zone` -> value."""

    terms: Mapping[str, str]

    @classmethod
    def parse(cls, text: str) -> Filter:
        """Read a filter; an empty one matches everything. Raises FilterError."""
        terms: dict[str, str] = {}
        rest = text.strip()
        while rest:
            found = _TERM.match(rest)
            if found is None:
                raise FilterError(f'cannot read the filter at {rest[:60]!r}; allowed: NAME = "VALUE" joined by AND')
            name = found["name"].replace(".label.", ".labels.").replace('"', "")
            quoted = found["text"]
            value = found["bare"] if quoted is None else _ESCAPE.sub(r"\1", quoted)
            if terms.setdefault(name, value) != value:
                raise FilterError(f"the filter wants two values of {name}")
            rest = rest[found.end() :]
            joined = _AND.match(rest)
            if rest and joined is None:
                raise FilterError(f"the filter needs AND at {rest[:60]!r}")
            if joined:
                rest = rest[joined.end() :].strip()
                if not rest:
                    raise FilterError("the filter ends with AND")
        return cls(terms)

    def matches(self, metric: Mapping[str, Any], resource: Mapping[str, Any]) -> bool:
        """Whether a series of this metric and resource ({"type", "labels"} each) is meant."""
        sides = {"metric": metric, "resource": resource}
        for name, value in self.terms.items():
            if name == _PROJECT:
                continue
            side, _, field = name.partition(".")
            holder = sides[side]
            found = holder["type"] if field == "type" else holder["labels"].get(field.partition(".")[2])
            if found != value:
                return False
        return True
