"""The artifact's key: a pure function of all that its bytes depend on, so it is known before anything is built."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

BUILD_CODE = ("artifact", "model", "contract.py", "locks/model.txt")
"""What the model build runs, relative to the repository: a change here is a change of the artifact."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ArtifactInputs:
    """Everything that decides an artifact. Two builds with equal inputs are the same artifact."""

    source: str
    """`<kind>:<name>@<digest>` of the source model: a sha256, or the generation of a Cloud Storage object."""
    calibration: str
    """`<kind>:<name>@<digest>` of the calibration set."""
    interface: str
    """Canonical JSON of how the source is read: its signature, preprocessing and labels."""
    recipe: str
    """Canonical JSON of the recipe, with the runtime and the CPU graph's weight bits."""
    code: str
    """`code_digest` of the repository that builds it."""
    tensorrt: str
    """TensorRT version (or container) that builds plans and serves them; `none` for the CPU runtime."""
    gpu_type: str
    """Accelerator type that plans are built for; `none` for the CPU runtime."""

    def as_dict(self) -> dict[str, str]:
        """Inputs by camelCase name, as the manifest records them."""
        return {"gpuType" if name == "gpu_type" else name: value for name, value in asdict(self).items()}


def artifact_key(inputs: ArtifactInputs) -> str:
    """Twenty hexadecimal digits (80 bits) of the SHA-256 of the inputs' canonical JSON."""
    canonical = json.dumps(inputs.as_dict(), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:20]


def code_digest(repository: Path) -> str:
    """SHA-256 over path and content of every file in BUILD_CODE, in sorted order; caches are left out."""
    digest = hashlib.sha256()
    for path in build_code_files(repository):
        content = (repository / path).read_bytes()
        digest.update(f"{path.as_posix()}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()


def build_code_files(repository: Path) -> list[Path]:
    """Files of BUILD_CODE relative to `repository`, sorted."""
    found: list[Path] = []
    for entry in BUILD_CODE:
        path = repository / entry
        candidates = path.rglob("*") if path.is_dir() else (path,)
        found += [p.relative_to(repository) for p in candidates if p.is_file() and "__pycache__" not in p.parts]
    return sorted(found)
