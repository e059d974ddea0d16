"""A VM on which no plan fits: it says that it builds its own, in its health, log and metrics; or that it cannot."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

import contract
from artifact.folder import ArtifactFolder, dump
from artifact.manifest import MANIFEST_FILE
from tests.model.tiny import write_tiny_artifact
from tests.serving.stand_ins import command

pytestmark = pytest.mark.servers

REPOSITORY = Path(__file__).parents[2]
SERVING_BIN = REPOSITORY / ".venv-serving" / "bin"
HOST = "127.205.9.1"
START_DEADLINE_S = 40.0


class Vm:
    """A supervisor that serves an artifact without plans on a GPU that is not there; trtexec waits for `go`."""

    process: subprocess.Popen[bytes]

    def __init__(self, folder: Path) -> None:
        artifact = write_tiny_artifact(folder / "artifact")
        manifest = artifact.manifest.model_copy(update={"runtime": "tensorrt"})
        (artifact.path / MANIFEST_FILE).write_bytes(dump(manifest))
        self.artifact = ArtifactFolder(artifact.path)
        self.go = folder / "go"
        self.log = folder / "log"
        smi = 'case "$1" in -L) echo "GPU 0: NVIDIA L4";; *compute_cap*) echo 8.9;; *) echo "0, 37";; esac'
        command(folder / "bin", "nvidia-smi", smi)
        script = Path(__file__).with_name("trtexec.py")
        wait = f"while [[ ! -e {self.go} ]]; do sleep 0.05; done; export $(<{self.go})"
        command(folder / "bin", "trtexec", f'{wait}; exec {sys.executable} {script} "$@"')
        self._path = f"{folder / 'bin'}:{SERVING_BIN}:/usr/bin:/bin"

    def start(self) -> subprocess.Popen[bytes]:
        with self.log.open("w") as log:
            return subprocess.Popen(
                [SERVING_BIN / "python3", "-m", "serving", "--artifact", self.artifact.path, "--host", HOST],
                cwd=REPOSITORY,
                env={"PATH": self._path},
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def get(self, path: str, port: int = contract.API_PORT) -> tuple[int, str]:
        """Status and body; 0 where nobody answers."""
        try:
            with urllib.request.urlopen(f"http://{HOST}:{port}{path}", timeout=2) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def until(self, condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + START_DEADLINE_S
        while not condition():
            assert time.monotonic() < deadline, f"waited for {what}; log:\n{self.log.read_text()[-3000:]}"
            time.sleep(0.05)

    def events(self, message: str) -> list[dict[str, object]]:
        lines = (json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{"))
        return [line for line in lines if line.get("message") == message]


@pytest.fixture
def vm(tmp_path: Path) -> Iterator[Vm]:
    made = Vm(tmp_path)
    made.process = process = made.start()
    try:
        yield made
    finally:
        made.go.touch()
        process.terminate()
        try:
            process.wait(20)
        finally:
            process.kill()


def test_it_says_that_it_builds_and_then_how_many_it_built(vm: Vm) -> None:
    vm.until(lambda: "building TensorRT plan 1 of 2 here" in vm.get(contract.MODEL_PATH)[1], "the reason in health")
    status, body = vm.get(contract.MODEL_PATH)
    assert status == 503
    assert "this VM has compute capability 8.9" in body
    assert "serving_plans_built_here 0.0" in vm.get("/metrics", contract.METRICS_PORT)[1]
    vm.go.write_text("A=1")
    vm.until(
        lambda: "serving_plans_built_here 2.0" in vm.get("/metrics", contract.METRICS_PORT)[1],
        "the metric of two plans",
    )
    assert len(vm.events("built a TensorRT plan on this VM")) == 2
    # Triton starts only now, and the wheel's has no backend for what it is given.
    vm.until(lambda: bool(vm.events("cannot load a model")), "Triton's refusal")
    assert "backend 'tensorrt'" in str(vm.events("cannot load a model")[0]["error"])


def test_where_it_cannot_build_it_gives_up_with_the_reason(vm: Vm) -> None:
    vm.go.write_text("STAND_IN_FAILS=1")
    vm.until(lambda: "OutOfMemory" in vm.get(contract.LIVENESS_PATH)[1], "the reason in liveness")
    status, body = vm.get(contract.LIVENESS_PATH)
    assert status == 503
    assert "trtexec failed with 1" in body
    assert vm.get(contract.MODEL_PATH)[0] == 503


def test_a_signal_ends_it_and_trtexec_while_it_builds(vm: Vm) -> None:
    def builders() -> list[psutil.Process]:
        children = psutil.Process(vm.process.pid).children()
        return [child for child in children if "--saveEngine" in " ".join(child.cmdline())]

    vm.until(lambda: len(builders()) == 1, "trtexec")
    (builder,) = builders()
    vm.process.terminate()
    assert vm.process.wait(20) == 0
    psutil.wait_procs([builder], 5)
    assert not builder.is_running()
