"""Every name that two sides of a wire must agree on.

The Pulumi program, the startup scripts, the serving code on the VMs, the model build and the client import this module
(the scripts receive the values they need as instance metadata). It imports nothing but the standard library.
"""

from __future__ import annotations

import re
from typing import Final

# --- Ports of a serving VM -------------------------------------------------------------------------------------------
API_PORT: Final = 8888
"""HTTP API, serving health and liveness: the group's named port, and the only one the balancer may reach."""
METRICS_PORT: Final = 8889
"""Prometheus metrics of the serving processes, not behind the balancer."""
TRITON_GRPC_PORT: Final = 8001
TRITON_METRICS_PORT: Final = 8002
NAMED_PORT: Final = "http"

# --- HTTP paths and headers ------------------------------------------------------------------------------------------
MODEL_NAME: Final = "default"
MODEL_PATH: Final = f"/v1/models/{MODEL_NAME}"
"""Model status of TensorFlow Serving's REST API, and serving health: what the balancer's check asks."""
PREDICT_PATH: Final = f"{MODEL_PATH}:predict"
LABELS_PATH: Final = f"{MODEL_PATH}/labels"
METADATA_PATH: Final = f"{MODEL_PATH}/metadata"
LIVENESS_PATH: Final = "/healthz"
"""What the autohealing check asks."""
SERVED_BY_HEADER: Final = "x-served-by"
MODEL_KEY_HEADER: Final = "x-model-key"

# --- Google's side ---------------------------------------------------------------------------------------------------
PROBE_RANGES: Final = ("130.211.0.0/22", "35.191.0.0/16")
"""Sources of the global balancer's proxies and of health probes (Google Cloud, "Health checks overview", 2026-11)."""
IAP_RANGE: Final = "35.235.240.0/20"
"""Source of Identity-Aware Proxy TCP forwarding (Google Cloud, "Using IAP for TCP forwarding", 2026-11)."""

PROBE_INTERVAL_S: Final = 3
"""Seconds between two probes of serving health, and what one may take."""
PROBES_TO_HEALTHY: Final = 2
PROBES_TO_UNHEALTHY: Final = 2
"""Probes in a row that take a VM into and out of rotation: a drain must outlast the latter."""

# --- Instance metadata of the VMs ------------------------------------------------------------------------------------
STARTUP_SCRIPT_KEY: Final = "startup-script"
ARTIFACT_KEY: Final = "fleet-artifact"
"""`gs://bucket/models/<key>/`, the artifact that the VM serves or builds."""
CODE_KEY: Final = "fleet-code"
"""`gs://bucket/<object>`, the code bundle that the VM runs."""
CODE_SHA256_KEY: Final = "fleet-code-sha256"
CONTAINER_KEY: Final = "fleet-container"
"""The container image that the VM's role runs in."""
GPU_COUNT_KEY: Final = "fleet-gpus"
"""How many GPUs the VM must see before it may work."""
STACK_KEY: Final = "fleet-stack"
"""`<Pulumi project>/<stack>`, from which the GPU metric's name follows."""
MODEL_VERSION_KEY: Final = "fleet-model-version"
"""The version number that the API shows for the model."""
METRIC_SOURCE_KEY: Final = "fleet-metric-source"
"""`agent` (ours writes the metric) or `ops-agent` (Google's does)."""

SERVING_LIMITS_KEY: Final = "fleet-serving-limits"
"""Limits of the serving processes that differ from the defaults (serving/limits.py), as JSON; may be missing."""

QUEUE_DEADLINE_S: Final = 1.0
"""Seconds that a request may wait on a serving VM before it is begun, unless the VM is told another: likewise."""

ACCESS_LOG_SAMPLE: Final = 0.01
"""Share of the answered requests that serving VMs log, unless they are told another: then it is among the limits."""

BUILD_REQUEST_KEY: Final = "fleet-build-request"
"""What a builder VM builds: a BuildRequest of artifact/recipe.py as JSON."""

SERVING_UNIT: Final = "tensorrt-fleet-serving"
"""The systemd unit that runs `python -m serving`."""

OPS_AGENT_METRIC: Final = "agent.googleapis.com/gpu/utilization"

_METRIC_SEGMENT = re.compile(r"[^A-Za-z0-9_]")


def gpu_metric_type(project: str, stack: str) -> str:
    """Name of the GPU-utilisation metric that a stack's agents write and its autoscalers read.

    One GAUGE series a VM, the mean over its visible GPUs in percent, on the resource `gce_instance`.
    """
    segments = (_METRIC_SEGMENT.sub("_", part) for part in (project, stack))
    return "custom.googleapis.com/{}/{}/gpu_utilization".format(*segments)


def triton_model_name(form: str, gpu: int) -> str:
    """Triton's name of the model for one input form (`image` or `tensor`) on one GPU."""
    return f"{MODEL_NAME}_{form}_gpu{gpu}"
