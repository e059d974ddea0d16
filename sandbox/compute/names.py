"""Resource names of Compute Engine in the forms that declarations, records and the API use."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final

API_ROOT: Final = "https://www.googleapis.com/compute/v1/"

_PROJECTS = re.compile(r"(?:^|/)(projects/.*)$")


def relative(link: str) -> str:
    """`projects/...` of a self link, a partial URL or an id, without `?uniqueId=`; a bare name stays as it is."""
    path = link.partition("?")[0]
    found = _PROJECTS.search(path)
    return found[1] if found else path


def short(link: str) -> str:
    """Last segment of a link: the resource's own name."""
    return link.partition("?")[0].rpartition("/")[2]


def unique_id(link: str) -> str:
    """Numeric id of a self link in its unique form, or an empty text."""
    return link.partition("?uniqueId=")[2]


def same(one: str, other: str) -> bool:
    """Whether two references mean one resource; a bare name meets any link that ends with it."""
    if unique_id(one) and unique_id(other) and unique_id(one) != unique_id(other):
        return False
    left, right = relative(one), relative(other)
    if "/" in left and "/" in right:
        return left == right
    return short(left) == short(right)


def self_link(identifier: str) -> str:
    """Full URL of a resource by its id `projects/...`."""
    return f"{API_ROOT}{relative(identifier)}"


def region_of(zone: str) -> str:
    """Region of a zone given by name or link: `us-central1` of `us-central1-a`."""
    return short(zone).rpartition("-")[0]


def group_manager_of(group: str) -> str:
    """Id of the instance group manager behind a reference to its instance group."""
    return relative(group).replace("/instanceGroups/", "/instanceGroupManagers/")


def timestamp(seconds: float) -> str:
    """RFC 3339 text of Unix seconds, as Compute Engine writes it."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
