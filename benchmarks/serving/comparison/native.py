"""`python -m benchmarks.serving.comparison.native FOLDER`: the TensorFlow model behind the artifact, for a peer."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from artifact.recipe import BuildRequest
from model.compare.runners import save_native
from model.source.models import prepare_source


def main() -> None:
    """Write it."""
    with tempfile.TemporaryDirectory() as folder:
        request = BuildRequest(source="builtin:efficientnet-lite0")
        save_native(prepare_source(request, Path(folder, "source")).frozen, Path(sys.argv[1]))


if __name__ == "__main__":
    main()
