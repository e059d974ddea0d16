"""GPU agent: writes the VM's mean GPU utilisation to Cloud Monitoring every 15 s, while the VM is in rotation.

A process of its own: its death changes nobody's health, and a missing metric raises an alert.
"""

from __future__ import annotations

import argparse
import asyncio
import datetime as dt
import json
import logging
import os
import time
import urllib.error
import urllib.request
from typing import Any, Final

from serving import gpus, log
from serving.health import StatusFile
from serving.metadata import MetadataError, MetadataServer
from serving.settings import GpuMetric, Settings

_log = logging.getLogger(__name__)

INTERVAL_S: Final = 15.0
ROTATION_POLL_S: Final = 1.0
"""How soon after entering rotation the first point is written."""
_TIMEOUT_S: Final = 10.0
_DEFAULT_ENDPOINT: Final = "https://monitoring.googleapis.com"


class WriteError(Exception):
    """Cloud Monitoring refused a point or did not answer."""


def time_series(metric: GpuMetric, percent: float, at: dt.datetime) -> dict[str, Any]:
    """Body of `projects.timeSeries.create` with one GAUGE point of one series (Monitoring API v3)."""
    resource = {"instance_id": metric.instance_id, "zone": metric.zone, "project_id": metric.project}
    point = {"interval": {"endTime": at.isoformat()}, "value": {"doubleValue": percent}}
    return {
        "timeSeries": [
            {
                "metric": {"type": metric.type},
                "resource": {"type": "gce_instance", "labels": resource},
                "metricKind": "GAUGE",
                "valueType": "DOUBLE",
                "points": [point],
            }
        ]
    }


def write(metric: GpuMetric, body: dict[str, Any], token: str) -> None:
    """Create the point; blocks.

    Raises:
        WriteError: see there.
    """
    endpoint = (os.environ.get("GOOGLE_MONITORING_CUSTOM_ENDPOINT") or _DEFAULT_ENDPOINT).rstrip("/")
    request = urllib.request.Request(  # noqa: S310 - the operator's own endpoint
        f"{endpoint}/v3/projects/{metric.project}/timeSeries",
        data=json.dumps(body).encode(),
        headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S):  # noqa: S310 - as above
            pass
    except urllib.error.HTTPError as error:
        raise WriteError(f"HTTP {error.code}: {error.read().decode(errors='replace')[:500]}") from error
    except OSError as error:
        raise WriteError(f"{endpoint}: {error}") from error


async def report(metric: GpuMetric, status: StatusFile, server: MetadataServer) -> bool:
    """Write one point, unless the VM is out of rotation; whether it did.

    Raises:
        gpus.NvidiaSmiError, MetadataError, WriteError: see there.
    """
    if not status.read().serving:
        return False
    percent = await gpus.mean_utilization()
    token = await asyncio.to_thread(server.access_token)
    body = time_series(metric, percent, dt.datetime.now(dt.UTC))
    await asyncio.to_thread(write, metric, body, token)
    return True


async def run(settings: Settings) -> None:
    """Report for ever; what fails is logged, and tried again at the next turn."""
    if settings.gpu_metric is None:
        raise ValueError("no GPU metric in the settings")
    status = StatusFile(settings.status_file)
    server = MetadataServer.of_environment()
    while True:
        began = time.monotonic()
        pause = INTERVAL_S
        try:
            if not await report(settings.gpu_metric, status, server):
                pause = ROTATION_POLL_S
        except (gpus.NvidiaSmiError, MetadataError, WriteError) as error:
            _log.warning("no GPU metric was written", extra={"error": str(error)})
        await asyncio.sleep(max(0.0, began + pause - time.monotonic()))


def main() -> None:
    """Command line: the supervisor's settings."""
    parser = argparse.ArgumentParser(prog="python -m serving.agent")
    parser.add_argument("--settings", type=Settings.from_json, required=True)
    arguments = parser.parse_args()
    log.set_up("agent")
    asyncio.run(run(arguments.settings))


if __name__ == "__main__":
    main()
