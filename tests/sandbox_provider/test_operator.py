from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from sandbox.folder import StateFolder
from sandbox.operator import as_shell, clean_environment, variables
from sandbox.settings import SandboxSettings


def test_nothing_that_leads_to_a_real_cloud_or_stack_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    leading = {
        "GOOGLE_APPLICATION_CREDENTIALS": "/key.json",
        "GOOGLE_CREDENTIALS": "{}",
        "GOOGLE_PROJECT": "real",
        "CLOUDSDK_CORE_PROJECT": "real",
        "PULUMI_ACCESS_TOKEN": "pul-1",
        "PULUMI_STACK": "prod",
        "PULUMI_BACKEND_URL": "https://api.pulumi.com",
        "STORAGE_EMULATOR_HOST": "http://elsewhere",
        "GCE_METADATA_HOST": "metadata.google.internal",
    }
    for name, value in leading.items():
        monkeypatch.setenv(name, value)
    assert leading.keys().isdisjoint(clean_environment())
    assert clean_environment()["HOME"] == os.environ["HOME"]


def test_every_endpoint_is_the_sandboxs(tmp_path: Path) -> None:
    settings = SandboxSettings(state=tmp_path, block=204)
    found = variables(StateFolder(tmp_path), settings, Path("/opt/cli/pulumi"), 4321)
    assert found["STORAGE_EMULATOR_HOST"] == "http://127.204.0.1:8078"
    assert found["GCE_METADATA_HOST"] == found["GCE_METADATA_IP"] == "127.204.0.1:8079"
    assert found["GOOGLE_COMPUTE_CUSTOM_ENDPOINT"] == "http://127.204.0.1:8077/compute/v1/"
    assert found["GOOGLE_MONITORING_CUSTOM_ENDPOINT"] == "http://127.204.0.1:8077"
    assert found["PULUMI_DEBUG_PROVIDERS"] == "gcp:4321"
    assert found["PULUMI_BACKEND_URL"] == f"file://{tmp_path}/pulumi?metadata=skip"
    assert found["PATH"].startswith("/opt/cli:")
    assert "127.204.0.1" in found["NO_PROXY"].split(",")


def test_the_printed_environment_is_what_a_shell_reads() -> None:
    text = as_shell({"A": "it's; $HOME", "B": "2"})
    shell = subprocess.run(["bash", "-c", f'{text}\nprintf %s "$A"'], capture_output=True, text=True, check=True)
    assert shell.stdout == "it's; $HOME"
