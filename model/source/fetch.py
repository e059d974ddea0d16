"""From an address to files on disk: a SavedModel's folder, a frozen graph, photos, tensors or labels."""

from __future__ import annotations

import shutil
import tarfile
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Final

from artifact.errors import ArtifactError, ArtifactUnavailableError
from artifact.source import TAR_SUFFIXES, StoredObject, is_stored
from artifact.storage import download
from model.errors import BuildError

FIRST_PAUSE_S: Final = 1.0
LONGEST_PAUSE_S: Final = 20.0


def fetch(address: str, folder: Path, patience_s: float = 0.0, sleep: Callable[[float], None] = time.sleep) -> Path:
    """The file or folder at an address: a path is itself, an object is downloaded, a tar unpacked below `folder`.

    What storage withholds is asked for again for `patience_s`: new IAM bindings take minutes to work.

    Raises:
        BuildError: it cannot be had, is another version than the one named, or no readable tar.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = _downloaded(address, folder, patience_s, sleep) if is_stored(address) else Path(address).expanduser()
    if not path.exists():
        raise BuildError(f"{address} does not exist")
    return _unpacked(path, folder / "unpacked") if path.name.lower().endswith(TAR_SUFFIXES) else path


def _downloaded(address: str, folder: Path, patience_s: float, sleep: Callable[[float], None]) -> Path:
    try:
        stored = StoredObject.parse(address)
    except ValueError as error:
        raise BuildError(str(error)) from error
    target = folder / Path(stored.name).name
    waited, pause = 0.0, FIRST_PAUSE_S
    while True:
        try:
            download(stored, target)
        except ArtifactUnavailableError as error:
            if waited + pause > patience_s:
                raise BuildError(str(error)) from error
            sleep(pause)
            waited, pause = waited + pause, min(LONGEST_PAUSE_S, 2 * pause)
        except ArtifactError as error:
            raise BuildError(str(error)) from error
        else:
            return target


def _unpacked(path: Path, folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        with tarfile.open(path) as tar:
            # Refuses members that would leave the folder, links out of it, and devices.
            tar.extractall(folder, filter="data")
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        what = " ".join(str(error).split())
        raise BuildError(f"{path.name} is no readable tar: {what}") from error
    return folder
