"""`manifest.json`: written last into an artifact's folder; its presence means that the artifact is complete."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

MANIFEST_FILE = "manifest.json"

Runtime = Literal["tensorrt", "onnxruntime-cpu"]
Precision = Literal["int8", "fp16", "fp32", "int8-cpu"]
Weights = Literal["trained", "random"]


class _Schema(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, alias_generator=to_camel, populate_by_name=True)


class FileEntry(_Schema):
    """Digest and size of one file."""

    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    size: int = Field(ge=0)


class Archive(FileEntry):
    """The content-named archive beside the manifest."""

    name: str = Field(pattern=r"^model-[0-9a-f]{64}\.tar\.gz$")


class Plan(_Schema):
    """TensorRT plans built for one GPU architecture by one TensorRT version."""

    gpu: str
    compute_capability: str
    tensorrt: str
    folder: str
    """Folder inside the archive: `plans/<gpu>-sm<cc>-trt<version>`; files are `<precision>.<image|tensor>.plan`."""
    profiles: tuple[tuple[int, int, int], ...] = ()
    """Smallest, best and greatest batch of each optimisation profile, by its index."""


class GateResult(_Schema):
    """One accuracy gate: what was measured against which threshold, in the same unit."""

    name: str
    value: float
    threshold: float
    passed: bool


class Accuracy(_Schema):
    """Of one quantised graph against FP32, in ONNX Runtime on a CPU."""

    graph: Precision
    evaluated_images: int
    """Crops of photos, or rows of tensors, each answered by a graph whose calibration had not seen it."""
    photos: int = 0
    """That the images were cut from."""
    folds: int = 0
    """Graphs that answered in turn, each calibrated without its photos; 0: the artifact's own graph, on its own."""
    agreement: float | None = None
    """Share of images with the same top-1 as FP32; None where the model is no classifier."""
    agreement_interval: tuple[float, float] | None = None
    """95 % of the share, from resampling photos."""
    sqnr_db: float
    """Signal to quantisation noise of centred logits, or of another output, in dB, on the worst output."""
    worst_output: str = ""
    final_sqnr_db: float | None = None
    """Of the artifact's own graph, on the photos that its calibration has not seen; on those it has where all are."""
    top1: float | None = None
    """Share of labelled images whose top-1 is the label, by the artifact's own graph; None without labels."""
    top5: float | None = None
    top1_fp32: float | None = None
    top5_fp32: float | None = None
    jpeg_agreement: float | None = None
    """Share of photos with the top-1 of the original signature, encoded photos in; None where it takes no photos."""
    flips: tuple[str, ...] = ()
    """Those that it answers otherwise, widest margin first."""
    equalised: bool = False
    """Weight ranges were spread over the channels of consecutive layers."""
    bias_corrected: bool = False
    kept_float: tuple[str, ...] = ()
    """Layers that a repair left unquantised, most sensitive first."""
    gates: tuple[GateResult, ...] = ()


class SpeedRow(_Schema):
    """Throughput of one precision at one batch size on the build machine."""

    precision: str
    runtime: str
    batch: int
    images_per_s: float
    repetitions: int


class Manifest(_Schema):
    """The whole of manifest.json."""

    schema_version: Literal[1] = 1
    key: str
    runtime: Runtime
    """What serving runs the graphs on. `onnxruntime-cpu` artifacts hold no TensorRT plans."""
    weights: Weights = "trained"
    """`random` for a model of which only the structure is real: its answers mean nothing and pass no accuracy gate."""
    inputs: dict[str, str]
    """Everything that the key was made from, by name (artifact.key.ArtifactInputs)."""
    tools: dict[str, str]
    """Versions of the libraries that built it, and the machine class."""
    archive: Archive
    files: dict[str, FileEntry]
    """Every file of the archive by its path in it."""
    precisions: tuple[Precision, ...]
    plans: tuple[Plan, ...] = ()
    accuracy: tuple[Accuracy, ...] = ()
    speed: tuple[SpeedRow, ...] = ()
    run: str
    """The build run that made it: `runs/<run>/` beside the manifest."""


def graph_path(precision: Precision, form: Literal["image", "tensor"]) -> str:
    """Path of a graph inside the archive."""
    return f"onnx/{precision}.{form}.onnx"
