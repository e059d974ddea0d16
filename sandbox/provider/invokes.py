"""Functions of the provider that programs call for data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from sandbox.provider.cloud import Cloud, ProviderConfig
from sandbox.provider.wire import Json


def invoke(token: str, args: Json, config: ProviderConfig, cloud: Cloud) -> Json:
    """The function's result. Raises ValueError for a function that is not modelled."""
    function = _FUNCTIONS.get(token)
    if function is None:
        raise ValueError(f"the sandbox does not model the function {token}; it models {', '.join(sorted(_FUNCTIONS))}")
    return function(args, config, cloud)


def _client_config(_args: Json, config: ProviderConfig, _cloud: Cloud) -> Json:
    return {
        "id": f"projects/{config.project}/regions/{config.region}/zones/{config.zone}",
        "project": config.project,
        "region": config.region,
        "zone": config.zone,
        "accessToken": "",
        "defaultLabels": dict(config.default_labels),
    }


def _project(args: Json, config: ProviderConfig, cloud: Cloud) -> Json:
    project = args.get("projectId") or config.project
    if project != cloud.settings.project:
        raise ValueError(f"the sandbox has the project {cloud.settings.project}, not {project}")
    return {
        "id": f"projects/{project}",
        "projectId": project,
        "name": project,
        "number": str(cloud.settings.project_number),
        "labels": {},
    }


_FUNCTIONS: Final[Mapping[str, Callable[[Json, ProviderConfig, Cloud], Json]]] = {
    "gcp:organizations/getClientConfig:getClientConfig": _client_config,
    "gcp:organizations/getProject:getProject": _project,
}
