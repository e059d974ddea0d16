"""Resumable uploads: sessions on disk, so a client resumes across a restart of the daemon."""

from __future__ import annotations

import json
import re
import secrets
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sandbox.storage.errors import StorageError, bad_request

_IDENTITY = re.compile(r"[0-9a-f]{48}")
_RANGE = re.compile(r"bytes (?:(\d+)-(\d+)|\*)/(\d+|\*)")


@dataclass(frozen=True, slots=True)
class Session:
    """One resumable upload."""

    id: str
    bucket: str
    name: str
    email: str
    resource: dict[str, Any]
    query: dict[str, str]
    """Parameters of the request that opened it: its preconditions."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """Where a chunk belongs, from its Content-Range."""

    start: int | None
    """First byte; None for a question about progress (`bytes */N`)."""
    total: int | None
    """Size of the whole, once the client says it."""


class Sessions:
    """All open sessions: `<id>.json` and `<id>.part` in one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def open(self, bucket: str, name: str, email: str, resource: dict[str, Any], query: dict[str, str]) -> Session:
        """Begin an upload."""
        session = Session(secrets.token_hex(24), bucket, name, email, resource, query)
        self._folder.mkdir(parents=True, exist_ok=True)
        self.part(session).touch()
        (self._folder / f"{session.id}.json").write_text(json.dumps(asdict(session)))
        return session

    def find(self, identity: str) -> Session:
        """An open upload; raises StorageError (404)."""
        path = self._folder / f"{identity}.json"
        if not _IDENTITY.fullmatch(identity) or not path.is_file():
            raise StorageError(404, "notFound", "Upload session not found: start the upload again.")
        return Session(**json.loads(path.read_text()))

    def part(self, session: Session) -> Path:
        """The file with what has arrived."""
        return self._folder / f"{session.id}.part"

    def close(self, session: Session) -> None:
        """Forget an upload."""
        (self._folder / f"{session.id}.json").unlink(missing_ok=True)
        self.part(session).unlink(missing_ok=True)


def chunk(content_range: str | None, content_length: int | None) -> Chunk:
    """Read a Content-Range; without one the body is the whole. Raises StorageError (400)."""
    if content_range is None:
        return Chunk(0, content_length)
    match = _RANGE.fullmatch(content_range)
    if match is None:
        raise bad_request(f"Failed to parse Content-Range header: {content_range}")
    start, _, total = match.groups()
    return Chunk(int(start) if start is not None else None, int(total) if total != "*" else None)
