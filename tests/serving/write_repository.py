"""Writes a Triton repository inside the serving environment: FOLDER ARTIFACT."""

from __future__ import annotations

import sys
from pathlib import Path

from artifact.folder import ArtifactFolder
from serving.repository import write_repository

write_repository(Path(sys.argv[1]), ArtifactFolder(Path(sys.argv[2])), [0], None)
