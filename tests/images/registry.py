"""A container registry on loopback: the token flow, manifests by tag and digest, blobs by redirection."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

REPOSITORY = "nvidia/tritonserver"
TOKEN = "anonymous-token"  # noqa: S105 - it guards nothing
INDEX = "application/vnd.oci.image.index.v1+json"


@dataclass
class FakeRegistry:
    """What it holds, what was asked, and how it misbehaves."""

    port: int = 0
    manifests: dict[str, bytes] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    challenge: str = 'Bearer realm="http://127.0.0.1:{port}/proxy_auth",scope="repository:nvidia/tritonserver:pull"'
    refuse_tokens: bool = False
    told_digest: str | None = None

    @property
    def container(self) -> str:
        return f"127.0.0.1:{self.port}/{REPOSITORY}:25.08-py3"

    def publish(self, environment: list[str], labels: dict[str, str] | None = None, *, index: bool = True) -> str:
        """Make the tag name an image; the digest that it then has."""
        config = self._blob({"config": {"Env": environment, "Labels": labels}})
        image = self._manifest({"schemaVersion": 2, "config": {"digest": config}})
        if index:
            other = self._manifest({"schemaVersion": 2, "config": {"digest": "sha256:" + "0" * 64}})
            entries = [
                {"digest": other, "platform": {"os": "linux", "architecture": "arm64"}},
                {"digest": image, "platform": {"os": "linux", "architecture": "amd64"}},
            ]
            image = self._manifest({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries})
        self.manifests["25.08-py3"] = self.manifests[image]
        return image

    def _blob(self, value: dict[str, Any]) -> str:
        content = json.dumps(value).encode()
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        self.blobs[digest] = content
        return digest

    def _manifest(self, value: dict[str, Any]) -> str:
        content = json.dumps(value, indent=1).encode()
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        self.manifests[digest] = content
        return digest

    def answer(self, path: str, headers: Any) -> tuple[int, dict[str, str], bytes]:
        parts = urlsplit(path)
        self.asked.append(parts.path)
        if parts.path == "/proxy_auth":
            query = parse_qs(parts.query)
            if self.refuse_tokens or query != {"scope": [f"repository:{REPOSITORY}:pull"]}:
                return 403, {}, b"{}"
            return 200, {}, json.dumps({"token": TOKEN}).encode()
        if parts.path.startswith("/storage/"):
            # Where a redirection leads, a registry's token has no business only if the host is another one.
            return 200, {}, self.blobs[parts.path.removeprefix("/storage/")]
        if headers.get("Authorization") != f"Bearer {TOKEN}":
            return 401, {"WWW-Authenticate": self.challenge.format(port=self.port)}, b"<html>401</html>"
        kind, _, name = parts.path.removeprefix(f"/v2/{REPOSITORY}/").partition("/")
        if kind == "manifests" and name in self.manifests and INDEX in headers.get("Accept", ""):
            content = self.manifests[name]
            digest = self.told_digest or f"sha256:{hashlib.sha256(content).hexdigest()}"
            return 200, {"Docker-Content-Digest": digest, "Content-Type": "text/plain"}, content
        if kind == "blobs" and name in self.blobs:
            return 307, {"Location": f"/storage/{name}"}, b""
        return 404, {}, b'{"errors": []}'


@contextmanager
def running() -> Iterator[FakeRegistry]:
    registry = FakeRegistry()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, headers, body = registry.answer(self.path, self.headers)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        registry.port = server.server_port
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield registry
        finally:
            server.shutdown()
            thread.join()
