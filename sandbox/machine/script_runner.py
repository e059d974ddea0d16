"""Runs a VM's startup or shutdown scripts as Google's guest agent does: the URL's first, then the metadata's own.

The exit status is logged and has no other effect. Wording: google_metadata_script_runner of the guest agent
(GoogleCloudPlatform/guest-agent).
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import quote, urlsplit

_RETRY_S = 0.2
_DEADLINE_S = 60.0


def main(arguments: list[str]) -> int:
    """`script_runner startup|shutdown`; always 0 unless the metadata server does not answer."""
    (event,) = arguments
    _say(f"Starting {event} scripts.")
    scripts: dict[str, bytes] = {}
    for key in (f"{event}-script-url", f"{event}-script"):
        value = _metadata(f"instance/attributes/{key}")
        if value is not None:
            scripts[key] = value
    if not scripts:
        _say(f"No {event} scripts to run.")
        return 0
    with tempfile.TemporaryDirectory(prefix="metadata-scripts") as folder:
        for key, value in scripts.items():
            _say(f"Found {key} in metadata.")
            try:
                content = _download(value.decode().strip()) if key.endswith("-url") else value
                _run(key, content, Path(folder))
            except (OSError, ValueError, subprocess.CalledProcessError) as error:
                _say(f'Script "{key}" failed with error: {_reason(error)}')
                continue
            _say(f"{key} exit status 0")
    _say(f"Finished running {event} scripts.")
    return 0


def _run(key: str, content: bytes, folder: Path) -> None:
    path = folder / key
    path.write_bytes(content)
    path.chmod(0o700)
    script = subprocess.Popen(["bash", "-c", str(path)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert script.stdout is not None  # noqa: S101 - a pipe was asked for
    for line in script.stdout:
        _say(f"{key}: {line.decode(errors='replace').rstrip()}")
    if script.wait() != 0:
        raise subprocess.CalledProcessError(script.returncode, key)


def _download(url: str) -> bytes:
    parts = urlsplit(url)
    if parts.scheme != "gs":
        raise ValueError(f"the sandbox's script runner fetches gs:// only, not {url}")
    storage = os.environ.get("STORAGE_EMULATOR_HOST", "https://storage.googleapis.com")
    token = json.loads(_metadata("instance/service-accounts/default/token") or b"{}").get("access_token", "")
    request = urllib.request.Request(  # noqa: S310 - the scheme is fixed above
        f"{storage}/storage/v1/b/{parts.netloc}/o/{quote(parts.path.lstrip('/'), safe='')}?alt=media",
        headers={"Authorization": f"Bearer {token}"} if token else {},
    )
    with urllib.request.urlopen(request, timeout=_DEADLINE_S) as answer:  # noqa: S310
        content: bytes = answer.read()
    return content


def _metadata(path: str) -> bytes | None:
    """A metadata value, or None where there is none; waits for a metadata server that is not up yet."""
    request = urllib.request.Request(
        f"http://{os.environ['GCE_METADATA_HOST']}/computeMetadata/v1/{path}", headers={"Metadata-Flavor": "Google"}
    )
    deadline = time.monotonic() + _DEADLINE_S
    while True:
        try:
            with urllib.request.urlopen(request, timeout=_DEADLINE_S) as answer:  # noqa: S310
                content: bytes = answer.read()
                return content
        except urllib.error.HTTPError as error:
            if error.code == 404:
                return None
            failure: OSError = error
        except OSError as error:
            failure = error
        if time.monotonic() > deadline:
            raise failure
        time.sleep(_RETRY_S)


def _reason(error: Exception) -> str:
    if isinstance(error, subprocess.CalledProcessError):
        status = error.returncode
        return f"exit status {status}" if status > 0 else f"signal: {-status}"
    return str(error)


def _say(text: str) -> None:
    print(text, flush=True)
