"""Photos that PyPI packages carry: unlabelled ones to calibrate on, labelled ones to evaluate on.

The packages do not say under which licences the photos may be passed on, so they are read where they are installed and
never copied into an artifact.
"""

from __future__ import annotations

import importlib.util
import re
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class LabelledPhoto:
    """An encoded photo and the index of its ImageNet class."""

    path: Path
    label: int


def calibration_photos() -> tuple[Path, ...]:
    """100 unlabelled JPEGs, 512 x 512, of the package ai-benchmark, in the order of their numbers."""
    folder = _package_folder("ai_benchmark") / "data" / "classification"
    photos = sorted(folder.glob("*.jpg"), key=lambda path: int(path.stem))
    if not photos:
        raise FileNotFoundError(f"no photos in {folder}: install locks/model.txt again")
    return tuple(photos)


def evaluation_photos() -> tuple[LabelledPhoto, ...]:
    """20 JPEGs of ImageNet's validation set, of the package foolbox; the class is in the file's name."""
    folder = _package_folder("foolbox") / "data"
    named = re.compile(r"imagenet_\d+_(\d+)\.jpg")
    matches = ((path, named.fullmatch(path.name)) for path in sorted(folder.glob("imagenet_*.jpg")))
    photos = tuple(LabelledPhoto(path, int(match[1])) for path, match in matches if match)
    if not photos:
        raise FileNotFoundError(f"no photos in {folder}: install locks/model.txt again")
    return photos


def _package_folder(name: str) -> Path:
    # Found, not imported: both packages import deep-learning frameworks that the build does not need.
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(f"the package {name} is not installed: install locks/model.txt", name=name)
    return Path(spec.submodule_search_locations[0])
