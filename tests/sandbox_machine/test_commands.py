"""The stand-in commands by themselves: what they answer, and what they refuse by name."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

from sandbox.machine import image, internet
from sandbox.machine.commands import apt_get, curl, docker, gpg, nvidia_ctk, nvidia_smi, shutdown, tee
from sandbox.machine.docker import images
from sandbox.machine.docker.build import build
from sandbox.machine.docker.run import parse
from sandbox.machine.refusal import Refusal
from sandbox.machine.scratch import Scratch
from tests.sandbox_machine.machines import STOCK_IMAGE, TRITON

KEY = "us-central1-a/vm"


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scratch:
    """A VM's folder, with this process inside it."""
    monkeypatch.setenv("SANDBOX_STATE", str(tmp_path))
    monkeypatch.setenv("SANDBOX_MACHINE", KEY)
    scratch = Scratch.here()
    image.link_tools(tmp_path / "tools")
    image.lay_out(scratch, STOCK_IMAGE, 2, tmp_path / "tools")
    for folder in (scratch.run, scratch.disk):
        folder.mkdir()
    gpus = [{"index": 0, "utilization": 37}, {"index": 1, "utilization": 0}]
    document = {"simulated": True, "type": "nvidia-tesla-t4", "seed": "1", "gpus": gpus}
    scratch.gpus.write_text(json.dumps(document))
    return scratch


def commands(scratch: Scratch) -> set[str]:
    return {path.name for path in scratch.commands.iterdir()}


def feed(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))


def test_stock_image_has_a_driver_but_no_docker(scratch: Scratch) -> None:
    always = {"apt-get", "curl", "gpg", "hostname", "poweroff", "shutdown", "systemctl", "systemd-run", "tee"}
    assert commands(scratch) == always | {"nvidia-smi"}


@pytest.mark.parametrize(
    ("boot_image", "has"),
    [
        ("projects/ubuntu-os-cloud/global/images/ubuntu-2404", set()),
        ("projects/deeplearning-platform-release/global/images/x", {"docker", "nvidia-ctk", "nvidia-smi"}),
        ("projects/my-project/global/images/serving-20261124", {"docker", "nvidia-ctk", "nvidia-smi"}),
    ],
)
def test_image_decides_what_is_there(tmp_path: Path, boot_image: str, has: set[str]) -> None:
    scratch = Scratch(tmp_path / "vm")
    image.lay_out(scratch, boot_image, 1, tmp_path)
    assert {"docker", "nvidia-ctk", "nvidia-smi"} & commands(scratch) == has


def test_nothing_of_the_host_but_harmless_tools_is_on_the_path(tmp_path: Path) -> None:
    image.link_tools(tmp_path)
    found = {path.name for path in tmp_path.iterdir()}
    assert {"bash", "sed", "tar", "sha256sum"} <= found
    assert not {"docker", "apt-get", "systemctl", "curl", "reboot", "mount", "python3", "sudo", "tee"} & found


# --- Packages --------------------------------------------------------------------------------------------------------


def test_apt_get_installs_docker_and_then_it_is_there(scratch: Scratch) -> None:
    assert apt_get.main(["-y", "-q", "-o", "DPkg::Lock::Timeout=600", "update"]) == 0
    assert apt_get.main(["-y", "install", "ca-certificates", "docker.io"]) == 0
    assert "docker" in commands(scratch)


def test_toolkit_needs_its_package_source_first(scratch: Scratch, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Refusal, match="Unable to locate package nvidia-container-toolkit") as caught:
        apt_get.main(["install", "-y", "nvidia-container-toolkit"])
    assert caught.value.status == 100
    feed(monkeypatch, b"deb https://nvidia.github.io/libnvidia-container/stable/deb/amd64 /\n")
    tee.main(["/etc/apt/sources.list.d/nvidia.list"])
    apt_get.main(["install", "-y", "nvidia-container-toolkit"])
    assert "nvidia-ctk" in commands(scratch)


@pytest.mark.parametrize(
    "words", [["install", "-y", "emacs"], ["install", "curl"], ["remove", "-y", "curl"], ["-z", "update"]]
)
@pytest.mark.usefixtures("scratch")
def test_apt_get_refuses(words: list[str]) -> None:
    with pytest.raises(Refusal):
        apt_get.main(words)


def test_system_files_land_on_the_vm_s_disk(scratch: Scratch, monkeypatch: pytest.MonkeyPatch) -> None:
    feed(monkeypatch, b"-----BEGIN PGP PUBLIC KEY BLOCK-----\nx")
    assert gpg.main(["--dearmor", "--yes", "-o", "/usr/share/keyrings/sandbox-test.gpg"]) == 0
    assert nvidia_ctk.main(["runtime", "configure", "--runtime=docker"]) == 0
    root = scratch.installed / "root"
    assert (root / "usr/share/keyrings/sandbox-test.gpg").exists()
    assert "nvidia" in json.loads((root / "etc/docker/daemon.json").read_text())["runtimes"]
    assert not Path("/usr/share/keyrings/sandbox-test.gpg").exists()


@pytest.mark.usefixtures("scratch")
def test_gpg_refuses_what_is_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    feed(monkeypatch, b"<html>404</html>")
    with pytest.raises(Refusal, match="no valid OpenPGP data"):
        gpg.main(["--dearmor", "-o", "/usr/share/keyrings/sandbox-test.gpg"])


# --- curl ------------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("scratch")
def test_curl_answers_for_package_sources(capsys: pytest.CaptureFixture[str]) -> None:
    assert curl.main(["-fsSL", "--retry", "5", "https://nvidia.github.io/libnvidia-container/gpgkey"]) == 0
    assert "BEGIN PGP PUBLIC KEY BLOCK" in capsys.readouterr().out


@pytest.mark.parametrize("url", ["https://example.com/x", "http://metadata.google.internal/", "https://1.2.3.4/"])
@pytest.mark.usefixtures("scratch")
def test_curl_reaches_nothing_outside_and_says_so(url: str) -> None:
    with pytest.raises(Refusal, match=r"does not model http.*") as caught:
        curl.main(["-fsS", url])
    assert caught.value.status == 6


@pytest.mark.parametrize(
    "words", [["example.com"], ["-s"], ["--proxy", "http://127.0.0.1:1", "http://127.0.0.1/"], ["--config=x"]]
)
@pytest.mark.usefixtures("scratch")
def test_curl_is_not_led_around_its_rules(words: list[str]) -> None:
    with pytest.raises(Refusal, match="does not model"):
        curl.main(words)


# --- nvidia-smi ------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("scratch")
def test_nvidia_smi_lists_and_queries(capsys: pytest.CaptureFixture[str]) -> None:
    assert nvidia_smi.main(["-L"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("GPU 0: Tesla T4 (UUID: GPU-")
    assert second.startswith("GPU 1: Tesla T4 (UUID: GPU-")
    assert first != second.replace("GPU 1", "GPU 0")
    nvidia_smi.main(["--query-gpu=index,utilization.gpu", "--format=csv,noheader,nounits"])
    assert capsys.readouterr().out == "0, 37\n1, 0\n"
    nvidia_smi.main(["--query-gpu=name,utilization.gpu,memory.total", "--format=csv"])
    assert capsys.readouterr().out.splitlines() == [
        "name, utilization.gpu [%], memory.total [MiB]",
        "Tesla T4, 37 %, 15360 MiB",
        "Tesla T4, 0 %, 15360 MiB",
    ]
    nvidia_smi.main([])
    assert "SIMULATED" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--query-gpu=fan.speed", "--format=csv"], "fan.speed"),
        (["--query-gpu=index"], "csv"),
        (["--query-gpu=index", "--format=xml"], "csv"),
        (["-pm", "1"], "-pm"),
    ],
)
@pytest.mark.usefixtures("scratch")
def test_nvidia_smi_refuses_by_name(words: list[str], named: str) -> None:
    with pytest.raises(Refusal, match=named):
        nvidia_smi.main(words)


def test_lost_gpus_are_not_seen(scratch: Scratch, capsys: pytest.CaptureFixture[str]) -> None:
    document = json.loads(scratch.gpus.read_text())
    scratch.gpus.write_text(json.dumps({**document, "gpus": document["gpus"][1:]}))
    nvidia_smi.main(["--query-gpu=index", "--format=csv,noheader"])
    assert capsys.readouterr().out == "1\n"
    scratch.gpus.write_text(json.dumps({**document, "gpus": []}))
    with pytest.raises(Refusal, match="No devices were found"):
        nvidia_smi.main(["-L"])


# --- docker ----------------------------------------------------------------------------------------------------------


def with_docker(scratch: Scratch) -> None:
    image.install(scratch, ("docker.io",))


def lock_text() -> str:
    return images.backing(TRITON).lock.read_text()


def dockerfile(*lines: str) -> str:
    return "\n".join([f"FROM {TRITON}", *lines])


INSTALL = (
    "COPY requirements.txt /opt/r.txt",
    "RUN pip install --no-cache-dir \\",
    "    --require-hashes -r /opt/r.txt",
)


def test_image_with_the_lock_s_wheels_is_built(scratch: Scratch, tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text(lock_text())
    made = build(scratch, dockerfile("# a comment", *INSTALL, "ENV A=1"), tmp_path, {})
    assert (made.base, made.environment) == (TRITON, {"A": "1"})
    again = build(scratch, dockerfile(*INSTALL, "ENV A=1"), tmp_path, {})
    assert again.id == made.id
    other = build(scratch, dockerfile(*INSTALL, "ENV A=2"), tmp_path, {})
    assert other.id != made.id


def test_wheels_come_over_the_internet_or_not_at_all(scratch: Scratch, tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text(lock_text())
    images.pull(scratch, TRITON)
    internet.note(scratch, reachable=False)
    with pytest.raises(Refusal, match=r"Dockerfile:3: .* no external address and its subnetwork no Cloud NAT"):
        build(scratch, dockerfile(*INSTALL), tmp_path, {})


def test_another_lock_is_refused(scratch: Scratch, tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text(lock_text() + "\nrequests==2.0\n")
    with pytest.raises(Refusal, match=r"Dockerfile:3: .* is not serving\.txt"):
        build(scratch, dockerfile(*INSTALL), tmp_path, {})


@pytest.mark.parametrize(
    ("lines", "named"),
    [
        (("RUN apt-get install -y jq",), "RUN apt-get install"),
        (("RUN pip install numpy",), "numpy"),
        (("RUN pip install -r /opt/r.txt",), "--require-hashes"),
        (("RUN pip install --require-hashes -r /opt/absent.txt",), "absent.txt"),
        (("COPY absent.txt /opt/",), "absent.txt"),
        (("ENTRYPOINT ['x']",), "ENTRYPOINT"),
        (("FROM nvcr.io/nvidia/tritonserver:1",), "several stages"),
    ],
)
def test_dockerfile_line_that_is_not_modelled_is_named(
    scratch: Scratch, tmp_path: Path, lines: tuple[str, ...], named: str
) -> None:
    with pytest.raises(Refusal, match=named) as caught:
        build(scratch, dockerfile(*lines), tmp_path, {})
    assert str(caught.value).startswith("Dockerfile:2:")


@pytest.mark.parametrize("reference", ["ubuntu:24.04", "nvcr.io/nvidia/tritonserver", "tensorflow/serving:2.17.0-gpu"])
def test_image_that_nothing_stands_for_is_not_pulled(scratch: Scratch, reference: str) -> None:
    with_docker(scratch)
    with pytest.raises(Refusal, match="Error response from daemon"):
        docker.main(["pull", reference])
    with pytest.raises(Refusal, match="No such image"):
        docker.main(["image", "inspect", reference])


@pytest.mark.parametrize("reference", [TRITON, f"nvcr.io/nvidia/tritonserver@sha256:{'0' * 64}"])
def test_pulled_image_is_there(scratch: Scratch, reference: str) -> None:
    with_docker(scratch)
    assert docker.main(["pull", "--quiet", reference]) == 0
    assert docker.main(["image", "inspect", reference]) == 0


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ([], "--network host"),
        (["--network", "bridge"], "--network host"),
        (["--network=host", "-p", "80:80"], "-p"),
        (["--network=host", "-v", "/a:/b"], "mounted at itself"),
        (["--network=host", "-v", "/etc:/etc"], "only a path below"),
        (["--network=host", "-v", "cache:/cache"], "only a path below"),
        (["--network=host", "--gpus", "2"], "only all"),
        (["--network=host", "--gpus", "all"], "could not select device driver"),
        (["--network=host", "--user", "1000"], "--user"),
        (["--network=host", "--workdir", "/absent"], "/absent"),
    ],
)
def test_docker_run_refuses_by_name(scratch: Scratch, options: list[str], named: str) -> None:
    with_docker(scratch)
    with pytest.raises(Refusal, match=named) as caught:
        docker.main(["run", *options, TRITON, "true"])
    assert caught.value.status == 125


def test_docker_run_without_the_command_in_the_image_is_127(scratch: Scratch) -> None:
    with_docker(scratch)
    with pytest.raises(Refusal, match="executable file not found") as caught:
        docker.main(["run", "--network=host", TRITON, "gcloud"])
    assert caught.value.status == 127


def test_docker_run_s_words_are_split_at_the_image() -> None:
    options = parse(["--rm", "--name=a", "-e", "A=1", "--env", "B=2", "--init", "image", "python3", "-m", "x", "--rm"])
    assert (options.image, options.command) == ("image", ["python3", "-m", "x", "--rm"])
    assert options.values == {"name": ["a"], "env": ["A=1", "B=2"]}


@pytest.mark.parametrize("words", [["compose", "up"], ["swarm", "init"], ["volume", "ls"], ["info", "--format", "x"]])
def test_other_docker_commands_are_refused_by_name(scratch: Scratch, words: list[str]) -> None:
    with_docker(scratch)
    with pytest.raises(Refusal, match=f"does not model .*{words[0] if words[0] != 'info' else '--format'}"):
        docker.main(words)


@pytest.mark.parametrize("words", [["-r", "now"], ["+5"], []])
def test_shutdown_powers_off_now_or_not_at_all(words: list[str]) -> None:
    with pytest.raises(Refusal, match="does not model"):
        shutdown.main(words)


def test_every_stand_in_on_the_path_is_a_program(scratch: Scratch) -> None:
    with_docker(scratch)
    image.install(scratch, (image.TOOLKIT,))
    for name in commands(scratch):
        module = __import__(f"sandbox.machine.commands.{name.replace('-', '_')}", fromlist=["main"])
        assert isinstance(module, ModuleType)
        assert callable(module.main)
