"""A stand-in for Google's APIs and for the Pulumi CLI, so that the real client code runs from argv to output."""

from __future__ import annotations

import json
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from client.__main__ import main
from tests.client.google_fake import GoogleFake, default_outputs
from tests.client.model_fake import ModelFake
from tests.client.server import BackgroundServer

Run = Callable[..., "Outcome"]


class Outcome:
    """What a command left behind."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err


@pytest.fixture(scope="session")
def service_account_key() -> str:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


@pytest.fixture
def google(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, service_account_key: str) -> Iterator[GoogleFake]:
    """Google's APIs on loopback, with the client's credentials and endpoints pointing there."""
    fake = GoogleFake()
    with BackgroundServer(fake.application()) as server:
        credentials = tmp_path / "key.json"
        credentials.write_text(
            json.dumps(
                {
                    "type": "service_account",
                    "project_id": "my-project",
                    "private_key_id": "1",
                    "private_key": service_account_key,
                    "client_email": "operator@my-project.iam.gserviceaccount.com",
                    "client_id": "1",
                    "token_uri": f"{server.url}/token",
                }
            )
        )
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(credentials))
        monkeypatch.setenv("GOOGLE_COMPUTE_CUSTOM_ENDPOINT", f"{server.url}/compute/v1/")
        monkeypatch.setenv("GOOGLE_MONITORING_CUSTOM_ENDPOINT", server.url)
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", server.url)
        monkeypatch.setenv("NO_GCE_CHECK", "true")
        yield fake


@pytest.fixture
def pulumi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Pulumi CLI that answers from the files of this folder, and notes its calls in `calls`."""
    folder = tmp_path / "pulumi"
    folder.mkdir()
    (folder / "outputs.json").write_text(json.dumps(default_outputs()))
    (folder / "version").write_text("v3.259.0\n")
    (folder / "stacks.json").write_text(json.dumps([{"name": "blue", "current": True, "resourceCount": 49}]))
    cli = folder / "pulumi"
    cli.write_text(
        f"#!{sys.executable}\n"
        "import pathlib, sys\n"
        f"folder = pathlib.Path({str(folder)!r})\n"
        "with (folder / 'calls').open('a') as calls: print(*sys.argv[1:], file=calls)\n"
        "if (folder / 'error').exists(): sys.exit((folder / 'error').read_text())\n"
        "command = ' '.join(sys.argv[1:3])\n"
        "if command == 'stack output': print((folder / 'outputs.json').read_text())\n"
        "elif command == 'stack ls': print((folder / 'stacks.json').read_text())\n"
        "elif command == 'config get': print('my-project')\n"
        "elif sys.argv[1] == 'version': print((folder / 'version').read_text(), end='')\n"
        "else: sys.exit('error: unknown command ' + command)\n"
    )
    cli.chmod(cli.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(folder), prepend=":")
    monkeypatch.delenv("PULUMI_STACK", raising=False)
    return folder


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run `python -m client ARGUMENTS` in this process."""

    def run_client(*arguments: str) -> Outcome:
        code = main(arguments)
        captured = capsys.readouterr()
        return Outcome(code, captured.out, captured.err)

    return run_client


@pytest.fixture
def model() -> Iterator[ModelFake]:
    """A fleet's HTTP API; its address is `model.url`."""
    fake = ModelFake()
    with BackgroundServer(fake.application()) as server:
        fake.url = server.url
        yield fake
