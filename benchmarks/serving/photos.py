"""What the benchmarks serve and send: the built-in model, and request bodies with one photo each."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from pathlib import Path

from benchmarks.serving.vm import ROOT
from model.source.photos import evaluation_photos

DEFAULT_ARTIFACT = ROOT / ".cache" / "artifact"


def artifact_of(source: str, folder: Path, weight_bits: int | None = None) -> Path:
    """Build a model's artifact for CPUs, unless the folder has it; takes minutes the first time.

    `weight_bits` are those of the CPU graph; None: the recipe's.
    """
    build = [sys.executable, "-m", "model", "build", "--source", source, "--out", str(folder)]
    build += [] if weight_bits is None else ["--cpu-weight-bits", str(weight_bits)]
    subprocess.run([*build, "--runtime", "onnxruntime-cpu", "--quiet"], cwd=ROOT, check=True, stdout=sys.stderr)
    return folder


def write_bodies(folder: Path) -> list[Path]:
    """A JSON body in row form for each evaluation photo, as files."""
    paths = []
    for index, photo in enumerate(evaluation_photos()):
        encoded = base64.b64encode(photo.path.read_bytes()).decode()
        path = folder / f"{index}.json"
        path.write_text(json.dumps({"instances": [{"b64": encoded}]}))
        paths.append(path)
    return paths
