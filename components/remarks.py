"""What a valid configuration should still tell the person who deploys it."""

from __future__ import annotations

from collections.abc import Iterator

from components.catalog import CATALOG_FILE, Catalog
from components.cost import regions_without_prices
from components.settings import Settings


def remarks(settings: Settings, catalog: Catalog) -> Iterator[str]:
    """One line each, for Pulumi to show as a warning."""
    fleet = settings.fleet
    if not fleet.container_pinned:
        yield (
            f"fleet.container {fleet.container} is named by a tag, so what it holds is unverified and may change; "
            "`make pin-containers` writes its digest"
        )
    unpriced = regions_without_prices(fleet, catalog)
    if unpriced:
        yield (
            f"monthlyCostUsd prices {', '.join(unpriced)} as {catalog.reference_region}: components/data/"
            f"{CATALOG_FILE.name} has no full prices there"
        )
