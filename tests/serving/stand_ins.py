"""Stand-ins for what a VM talks to: the metadata server, Cloud Monitoring and Cloud Storage, on loopback addresses."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from serving.metadata import MetadataServer


@dataclass
class FakeGoogle:
    """Answers on one address; tests set `metadata` and `objects` and read what was written."""

    address: str = ""
    metadata: dict[str, str] = field(default_factory=dict)
    objects: dict[str, bytes] = field(default_factory=dict)
    """`bucket/object` -> content."""
    refusals: int = 0
    """Storage and Monitoring requests to refuse with 403 before the rest is answered."""
    requests: list[tuple[str, dict[str, str], Any]] = field(default_factory=list)
    """Path, headers and body of every Storage and Monitoring request."""
    uploads: dict[str, Any] = field(default_factory=dict)
    """JSON of objects that were created, by name."""
    etags: list[str] = field(default_factory=list)
    """What those who waited for a change said they knew."""
    changed: threading.Condition = field(default_factory=threading.Condition)

    @property
    def url(self) -> str:
        return f"http://{self.address}"

    @property
    def server(self) -> MetadataServer:
        return MetadataServer(self.address)

    def set(self, path: str, value: str) -> None:
        """Change metadata; whoever waits for it is told."""
        with self.changed:
            self.metadata[path] = value
            self.changed.notify_all()

    def written(self) -> list[Any]:
        """Bodies of the points that Monitoring was given."""
        return [body for path, _, body in self.requests if path.endswith("/timeSeries")]


@contextmanager
def fake_google(host: str = "127.0.0.1", port: int = 0) -> Iterator[FakeGoogle]:
    """Serve a FakeGoogle from threads."""
    google = FakeGoogle()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            pass

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            path = parts.path
            if path.startswith("/computeMetadata/v1/"):
                if self.headers["Metadata-Flavor"] != "Google":
                    self._answer(403, b"")
                    return
                query = parse_qs(parts.query)
                if query.get("wait_for_change") == ["true"]:
                    self._wait(path, query["last_etag"][0], float(query["timeout_sec"][0]))
                value = google.metadata.get(path.removeprefix("/computeMetadata/v1/"))
                self._answer(404 if value is None else 200, (value or "").encode())
            else:
                self._google(None)

        def do_POST(self) -> None:
            self._google(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

        def _google(self, body: Any) -> None:
            google.requests.append((urlsplit(self.path).path, dict(self.headers), body))
            if google.refusals:
                google.refusals -= 1
                self._answer(403, b'{"error": {"message": "no permission yet"}}')
                return
            if body is not None:
                query = parse_qs(urlsplit(self.path).query)
                if "uploadType" in query:
                    assert query["ifGenerationMatch"] == ["0"], "no object may be written twice"
                    google.uploads[query["name"][0]] = body
                self._answer(200, b"{}")
                return
            _, _, rest = urlsplit(self.path).path.partition("/storage/v1/b/")
            bucket, _, name = rest.partition("/o/")
            content = google.objects.get(f"{bucket}/{name.replace('%2F', '/')}")
            self._answer(404 if content is None else 200, content or b"")

        def _wait(self, path: str, etag: str, seconds: float) -> None:
            key = path.removeprefix("/computeMetadata/v1/")
            google.etags.append(etag)
            with google.changed:
                google.changed.wait_for(lambda: etag_of(google.metadata.get(key, "")) != etag, min(seconds, 30))

        def _answer(self, code: int, body: bytes) -> None:
            self.send_response(code)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("ETag", etag_of(body.decode(errors="replace")))
            self.end_headers()
            self.wfile.write(body)

    server = ThreadingHTTPServer((host, port), Handler)
    server.daemon_threads = True
    google.address = f"{host}:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield google
    finally:
        server.shutdown()
        server.server_close()


def etag_of(value: str) -> str:
    """The metadata server's ETag of a value."""
    return hashlib.sha256(value.encode()).hexdigest()[:16]


@pytest.fixture
def google() -> Iterator[FakeGoogle]:
    """A fresh one."""
    with fake_google() as made:
        yield made


def command(folder: Path, name: str, script: str) -> None:
    """Put a stand-in command into a PATH folder."""
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/bash\n{script}\n")
    path.chmod(0o755)
