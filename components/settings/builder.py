"""`model.builder`: the VM that builds the model, and how long `pulumi up` waits for it."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field, ValidationInfo

from components.catalog import catalog
from components.settings.fleet import exact_container, exact_image, known_disk, known_gpu
from components.settings.section import Refusal, Section, refuse


def _machine_for_one_gpu(machine_type: str, info: ValidationInfo) -> str:
    if machine_type not in catalog().machine_types():
        allowed = ", ".join(catalog().machine_types())
        raise refuse(Refusal(machine_type, allowed, "choose a machine type that GPUs can be attached to"))
    gpu = catalog().gpus.get(info.data.get("gpu_type", ""))
    if gpu and catalog().machine_type(machine_type).vcpus > gpu.max_vcpus[1]:
        allowed = f"at most {gpu.max_vcpus[1]} vCPUs, as the builder has one GPU"
        raise refuse(Refusal(machine_type, allowed, "choose a smaller machine type"))
    return machine_type


def _zone_with_gpu(zone: str, info: ValidationInfo) -> str:
    gpu = catalog().gpus.get(info.data.get("gpu_type", ""))
    offered = [one for zones in gpu.zones.values() for one in zones] if gpu else [zone]
    if zone not in offered:
        raise refuse(Refusal(zone, ", ".join(offered), f"name a zone that has {info.data['gpu_type']}"))
    return zone


def _shorter_than_vm(deadline_s: int, info: ValidationInfo) -> int:
    longest = info.data.get("max_run_s")
    if longest is not None and deadline_s > longest:
        raise refuse(Refusal(deadline_s, f"at most maxRunS ({longest})", "lower it, or raise maxRunS"))
    return deadline_s


class BuilderSettings(Section):
    """A VM with one GPU that runs while a model is built. There is none where `model.artifact` names a ready model."""

    gpu_type: Annotated[str, AfterValidator(known_gpu)] = Field(
        default="nvidia-tesla-t4", description="accelerator type that plans are built on", examples=["nvidia-tesla-t4"]
    )
    machine_type: Annotated[str, AfterValidator(_machine_for_one_gpu)] = Field(
        default="n1-standard-8", description="machine type", examples=["n1-standard-8"]
    )
    zone: Annotated[str, AfterValidator(_zone_with_gpu)] | None = Field(
        default=None, description="zone of the VM; the first pool's first zone by default", examples=["us-central1-a"]
    )
    disk_size_gib: int = Field(default=100, ge=50, le=65536, description="boot disk in GiB", examples=[100])
    disk_type: Annotated[str, AfterValidator(known_disk)] = Field(
        default="pd-balanced", description="boot disk type", examples=["pd-balanced"]
    )
    image: Annotated[str, AfterValidator(exact_image)] | None = Field(
        default=None,
        description="boot image, exactly; the fleet's by default, if that is a stock image",
        examples=["projects/my-project/global/images/tensorrt-fleet-builder-20261101"],
    )
    container: Annotated[str, AfterValidator(exact_container)] = Field(
        default="nvcr.io/nvidia/tensorrt:25.08-py3",
        description="container that the build runs in, of the serving container's release",
        examples=["nvcr.io/nvidia/tensorrt:25.08-py3"],
    )
    max_run_s: int = Field(
        default=7200, ge=600, le=86400, description="seconds after which Compute Engine stops the VM", examples=[7200]
    )
    deadline_s: Annotated[int, AfterValidator(_shorter_than_vm)] = Field(
        default=5400, ge=60, le=86400, description="seconds that `pulumi up` waits for the artifact", examples=[5400]
    )
