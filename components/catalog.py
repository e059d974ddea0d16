"""What Google Cloud offers and asks for it: the dated data file, typed."""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

from pydantic import BaseModel, ConfigDict

CATALOG_FILE: Final = Path(__file__).parent / "data" / "catalog.toml"


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Price(_Entry):
    """USD for one unit, by how the VM is provisioned."""

    standard: float
    spot: float

    def of(self, *, spot: bool) -> float:
        """The price that applies."""
        return self.spot if spot else self.standard


class Gpu(_Entry):
    """An accelerator type."""

    quota: str
    spot_quota: str
    max_vcpus: dict[int, int]
    """Most vCPUs of a VM, by the number of GPUs attached to it; the keys are the counts that can be attached."""
    zones: dict[str, tuple[str, ...]]
    """Zones that have it, by region."""
    usd_per_hour: dict[str, Price]


class MachineFamily(_Entry):
    """Machine types `<family>-<vCPUs>`."""

    vcpus: tuple[int, ...]
    cpu_platforms: tuple[str, ...]
    usd_per_vcpu_hour: dict[str, Price]


class Disk(_Entry):
    """A persistent disk type."""

    usd_per_gib_month: float
    quota: str


class LoadBalancing(_Entry):
    """Forwarding rules; traffic is not priced here."""

    usd_per_hour: float


class Images(_Entry):
    """Public images."""

    stock_projects: tuple[str, ...]


class MachineType(NamedTuple):
    """A machine type taken apart."""

    family: str
    vcpus: int


class Catalog(_Entry):
    """The whole data file."""

    checked: str
    """Year and month in which the figures were looked up."""
    reference_region: str
    hours_per_month: int
    gpus: dict[str, Gpu]
    machines: dict[str, MachineFamily]
    disks: dict[str, Disk]
    load_balancing: LoadBalancing
    images: Images

    def machine_types(self) -> tuple[str, ...]:
        """Names of all machine types."""
        return tuple(f"{name}-{vcpus}" for name, family in self.machines.items() for vcpus in family.vcpus)

    def machine_type(self, name: str) -> MachineType:
        """Family and vCPUs of a machine type that `machine_types` lists."""
        family, _, vcpus = name.rpartition("-")
        return MachineType(family, int(vcpus))


@cache
def catalog() -> Catalog:
    """The data file, read once."""
    return Catalog.model_validate(tomllib.loads(CATALOG_FILE.read_text(encoding="utf-8")))
