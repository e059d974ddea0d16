"""What the machine host alone knows of a VM, kept beside the instance record."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field

from sandbox.machine.processes import ProcessId
from sandbox.store import Store

KIND = "machine"


@dataclass(slots=True, kw_only=True)
class MachineRecord:
    """Durable facts of one VM."""

    key: str
    pid: int = 0
    start_ticks: int = 0
    """With `pid`, its init."""
    stop_by: float = 0.0
    """Unix seconds at which a VM in STOPPING loses its power."""
    preempted: bool = False
    maintenance_event: str = "NONE"
    maintenance_at: float = 0.0
    """Unix seconds at which an announced host maintenance stops the VM; 0 without one."""
    guest_attributes: dict[str, dict[str, str]] = field(default_factory=dict)

    @property
    def process(self) -> ProcessId | None:
        """Its init, if one was started."""
        return ProcessId(self.pid, self.start_ticks) if self.pid else None

    @classmethod
    def load(cls, store: Store, key: str) -> MachineRecord:
        """Of the VM `key`; a fresh one where there is none."""
        record = store.get(KIND, key)
        return cls(**record) if record else cls(key=key)

    def save(self, store: Store) -> None:
        """Write it."""
        store.put(KIND, self.key, asdict(self))

    @classmethod
    def forget(cls, store: Store, key: str) -> None:
        """Remove it."""
        store.delete(KIND, key)
