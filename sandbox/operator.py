"""The person at the keyboard: an environment in which Google's and Pulumi's programs find the sandbox and no cloud."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from sandbox.folder import StateFolder
from sandbox.settings import METADATA_PORT, STORAGE_PORT, SandboxSettings

_STRIPPED: Final = ("GOOGLE_", "CLOUDSDK_", "GCLOUD_", "GCE_METADATA_", "PULUMI_")
"""Credentials and endpoints of real clouds and stacks, by the beginning of their names."""
_PASSPHRASE: Final = "sandbox"  # noqa: S105 - it guards nothing


def clean_environment() -> dict[str, str]:
    """This process's environment without anything that leads to a real cloud or a real stack."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(_STRIPPED) and name != "STORAGE_EMULATOR_HOST"
    }


def variables(folder: StateFolder, settings: SandboxSettings, cli: Path, provider_port: int) -> dict[str, str]:
    """What the operator's environment adds to a clean one."""
    operator = settings.operator_address
    metadata = f"{operator}:{METADATA_PORT}"
    return {
        "PATH": f"{cli.parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        # Beside each file the backend would write one with its attributes, which nobody needs. A run that is killed
        # meanwhile leaves that one empty, and then its stack cannot be read ("failed to load checkpoint: EOF").
        "PULUMI_BACKEND_URL": f"file://{folder.backend}?metadata=skip",
        "PULUMI_PYTHON_CMD": sys.executable,
        "PULUMI_HOME": str(folder.pulumi_home),
        "PULUMI_CONFIG_PASSPHRASE": _PASSPHRASE,
        "PULUMI_DEBUG_PROVIDERS": f"gcp:{provider_port}",
        "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true",
        "PULUMI_SKIP_UPDATE_CHECK": "true",
        "GCE_METADATA_HOST": metadata,
        "GCE_METADATA_IP": metadata,
        "STORAGE_EMULATOR_HOST": f"http://{operator}:{STORAGE_PORT}",
        "GOOGLE_CLOUD_PROJECT": settings.project,
        "GOOGLE_COMPUTE_CUSTOM_ENDPOINT": f"{settings.api_url}/compute/v1/",
        "GOOGLE_MONITORING_CUSTOM_ENDPOINT": settings.api_url,
    } | _without_proxy(operator)


def as_shell(values: Mapping[str, str]) -> str:
    """`export` lines for a shell to evaluate."""
    return "\n".join(f"export {name}={shlex.quote(value)}" for name, value in sorted(values.items()))


def _without_proxy(operator: str) -> dict[str, str]:
    """Loopback addresses are never reached through a proxy; not every client knows address ranges."""
    excepted = [part for part in os.environ.get("no_proxy", os.environ.get("NO_PROXY", "")).split(",") if part]
    value = ",".join([*excepted, operator, "127.0.0.0/8"])
    return {"no_proxy": value, "NO_PROXY": value}
