"""Compute Engine's metadata server, found by Google's own variables GCE_METADATA_HOST and GCE_METADATA_IP."""

from __future__ import annotations

import asyncio
import http.client
import json
import logging
import os
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

_log = logging.getLogger(__name__)

_DEFAULT_HOST: Final = "metadata.google.internal"
_TIMEOUT_S: Final = 5.0
_WATCH_S: Final = 60
"""The server ends a watch after this time even without change, so that a dead connection cannot hide one for long."""

_DIRECT: Final = urllib.request.build_opener(urllib.request.ProxyHandler({}))
"""A proxy of the environment is for the internet; the metadata server is the VM's own."""


class MetadataError(Exception):
    """The metadata server did not answer, or lacks a value that is needed."""


@dataclass(slots=True)
class _Token:
    value: str = ""
    expires: float = 0.0


@dataclass(frozen=True, slots=True)
class MetadataServer:
    """Blocking client of one VM's metadata server; `host` may carry a port."""

    host: str
    _token: _Token = field(default_factory=_Token, repr=False, compare=False)

    @classmethod
    def of_environment(cls, environment: Mapping[str, str] = os.environ) -> MetadataServer:
        """The VM's own, by GCE_METADATA_HOST as Google's libraries do."""
        return cls(environment.get("GCE_METADATA_HOST") or _DEFAULT_HOST)

    def get(self, path: str) -> str | None:
        """Value at `computeMetadata/v1/<path>`, or None where there is none.

        Raises:
            MetadataError: no answer, or an error other than 404.
        """
        found = self._get(path, _TIMEOUT_S)
        return found[0] if found else None

    def need(self, path: str) -> str:
        """Value at `path`.

        Raises:
            MetadataError: there is none.
        """
        value = self.get(path)
        if not value:
            raise MetadataError(f"metadata server {self.host} has no {path}")
        return value

    def attribute(self, key: str) -> str | None:
        """Custom metadata of the instance."""
        return self.get(f"instance/attributes/{key}")

    def need_attribute(self, key: str) -> str:
        """Custom metadata of the instance that must be there.

        Raises:
            MetadataError: it is not; the text names the key.
        """
        return self.need(f"instance/attributes/{key}")

    def access_token(self) -> str:
        """OAuth token of the VM's service account, kept until a minute before it expires."""
        if self._token.expires < time.monotonic():
            answer = json.loads(self.need("instance/service-accounts/default/token"))
            self._token.value = answer["access_token"]
            self._token.expires = time.monotonic() + max(0.0, answer["expires_in"] - 60)
        return self._token.value

    def watch(self, path: str, on_value: Callable[[str], None]) -> None:
        """Call `on_value` in the running event loop with the value at `path`, now and whenever it changes.

        Waits in a daemon thread: a long poll of a C library cannot be cancelled, and must not keep the process alive.
        """
        loop = asyncio.get_running_loop()
        threading.Thread(target=self._watch, args=(path, on_value, loop), name=f"watch {path}", daemon=True).start()

    def _watch(self, path: str, on_value: Callable[[str], None], loop: asyncio.AbstractEventLoop) -> None:
        known, etag = None, ""
        while not loop.is_closed():
            query = f"?wait_for_change=true&timeout_sec={_WATCH_S}&last_etag={etag}" if etag else ""
            try:
                found = self._get(path + query, _WATCH_S + _TIMEOUT_S)
            except MetadataError as error:
                _log.warning("cannot watch the metadata server", extra={"path": path, "error": str(error)})
                time.sleep(_TIMEOUT_S)
                continue
            if found is None:
                _log.warning("the metadata server has no such value; not watching it", extra={"path": path})
                return
            value, etag = found
            if value != known:
                known = value
                try:
                    loop.call_soon_threadsafe(on_value, value.strip())
                except RuntimeError:  # the loop was closed meanwhile: the process is ending
                    return
            elif not etag:
                time.sleep(_TIMEOUT_S)  # A server that cannot wait for changes is asked again and again.

    def _get(self, path: str, timeout_s: float) -> tuple[str, str] | None:
        """Value and ETag, or None where there is no such value."""
        request = urllib.request.Request(
            f"http://{self.host}/computeMetadata/v1/{path}", headers={"Metadata-Flavor": "Google"}
        )
        try:
            with _DIRECT.open(request, timeout=timeout_s) as answer:
                content: bytes = answer.read()
                return content.decode(), answer.headers.get("ETag") or ""
        except urllib.error.HTTPError as error:
            if error.code == http.HTTPStatus.NOT_FOUND:
                return None
            raise MetadataError(f"metadata server {self.host}: {path}: HTTP {error.code}") from error
        except (OSError, http.client.HTTPException) as error:
            raise MetadataError(f"metadata server {self.host}: {path}: {error}") from error
