"""What one VM's serving processes are told: by the metadata server in a fleet, by the command line without one."""

from __future__ import annotations

import json
import os
import socket
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import contract
from artifact.uri import ArtifactUri
from serving.boot import BootMark
from serving.metadata import MetadataError, MetadataServer

_LOOPBACK: Final = "127.0.0.1"
FLEET_DRAIN_S: Final = 12.0
"""Longer than the balancer takes to see a 503: probe 3 s, unhealthy after 2."""


def state_folder() -> Path:
    """The only folder that a serving VM's processes write to."""
    return Path(os.environ.get("STATE_DIRECTORY") or "/var/lib/tensorrt-fleet")


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuMetric:
    """Where the agent writes: labels of the resource `gce_instance` and the metric's type."""

    type: str
    project: str
    zone: str
    instance_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything that the supervisor and its child processes need to know."""

    artifact: Path
    run_folder: Path
    """Status, Triton's model repository and metric files of this run; emptied at every start."""
    vm: str
    host: str
    port: int
    gpus: int | None
    """GPUs that must be there; None without a fleet: those that are, or one CPU."""
    fleet: bool
    model_version: int = 1
    """The version number that the API shows."""
    gpu_metric: GpuMetric | None = None
    """None: nothing is written (no fleet, or the Ops Agent does it)."""
    drain_s: float
    """Time to serve on after health has turned 503, until the balancer has seen it: probe 3 s, unhealthy after 2."""
    finish_s: float = 25.0
    """After the drain's start, requests in flight are given up: a Spot VM is gone after 30 s."""
    workers: int
    queue_deadline_s: float = contract.QUEUE_DEADLINE_S
    """A request that would wait longer before it is begun, or does, is refused with 429."""
    max_in_flight_images: int = 1024
    """Images a GPU that the VM holds at once, waiting or running: bounds memory, where the deadline alone would let in
    more."""
    max_body_bytes: int = 64 * 2**20
    body_timeout_s: float = 20.0
    """Time that a request's body has to arrive."""
    max_buffered_bytes: int = 512 * 2**20
    """Sum of the request bodies that one gateway worker holds at once."""
    request_timeout_s: float = 25.0
    """Below the balancer's 30 s, so that a client gets our answer and not its."""
    access_log_sample: float = contract.ACCESS_LOG_SAMPLE
    """Share of the answered requests that the access log tells of, 0 to 1."""
    access_log_errors_per_s: int = 10
    """Failed requests that it tells of, for each gateway worker."""
    give_up_after: int = 10
    """Ends of one process in a row after which the VM is not live: it is still started, but the VM should go."""

    @property
    def triton_address(self) -> str:
        """Triton's gRPC service."""
        return f"{self.host}:{contract.TRITON_GRPC_PORT}"

    @property
    def status_file(self) -> Path:
        """Written by the supervisor, read by gateway workers and agent (serving.health.StatusFile)."""
        return self.run_folder / "status.json"

    @property
    def boot_mark(self) -> BootMark:
        """Beside the run folder, so that it outlives a restart of the supervisor."""
        return BootMark(self.run_folder.with_name("served-since-boot"))

    @property
    def metrics_folder(self) -> Path:
        """Metric files of the gateway workers, summed up by the supervisor."""
        return self.run_folder / "metrics"

    def to_json(self) -> str:
        """For a child process's command line."""
        return json.dumps(asdict(self), default=str)

    @classmethod
    def from_json(cls, text: str) -> Settings:
        """What `to_json` wrote."""
        fields: dict[str, Any] = json.loads(text)
        metric = fields.pop("gpu_metric")
        return cls(
            **fields
            | {
                "artifact": Path(fields["artifact"]),
                "run_folder": Path(fields["run_folder"]),
                "gpu_metric": GpuMetric(**metric) if metric else None,
            }
        )


def without_fleet(artifact: Path, host: str, port: int, run_folder: Path) -> Settings:
    """Settings to serve an artifact folder on this machine, for trying it out."""
    return Settings(
        artifact=artifact.resolve(),
        run_folder=run_folder,
        vm=socket.gethostname(),
        host=host or _LOOPBACK,
        port=port,
        gpus=None,
        fleet=False,
        drain_s=0.0,
        workers=_workers(),
    )


def of_vm(server: MetadataServer) -> Settings:
    """Settings of the VM that this runs on.

    Raises:
        MetadataError: the metadata server does not answer, lacks a key, or has a value that makes no sense.
    """
    state = state_folder()
    gpus = server.need_attribute(contract.GPU_COUNT_KEY)
    if not gpus.isdecimal():
        raise MetadataError(f"metadata {contract.GPU_COUNT_KEY}: {gpus!r} is no number of GPUs")
    return Settings(
        artifact=state / "models" / artifact_uri(server).key,
        run_folder=state / "run",
        vm=server.need("instance/name"),
        host=server.need("instance/network-interfaces/0/ip"),
        port=contract.API_PORT,
        gpus=int(gpus),
        fleet=True,
        model_version=int(server.attribute(contract.MODEL_VERSION_KEY) or 1),
        gpu_metric=_gpu_metric(server),
        drain_s=FLEET_DRAIN_S,
        workers=_workers(),
    )


def artifact_uri(server: MetadataServer) -> ArtifactUri:
    """Address of the artifact that the VM serves.

    Raises:
        MetadataError: the metadata names none.
    """
    text = server.need_attribute(contract.ARTIFACT_KEY)
    try:
        return ArtifactUri.parse(text)
    except ValueError as error:
        raise MetadataError(f"metadata {contract.ARTIFACT_KEY}: {error}") from error


def _gpu_metric(server: MetadataServer) -> GpuMetric | None:
    if server.attribute(contract.METRIC_SOURCE_KEY) == "ops-agent":
        return None
    project, _, stack = server.need_attribute(contract.STACK_KEY).partition("/")
    return GpuMetric(
        type=contract.gpu_metric_type(project, stack),
        project=server.need("project/project-id"),
        zone=server.need("instance/zone").rpartition("/")[2],
        instance_id=server.need("instance/id"),
    )


def _workers() -> int:
    """Gateway processes: two at least, so that one that dies leaves one; a quarter of the cores feeds the rest."""
    return max(2, (os.cpu_count() or 1) // 4)
