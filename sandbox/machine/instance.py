"""One VM: what the Compute Engine API tells of it, and what runs it here."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Status = Literal["PROVISIONING", "STAGING", "RUNNING", "STOPPING", "TERMINATED"]


@dataclass(slots=True, kw_only=True)
class Instance:
    """A VM. `key` names its record in the store: whoever makes one writes PROVISIONING; the host does the rest."""

    name: str
    zone: str
    numeric_id: str
    """Unsigned 64-bit number as text, as the API gives it."""
    address: str
    """Loopback address that stands for its internal address."""
    machine_type: str
    gpus: int
    gpu_type: str
    image: str
    network: str
    subnetwork: str
    tags: list[str]
    service_account: str
    """E-mail, or empty: then no tokens."""
    scopes: list[str]
    metadata: dict[str, str]
    preemptible: bool = False
    automatic_restart: bool = True
    template: str = ""
    """Self link (unique form) of its instance template; empty for a VM of its own."""
    created_by: str = ""
    """Id of the managed instance group that owns it, or empty."""
    created: float = 0.0
    """Unix seconds."""
    status: Status = "PROVISIONING"
    desired: Literal["RUNNING", "TERMINATED", "DELETED"] = "RUNNING"
    """What the owner wants; the machine host moves `status` there and removes the record once DELETED is done."""
    stop_notice_s: float = 90.0
    """Time from soft-off (SIGTERM to every unit) to power-off."""
    started: float = 0.0
    """Unix seconds of the latest start of its startup script."""
    pid: int = 0
    """Process id of its init while it runs."""
    last_error: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    external_address: bool = False
    """Whether it has an external address besides its internal one."""
    disk_gib: int = 0
    """Size of the boot disk; 0 for the image's own."""
    max_run_s: float = 0.0
    """How long it may run from a start; 0 for ever."""
    at_limit: Literal["TERMINATED", "DELETED"] = "TERMINATED"
    """What becomes of it after `max_run_s`."""

    @property
    def key(self) -> str:
        """Name of the record: `<zone>/<name>`."""
        return f"{self.zone}/{self.name}"

    def as_json(self) -> dict[str, Any]:
        """For the store."""
        return asdict(self)

    @classmethod
    def of(cls, record: dict[str, Any]) -> Instance:
        """From the store."""
        return cls(**record)
