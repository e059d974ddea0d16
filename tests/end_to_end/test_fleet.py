"""The whole product at work: one stack from `up` to nothing left. The tests run in their order, on one fleet."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import Any, Self

import psutil
import pytest
import requests

from tests.end_to_end.fleet import Sandbox, until
from tools.demo import labelled_photos

pytestmark = [pytest.mark.servers, pytest.mark.slow]


def ask(endpoint: str, photo: Path) -> requests.Response:
    body = json.dumps({"instances": [{"b64": base64.b64encode(photo.read_bytes()).decode()}]})
    headers = {"content-type": "application/x-www-form-urlencoded"}
    return requests.post(f"{endpoint}/v1/models/default:predict", data=body, headers=headers, timeout=30)


class Load:
    """Requests one after another in a thread, until it is left; keeps every answer that was not 200."""

    def __init__(self, endpoint: str, photo: Path) -> None:
        self._endpoint = endpoint
        self._photo = photo
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.sent = 0
        self.failures: list[str] = []
        self.keys: set[str] = set()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(0.05):
            self.sent += 1
            try:
                answer = ask(self._endpoint, self._photo)
            except requests.RequestException as error:
                self.failures.append(str(error))
                continue
            self.keys.add(answer.headers.get("x-model-key", ""))
            if answer.status_code != requests.codes.ok:
                self.failures.append(f"{answer.status_code} {answer.text[:200]}")


def vms(fleet: Sandbox) -> list[dict[str, Any]]:
    (group,) = fleet.status()["groups"]
    found: list[dict[str, Any]] = group["vms"]
    return found


def test_photos_get_their_labels(fleet: Sandbox) -> None:
    photos = labelled_photos(5)
    answers = json.loads(fleet.client("predict", "--json", *(str(path) for path, _ in photos)).stdout)
    right = [answer["class"] == label for answer, (_, label) in zip(answers, photos, strict=True)]
    assert sum(right) >= 4, answers


def test_the_tutorials_curl_line_works(fleet: Sandbox, tmp_path: Path) -> None:
    photo, label = labelled_photos(1)[0]
    body = tmp_path / "out.json"
    body.write_text(json.dumps({"instances": [{"b64": base64.b64encode(photo.read_bytes()).decode()}]}))
    url = f"{fleet.outputs()['endpoint']}/v1/models/default:predict"
    done = subprocess.run(["curl", "-sS", "-X", "POST", url, "-d", f"@{body}"], check=True, capture_output=True)
    (prediction,) = json.loads(done.stdout)["predictions"]
    assert prediction["classes"] == label
    assert len(prediction["probabilities"]) == 1000


def test_nothing_moves_without_a_change(fleet: Sandbox) -> None:
    fleet.run("preview", "local", "--", "--expect-no-changes")


def test_both_vms_report_their_gpus(fleet: Sandbox) -> None:
    def both() -> bool:
        found = vms(fleet)
        return len(found) == 2 and all(vm["gpuUtilisationPercent"] is not None for vm in found)

    until("a point of the GPU metric from both VMs", both, 60)


def test_changed_serving_code_is_rolled_without_a_failed_request(fleet: Sandbox) -> None:
    before = fleet.outputs()
    with (fleet.program / "serving" / "canary.py").open("a") as source:
        source.write("\n# A comment.\n")
    photo, _ = labelled_photos(1)[0]
    with Load(before["endpoint"], photo) as load:
        fleet.run("up", "local")
    after = fleet.outputs()
    assert after["instanceTemplates"] != before["instanceTemplates"]
    assert after["modelKey"] == before["modelKey"]
    assert fleet.client("wait", "--timeout", "5").returncode == 0
    assert load.sent > 20
    assert load.failures == []


def test_a_corrupted_archive_is_never_served(fleet: Sandbox, artifact: Path) -> None:
    """The archive in the bucket is another than the manifest says: new VMs refuse it, old ones go on."""
    uri = fleet.outputs()["modelUri"]
    key = json.loads((artifact / "manifest.json").read_text())["key"]
    damaged = "gs://damaged-registry"
    fleet.operator("-c", COPY_DAMAGED, uri, damaged)
    photo, _ = labelled_photos(1)[0]
    with Load(fleet.outputs()["endpoint"], photo) as load:
        damaged_artifact = ("--config", f"model.artifact={damaged}/models/{key}/")
        up = fleet.run("up", "local", *damaged_artifact, "--config", "fleet.update.waitS=40", check=False)
    assert up.returncode != 0
    assert "is damaged" in up.stdout + up.stderr
    assert load.failures == []
    promised = json.loads((artifact / "manifest.json").read_text())["archive"]
    found = hashlib.sha256(flip_last_byte((artifact / promised["name"]).read_bytes())).hexdigest()
    refusing = [vm["name"] for vm in vms(fleet) if vm["health"] != "HEALTHY"]
    assert refusing
    for name in refusing:
        console = fleet.run("logs", name).stdout
        assert promised["sha256"] in console
        assert found in console
    fleet.run("up", "local", "--config", f"model.artifact={uri}", "--config", "fleet.update.waitS=600")


def flip_last_byte(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1])


COPY_DAMAGED = """
import sys
from google.cloud import storage
client = storage.Client()
source, target = sys.argv[1].removeprefix("gs://").partition("/")[::2], sys.argv[2].removeprefix("gs://")
bucket = client.create_bucket(target)
for blob in client.bucket(source[0]).list_blobs(prefix=source[1]):
    data = blob.download_as_bytes()
    if blob.name.endswith(".tar.gz"):
        data = data[:-1] + bytes([data[-1] ^ 1])
    bucket.blob(blob.name).upload_from_string(data)
"""


def test_a_killed_daemon_is_taken_over(fleet: Sandbox) -> None:
    endpoint, photo = fleet.outputs()["endpoint"], labelled_photos(1)[0][0]
    before = {vm["name"] for vm in vms(fleet)}
    os.kill(json.loads((fleet.state / "daemon.json").read_text())["pid"], signal.SIGKILL)
    fleet.run("up", "local")
    fleet.client("wait", "--timeout", "300")
    assert {vm["name"] for vm in vms(fleet)} == before
    assert ask(endpoint, photo).status_code == requests.codes.ok


def test_a_killed_vm_is_replaced(fleet: Sandbox) -> None:
    victim = vms(fleet)[0]["name"]
    for process in fleet.processes():
        try:
            if process.environ().get("SANDBOX_MACHINE", "").endswith(victim):
                process.kill()
        except psutil.NoSuchProcess:
            continue

    def replaced() -> bool:
        waited = fleet.client("wait", "--timeout", "5", check=False)
        return waited.returncode == 0

    until("the group repairs itself", replaced, 200)
    assert len(vms(fleet)) == 2


def test_without_any_triton_the_answer_is_503(fleet: Sandbox) -> None:
    endpoint, photo = fleet.outputs()["endpoint"], labelled_photos(1)[0][0]
    end = time.monotonic() + 60
    codes = set()
    while requests.codes.service_unavailable not in codes and time.monotonic() < end:
        for process in fleet.processes():
            try:
                if process.name().startswith("tritonserver"):
                    process.kill()
            except psutil.NoSuchProcess:
                continue
        codes.add(ask(endpoint, photo).status_code)
    assert requests.codes.service_unavailable in codes
    fleet.client("wait", "--timeout", "300")


def test_down_leaves_nothing(fleet: Sandbox) -> None:
    address = json.loads(fleet.client("outputs").stdout)["ipAddress"]
    block = ".".join(address.split(".")[:2]) + "."
    fleet.run("down")
    assert not fleet.state.exists()
    assert fleet.processes() == []
    listening = [str(c.laddr) for c in psutil.net_connections("tcp") if c.status == psutil.CONN_LISTEN]
    assert [address for address in listening if f"'{block}" in address] == []
