"""startup/serving.sh and install.sh, run by bash among stand-in commands that note how they were called."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path

import pytest

import contract
from tests.serving.stand_ins import FakeGoogle, command

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).parents[2]
CONTAINER = "nvcr.io/nvidia/tritonserver:25.08-py3"


def bundle() -> bytes:
    """A code bundle with the scripts and the lock."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name in ("startup/install.sh", "startup/serving.sh", "locks/serving.txt"):
            tar.add(REPOSITORY / name, name)
    return buffer.getvalue()


@dataclass
class Machine:
    """A VM's state folder and the commands on its PATH. `calls` is what they noted, a line a call."""

    state: Path
    bin: Path
    google: FakeGoogle
    log: Path

    def run(self, *argv: str) -> subprocess.CompletedProcess[str]:
        environment = {
            "PATH": f"{self.bin}:/usr/bin:/bin",
            "HOME": str(self.state),
            "STATE_DIRECTORY": str(self.state),
            "GCE_METADATA_HOST": self.google.address,
            "STORAGE_EMULATOR_HOST": self.google.url,
            "LOG": str(self.log),
            "FAKE": str(self.bin.parent),
        }
        return subprocess.run(["bash", *argv], env=environment, text=True, capture_output=True, timeout=60, check=False)

    def boot(self) -> subprocess.CompletedProcess[str]:
        """Run the startup script."""
        return self.run(str(REPOSITORY / "startup" / "serving.sh"))

    @property
    def calls(self) -> list[str]:
        return self.log.read_text().splitlines() if self.log.exists() else []

    def called(self, beginning: str) -> list[str]:
        """Calls that begin so."""
        return [call for call in self.calls if call.startswith(beginning)]


@pytest.fixture
def machine(tmp_path: Path, google: FakeGoogle) -> Machine:
    """A stock image with a driver and two GPUs; its bundle is in storage."""
    folder = tmp_path / "bin"
    note = 'echo "${0##*/} $*" >>"$LOG"'
    sleepless = {"sleep": ":"}
    scripts = sleepless | {
        "nvidia-smi": "printf 'GPU 0: T4\\nGPU 1: T4\\n'",
        "apt-get": f'{note}; case "$*" in *docker.io*) ln -sf docker-cli "$FAKE/bin/docker";; '
        '*toolkit*) ln -sf nvidia-ctk-cli "$FAKE/bin/nvidia-ctk";; esac',
        "docker-cli": 'echo "docker $*" >>"$LOG"; case "$1" in '
        "image) [[ -e $FAKE/built-${3##*:} ]];; "
        'build) cp "${@: -1}"/* "$FAKE"; touch "$FAKE/built-${3##*:}";; '
        "esac",
        "nvidia-ctk-cli": 'echo "nvidia-ctk $*" >>"$LOG"',
        "systemctl": f"{note}; if [[ $1 == is-active ]]; then [[ -e $FAKE/unit ]]; fi",
        "systemd-run": f'{note}; touch "$FAKE/unit"',
        "gpg": f"{note}; cat >/dev/null",
        "tee": f'{note}; cat >"$FAKE/source-list"',
    }
    for name, script in scripts.items():
        command(folder, name, script)
    command(
        folder,
        "curl",
        'case "$*" in *nvidia-container-toolkit.list*) echo "deb https://nvidia.github.io/x /";; *gpgkey*) echo key;; '
        '*) exec /usr/bin/curl "$@";; esac',
    )
    content = bundle()
    google.objects["inputs/code/serving.tar.gz"] = content
    google.metadata |= {
        "instance/service-accounts/default/token": '{"access_token":"t0ken","expires_in":3600,"token_type":"Bearer"}',
        f"instance/attributes/{contract.GPU_COUNT_KEY}": "2",
        f"instance/attributes/{contract.CODE_KEY}": "gs://inputs/code/serving.tar.gz",
        f"instance/attributes/{contract.CODE_SHA256_KEY}": hashlib.sha256(content).hexdigest(),
        f"instance/attributes/{contract.CONTAINER_KEY}": CONTAINER,
    }
    return Machine(tmp_path / "state", folder, google, tmp_path / "log")


def test_a_first_boot_ends_with_one_unit_that_serves(machine: Machine) -> None:
    result = machine.boot()
    assert result.returncode == 0, result.stdout + result.stderr
    code = machine.state / "code" / machine.google.metadata[f"instance/attributes/{contract.CODE_SHA256_KEY}"]
    assert (code / "startup" / "install.sh").is_file()
    (unit,) = machine.called("systemd-run")
    assert f"--unit={contract.SERVING_UNIT}" in unit
    for setting in ("After=docker.service", "Restart=always", "StartLimitIntervalSec=0"):
        assert f"--property={setting}" in unit
    image = (machine.state / "images" / "serving").read_text().strip()
    assert unit.endswith(f"{image} python3 -m serving")
    for option in (
        f"--volume {machine.state}:{machine.state}",
        f"--env STATE_DIRECTORY={machine.state}",
        f"--workdir {code}",
        "--network host",
        "--gpus all",
        f"--name {contract.SERVING_UNIT}",
    ):
        assert option in unit
    fetched = next(i for i, call in enumerate(machine.calls) if call.endswith("python3 -m serving fetch"))
    assert fetched < machine.calls.index(unit)
    ((_, headers, _),) = machine.google.requests
    assert headers["Authorization"] == "Bearer t0ken"


def test_the_container_gets_exactly_the_locked_wheels(machine: Machine) -> None:
    machine.boot()
    fake = machine.bin.parent
    lines = (fake / "Dockerfile").read_text().splitlines()
    assert lines[0] == f"FROM {CONTAINER}"
    assert "--require-hashes" in lines[-1]
    # Into the interpreter that runs them, and into no environment that would hide the container's own packages.
    assert lines[-1].startswith("RUN python3 -m pip install ")
    assert not any("venv" in line for line in lines)
    assert (fake / "requirements.txt").read_bytes() == (REPOSITORY / "locks" / "serving.txt").read_bytes()


def test_nvidias_packages_are_trusted_by_their_own_key_only(machine: Machine) -> None:
    machine.boot()
    keyring = machine.called("gpg")[0].split()[-1]
    assert f"[signed-by={keyring}]" in (machine.bin.parent / "source-list").read_text()
    assert machine.called("nvidia-ctk") == ["nvidia-ctk runtime configure --runtime=docker"]
    assert machine.called("systemctl restart docker")


def test_a_reboot_installs_and_builds_nothing_again(machine: Machine) -> None:
    machine.boot()
    machine.log.unlink()
    (machine.bin.parent / "unit").unlink()
    machine.google.requests.clear()
    result = machine.boot()
    assert result.returncode == 0, result.stdout + result.stderr
    assert machine.called("systemd-run")
    assert not [c for c in machine.calls if c.startswith(("apt-get", "docker build", "docker pull", "nvidia-ctk"))]
    assert not machine.google.requests, "the code is there already"


def test_a_second_run_beside_the_running_unit_does_nothing(machine: Machine) -> None:
    machine.boot()
    machine.log.unlink()
    assert machine.boot().returncode == 0
    assert machine.calls == [f"systemctl is-active --quiet {contract.SERVING_UNIT}"]


def test_a_new_container_gets_an_image_of_its_own(machine: Machine) -> None:
    machine.boot()
    first = (machine.state / "images" / "serving").read_text()
    machine.run(str(REPOSITORY / "startup" / "install.sh"), "serving", f"{CONTAINER}-next")
    assert (machine.state / "images" / "serving").read_text() != first


def test_the_image_is_named_by_container_and_lock_alone(machine: Machine) -> None:
    machine.boot()
    first = (machine.state / "images" / "serving").read_text()
    machine.state = machine.state.with_name("elsewhere")
    machine.run(str(REPOSITORY / "startup" / "install.sh"), "serving", CONTAINER)
    assert (machine.state / "images" / "serving").read_text() == first


def test_storage_that_refuses_at_first_is_asked_again(machine: Machine) -> None:
    machine.google.refusals = 3
    result = machine.boot()
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.count("trying again") == 3


def test_a_damaged_bundle_is_refused_naming_both_digests(machine: Machine) -> None:
    expected = machine.google.metadata[f"instance/attributes/{contract.CODE_SHA256_KEY}"]
    damaged = machine.google.objects["inputs/code/serving.tar.gz"] + b"\0"
    machine.google.objects["inputs/code/serving.tar.gz"] = damaged
    result = machine.boot()
    assert result.returncode == 1
    assert expected in result.stderr
    assert hashlib.sha256(damaged).hexdigest() in result.stderr
    assert not machine.called("systemd-run")
    assert not (machine.state / "code" / expected).exists()


def test_missing_metadata_is_named(machine: Machine) -> None:
    del machine.google.metadata[f"instance/attributes/{contract.CONTAINER_KEY}"]
    result = machine.boot()
    assert result.returncode != 0
    assert f"the metadata server has no attributes/{contract.CONTAINER_KEY}" in result.stderr
    assert not machine.called("systemd-run")


def test_a_failing_fetch_starts_no_unit(machine: Machine) -> None:
    machine.boot()
    (machine.bin.parent / "unit").unlink()
    machine.log.unlink()
    command(machine.bin, "docker-cli", 'case "$*" in *fetch) exit 1;; esac')
    assert machine.boot().returncode != 0
    assert not machine.called("systemd-run")


@pytest.mark.parametrize("arguments", [[], ["serving"], ["gardener", CONTAINER]])
def test_install_says_how_it_is_used(machine: Machine, arguments: list[str]) -> None:
    result = machine.run(str(REPOSITORY / "startup" / "install.sh"), *arguments)
    assert result.returncode == 2
    assert "usage: install.sh serving|builder CONTAINER" in result.stdout
    assert machine.calls == []


def test_the_scripts_use_the_contracts_names() -> None:
    script = (REPOSITORY / "startup" / "serving.sh").read_text()
    for name in (
        contract.GPU_COUNT_KEY,
        contract.CODE_KEY,
        contract.CODE_SHA256_KEY,
        contract.CONTAINER_KEY,
        contract.SERVING_UNIT,
    ):
        assert name in script


def test_shellcheck_finds_nothing() -> None:
    shellcheck = REPOSITORY / ".venv" / "bin" / "shellcheck"
    scripts = sorted(map(str, (REPOSITORY / "startup").glob("*.sh")))
    result = subprocess.run([shellcheck, *scripts], capture_output=True, text=True, check=False, env=dict(os.environ))
    assert result.returncode == 0, result.stdout
