"""Get the artifact that the VM's metadata names, verified, onto its disk."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from artifact import repository
from artifact.errors import ArtifactUnavailableError
from serving.metadata import MetadataServer
from serving.settings import artifact_uri, state_folder

_log = logging.getLogger(__name__)

PATIENCE_S: Final = 600.0
"""New IAM bindings take minutes to work, and a VM may be up before them: 403 is no verdict until then."""
FIRST_PAUSE_S: Final = 1.0
LONGEST_PAUSE_S: Final = 20.0


def fetch(
    server: MetadataServer, *, clock: Callable[[], float] = time.monotonic, sleep: Callable[[float], None] = time.sleep
) -> Path:
    """Download the artifact into the state folder; its folder. What storage withholds is asked for again, ten minutes.

    Raises:
        ArtifactError: it is damaged, which asking again does not mend, or it cannot be had.
        MetadataError: the VM's metadata names none.
    """
    uri = artifact_uri(server)
    deadline = clock() + PATIENCE_S
    pause = FIRST_PAUSE_S
    while True:
        try:
            folder = repository.fetch(uri, state_folder() / "models")
        except ArtifactUnavailableError as error:
            if clock() + pause > deadline:
                raise
            _log.warning("the artifact cannot be had yet", extra={"error": str(error), "again_in_s": pause})
            sleep(pause)
            pause = min(LONGEST_PAUSE_S, 2 * pause)
        else:
            _log.info("fetched the artifact", extra={"uri": str(uri), "folder": str(folder.path)})
            return folder.path
