"""startup/builder.sh, run by bash among stand-in commands that note how they were called."""

from __future__ import annotations

import hashlib
import io
import subprocess
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import contract
from artifact.recipe import BuildRequest
from artifact.run import LAST_SEQUENCE, RunStatus, is_status
from artifact.uri import ArtifactUri
from components.bundle import BUILDER_CODE, tar
from tests.serving.stand_ins import FakeGoogle, command, fake_google

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).parents[2]
SCRIPT = REPOSITORY / "startup" / "builder.sh"
CONTAINER = "nvcr.io/nvidia/tensorrt:25.08-py3"
URI = ArtifactUri.parse("gs://artifacts/team/models/0123456789abcdef0123/")
REQUEST = BuildRequest(source="builtin:smoke").model_dump_json()


def bundle() -> bytes:
    """A code bundle with what the script itself takes from it."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name in ("startup/install.sh", "locks/model.txt"):
            archive.add(REPOSITORY / name, name)
    return buffer.getvalue()


@dataclass
class Builder:
    """A builder VM's state folder and the commands on its PATH."""

    state: Path
    bin: Path
    google: FakeGoogle
    log: Path

    def boot(self, script: Path = SCRIPT) -> subprocess.CompletedProcess[str]:
        """Run the startup script."""
        environment = {
            "PATH": f"{self.bin}:/usr/bin:/bin",
            "HOME": str(self.state),
            "STATE_DIRECTORY": str(self.state),
            "GCE_METADATA_HOST": self.google.address,
            "STORAGE_EMULATOR_HOST": self.google.url,
            "LOG": str(self.log),
            "FAKE": str(self.bin.parent),
        }
        command_line = ["bash", str(script)]
        return subprocess.run(command_line, env=environment, text=True, capture_output=True, timeout=60, check=False)

    @property
    def calls(self) -> list[str]:
        return self.log.read_text().splitlines() if self.log.exists() else []

    def called(self, beginning: str) -> list[str]:
        return [call for call in self.calls if call.startswith(beginning)]

    def build_ends(self, status: int) -> None:
        """What `docker run ... python3 -m model build` returns."""
        (self.bin.parent / "status").write_text(str(status))

    @property
    def told(self) -> dict[int, RunStatus]:
        """Messages of the run by their number."""
        found = {}
        for name, body in self.google.uploads.items():
            assert is_status(name.removeprefix(URI.folder)), name
            status = RunStatus.model_validate(body)
            assert f"/{status.run}/" in name
            found[int(name.rpartition("/")[2].removesuffix(".json"))] = status
        return found


@pytest.fixture
def builder(tmp_path: Path) -> Iterator[Builder]:
    """A stock image with a driver and one GPU; its bundle is in storage."""
    folder = tmp_path / "bin"
    note = 'echo "${0##*/} $*" >>"$LOG"'
    scripts = {
        "sleep": ":",
        "nvidia-smi": "printf 'GPU 0: T4\\n'",
        "apt-get": f'{note}; case "$*" in *docker.io*) ln -sf docker-cli "$FAKE/bin/docker";; '
        '*toolkit*) ln -sf nvidia-ctk-cli "$FAKE/bin/nvidia-ctk";; esac',
        "docker-cli": 'echo "docker $*" >>"$LOG"; case "$1" in '
        "image) [[ -e $FAKE/built-${3##*:} ]];; "
        'build) touch "$FAKE/built-${3##*:}";; '
        'run) exit "$(cat "$FAKE/status")";; '
        "esac",
        "nvidia-ctk-cli": ":",
        "systemctl": ":",
        "gpg": "cat >/dev/null",
        "tee": "cat >/dev/null",
        "poweroff": note,
        "curl": 'case "$*" in *nvidia-container-toolkit.list*) echo deb;; *gpgkey*) echo key;; '
        '*) exec /usr/bin/curl "$@";; esac',
    }
    for name, script in scripts.items():
        command(folder, name, script)
    content = bundle()
    with fake_google() as google:
        google.objects["inputs/code/builder.tar.gz"] = content
        google.metadata |= {
            "instance/service-accounts/default/token": '{"access_token":"t0ken","expires_in":3600}',
            f"instance/attributes/{contract.GPU_COUNT_KEY}": "1",
            f"instance/attributes/{contract.ARTIFACT_KEY}": str(URI),
            f"instance/attributes/{contract.CODE_KEY}": "gs://inputs/code/builder.tar.gz",
            f"instance/attributes/{contract.CODE_SHA256_KEY}": hashlib.sha256(content).hexdigest(),
            f"instance/attributes/{contract.CONTAINER_KEY}": CONTAINER,
            f"instance/attributes/{contract.BUILD_REQUEST_KEY}": REQUEST,
        }
        made = Builder(tmp_path / "state", folder, google, tmp_path / "log")
        made.build_ends(0)
        yield made


def test_a_boot_builds_what_the_metadata_asks_for_and_powers_off(builder: Builder) -> None:
    result = builder.boot()
    assert result.returncode == 0, result.stdout + result.stderr
    (run,) = builder.called("docker run")
    state = builder.state
    code = state / "code" / builder.google.metadata[f"instance/attributes/{contract.CODE_SHA256_KEY}"]
    image = (state / "images" / "builder").read_text().strip()
    build = f"{image} python3 -m model build --out {state}/artifact --request {REQUEST} --publish {URI} --run "
    assert build in run
    for option in (
        f"--volume {state}:{state}",
        f"--workdir {code}",
        "--network host",
        "--gpus all",
        "--env TF_FORCE_GPU_ALLOW_GROWTH=true",
    ):
        assert option in run
    assert builder.calls[-1].startswith("poweroff")
    assert {number: status.state for number, status in builder.told.items()} == {0: "running"}
    assert run.endswith(f"--run {builder.told[0].run}")


def test_a_build_for_the_cpu_waits_for_no_gpu(builder: Builder) -> None:
    builder.google.metadata[f"instance/attributes/{contract.GPU_COUNT_KEY}"] = "0"
    command(builder.bin, "nvidia-smi", "exit 9")
    assert builder.boot().returncode == 0
    (run,) = builder.called("docker run")
    assert "--gpus" not in run


def test_a_published_artifact_is_not_built_again(builder: Builder) -> None:
    builder.google.objects[f"artifacts/{URI.object('manifest.json')}"] = b"{}"
    result = builder.boot()
    assert result.returncode == 0, result.stdout + result.stderr
    assert "built already" in result.stdout
    assert [call.split()[0] for call in builder.calls] == ["poweroff"]
    assert builder.told == {}


def test_a_build_that_has_said_why_it_failed_is_not_spoken_for(builder: Builder) -> None:
    builder.build_ends(1)
    assert builder.boot().returncode == 1
    assert builder.told.keys() == {0}
    assert builder.calls[-1].startswith("poweroff")


@pytest.mark.parametrize("status", [137, 125, 2])
def test_a_build_that_died_is_spoken_for(builder: Builder, status: int) -> None:
    builder.build_ends(status)
    result = builder.boot()
    assert result.returncode == 1
    last = builder.told[LAST_SEQUENCE]
    assert (last.state, last.error) == ("failed", f"the build ended with exit status {status}")
    assert last.error in result.stderr, "on the serial console, too"
    assert builder.calls[-1].startswith("poweroff")


def test_what_fails_before_the_build_is_told_in_one_line(builder: Builder) -> None:
    builder.google.objects["inputs/code/builder.tar.gz"] += b"\0"
    assert builder.boot().returncode == 1
    error = builder.told[LAST_SEQUENCE].error
    assert error.startswith("gs://inputs/code/builder.tar.gz is damaged: its SHA-256 is ")
    assert not builder.called("docker run")
    assert builder.calls[-1].startswith("poweroff")


def test_missing_metadata_is_told_although_it_is_missed_in_a_subshell(builder: Builder) -> None:
    del builder.google.metadata[f"instance/attributes/{contract.BUILD_REQUEST_KEY}"]
    assert builder.boot().returncode == 1
    assert builder.told[LAST_SEQUENCE].error == f"the metadata server has no attributes/{contract.BUILD_REQUEST_KEY}"


def test_missing_gpus_are_counted(builder: Builder) -> None:
    # `sleep` does nothing here, so the five minutes are cut short instead.
    script = SCRIPT.read_text().replace("SECONDS + 300", "SECONDS + 1")
    assert script != SCRIPT.read_text()
    short = builder.bin.parent / "builder.sh"
    short.write_text(script)
    command(builder.bin, "nvidia-smi", "exit 9")
    assert builder.boot(short).returncode == 1
    assert builder.told[LAST_SEQUENCE].error == "0 of 1 GPUs are visible after 300 s"


def test_bindings_that_do_not_work_yet_are_waited_for(builder: Builder) -> None:
    builder.google.refusals = 3
    result = builder.boot()
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.count("trying again") == 3


def test_a_failure_that_cannot_be_told_powers_off_all_the_same(builder: Builder) -> None:
    command(
        builder.bin,
        "curl",
        'case "$*" in *computeMetadata*) exec /usr/bin/curl "$@";; *upload*) exit 22;; *) echo 404;; esac',
    )
    assert builder.boot().returncode == 1
    assert builder.told == {}
    assert builder.calls[-1].startswith("poweroff")


def test_a_second_boot_begins_another_run_and_installs_nothing_again(builder: Builder) -> None:
    builder.build_ends(137)
    builder.boot()
    builder.log.unlink()
    builder.build_ends(0)
    assert builder.boot().returncode == 0
    assert not [call for call in builder.calls if call.startswith(("apt-get", "docker build", "docker pull"))]
    assert (
        len({status.run for _, status in builder.told.items()} | {run_of(name) for name in builder.google.uploads}) == 2
    )


def run_of(name: str) -> str:
    return name.split("/")[-2]


def test_the_script_uses_the_contracts_names() -> None:
    script = SCRIPT.read_text()
    for name, value in vars(contract).items():
        if name in {
            "ARTIFACT_KEY",
            "CODE_KEY",
            "CODE_SHA256_KEY",
            "CONTAINER_KEY",
            "GPU_COUNT_KEY",
            "BUILD_REQUEST_KEY",
        }:
            assert f"attributes/{value})" in script
    assert f"tell {LAST_SEQUENCE} failed" in script


def test_the_bundle_has_what_the_script_takes_from_it() -> None:
    with tarfile.open(fileobj=io.BytesIO(tar(REPOSITORY, BUILDER_CODE))) as archive:
        names = set(archive.getnames())
    assert {"startup/install.sh", "locks/model.txt", "model/__main__.py"} <= names
