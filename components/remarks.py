"""What a valid configuration should still tell the person who deploys it."""

from __future__ import annotations

from collections.abc import Iterator

from artifact.builtin import BUILTIN, SMOKE
from components.catalog import CATALOG_FILE, Catalog
from components.cost import regions_without_prices
from components.settings import Settings
from components.settings.fleet import pinned


def remarks(settings: Settings, catalog: Catalog) -> Iterator[str]:
    """One line each, for Pulumi to show as a warning."""
    fleet = settings.fleet
    containers = {"fleet.container": fleet.container}
    if settings.model.artifact is None:
        containers["model.builder.container"] = settings.model.builder.container
    for path, container in containers.items():
        if not pinned(container):
            yield (
                f"{path} {container} is named by a tag, so what it holds is unverified and may change; "
                "`make pin-containers` writes its digest"
            )
    if settings.model.artifact is None and settings.model.runtime == "tensorrt":
        yield (
            "model.runtime tensorrt: TensorRT 10 plans have not been built on a T4 by us; if the builder VM cannot, up "
            "ends with its reason before any serving VM is made, and model.runtime onnxruntime-cpu serves from vCPUs"
        )
    if settings.model.artifact is None and settings.model.source == f"{BUILTIN}:{SMOKE}":
        source = settings.model.source
        yield f"model.source {source} has random weights: it tries the pipeline, and its answers mean nothing"
    unpriced = regions_without_prices(fleet, catalog)
    if unpriced:
        yield (
            f"monthlyCostUsd prices {', '.join(unpriced)} as {catalog.reference_region}: components/data/"
            f"{CATALOG_FILE.name} has no full prices there"
        )
