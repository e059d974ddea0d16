"""What the temporary VM installs from, carried in its metadata: so baking needs no bucket and the VM no account."""

from __future__ import annotations

import base64
import gzip
from pathlib import Path
from typing import Final

from client.errors import ClientError
from components.bundle import tar
from images.roles import Role

INSTALL_SCRIPT: Final = "startup/install.sh"
LIMIT: Final = 256 * 1024
"""Characters of one metadata value (Google Cloud, "About VM metadata", 2026-11)."""


def payload(repository: Path, role: Role) -> str:
    """Base64 of a tar.gz of install.sh and the role's lock, for the metadata.

    Raises:
        ClientError: it does not fit.
    """
    packed = gzip.compress(tar(repository, (INSTALL_SCRIPT, role.lock)), mtime=0)
    text = base64.b64encode(packed).decode()
    if len(text) > LIMIT:
        raise ClientError(
            f"{INSTALL_SCRIPT} and {role.lock} take {len(text)} characters of metadata, of {LIMIT}",
            f"Take wheels out of {role.lock}.",
        )
    return text
