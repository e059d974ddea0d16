"""Names of a model's classes, a line each."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from artifact.builtin import BUILTIN
from model.errors import BuildError
from model.source.fetch import fetch

_ASSET: Final = Path("assets", "labels.txt")


def read_labels(labels: str, folder: Path, saved_model: Path | None, patience_s: float = 0.0) -> tuple[str, ...]:
    """Labels as the setting `model.labels` says: `builtin`, a path, `gs://...`; empty: the SavedModel's own, if any.

    `folder` takes what must be downloaded. A SavedModel's own are its asset `labels.txt`.

    Raises:
        BuildError: they cannot be had, or are no text with one name a line.
    """
    if labels == BUILTIN:
        from model.source import efficientnet_lite0  # noqa: PLC0415 - imports the checkpoint's reader

        return efficientnet_lite0.labels()
    path = fetch(labels, folder, patience_s) if labels else saved_model / _ASSET if saved_model else None
    if path is None or not path.is_file():
        return ()
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise BuildError(f"the labels in {path.name} are no UTF-8 text: {error}") from error
    while lines and not lines[-1].strip():
        lines.pop()
    if empty := [number for number, line in enumerate(lines, 1) if not line.strip()]:
        raise BuildError(f"line {empty[0]} of the labels in {path.name} is empty: give one name a class, a line each")
    return tuple(line.strip() for line in lines)
