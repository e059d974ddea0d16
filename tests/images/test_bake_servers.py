"""The real commands against a sandbox: bake, boot what was baked, renew, and look at the plan."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from images.names import ImageName
from images.roles import ROLES
from images.stack_file import StackFile
from sandbox.compute.images import Images
from sandbox.compute.records import instances
from sandbox.folder import StateFolder
from sandbox.store import Store
from tests.end_to_end.conftest import copy_program
from tests.end_to_end.fleet import REPOSITORY, Sandbox

pytestmark = pytest.mark.servers

IMAGE = ROLES["serving"].image
STOCK = StackFile.read(REPOSITORY / "Pulumi.local.yaml").required(IMAGE, "")


class Bench(Sandbox):
    """A sandbox, and a program folder with a stack file that may be edited: a copy of `local`."""

    __slots__ = ()

    @property
    def file(self) -> Path:
        return self.program / "Pulumi.baked.yaml"

    @property
    def image(self) -> str:
        return StackFile.read(self.file).required(IMAGE, "")

    def images(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        command, *rest = arguments
        known = ("--stack", "baked", "--config-file", str(self.file))
        return self.operator("-m", "images", command, *known, *rest, check=check)

    def planned_image(self) -> str:
        """The boot image of the planned instance template."""
        done = self.run("preview", "baked", "--", "--json")
        steps: list[dict[str, Any]] = json.loads(done.stdout)["steps"]
        (template,) = (
            step["newState"]["inputs"]
            for step in steps
            if step.get("newState", {}).get("type") == "gcp:compute/instanceTemplate:InstanceTemplate"
        )
        found: str = template["disks"][0]["sourceImage"]
        return found

    def cloud(self) -> tuple[list[str], list[str]]:
        """Names of the VMs, and of the images in the project."""
        store = Store(StateFolder(self.state).store)
        try:
            images = Images(StateFolder(self.state).settings(), store).of_project("sandbox-project")
            return [vm.name for vm in instances(store)], [one["name"] for one in images]
        finally:
            store.close()


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    folder = tmp_path_factory.mktemp("bake").resolve()
    one = Bench(folder / "state", copy_program(folder / "program"))
    one.file.write_bytes((REPOSITORY / "Pulumi.local.yaml").read_bytes())
    one.run("start")
    yield one
    one.run("down", check=False)
    for process in one.processes():
        process.kill()


@pytest.fixture(scope="module")
def baked(bench: Bench) -> str:
    """Name of a baked serving image; the stack's file names it, and the builder's, too."""
    for role in ROLES:
        done = bench.images("bake", "--role", role)
        assert "  installing Docker" in done.stdout
    return bench.image


def test_baked_images_are_in_file_and_plan_and_no_vm_stays(bench: Bench, baked: str) -> None:
    builder = StackFile.read(bench.file).required(ROLES["builder"].image, "")
    assert ImageName.parse(baked).is_baked
    assert bench.cloud() == ([], sorted(ImageName.parse(name).name for name in (baked, builder)))
    assert bench.planned_image() == baked
    old = (REPOSITORY / "Pulumi.local.yaml").read_text().splitlines()
    comment = f"# baked from {ImageName.parse(STOCK).name}"
    changed = [line for line in bench.file.read_text().splitlines() if line not in old]
    assert changed == [f"      image: {builder} {comment}", f"    image: {baked} {comment}"]


def test_a_vm_of_the_baked_image_finds_all_done_and_needs_no_internet(bench: Bench, baked: str) -> None:
    before = bench.file.read_bytes()
    done = bench.images("bake", "--role", "serving", "--base", baked, "--no-external-address")
    assert "installing" not in done.stdout
    assert "pulling" not in done.stdout
    (ready,) = re.findall(r"(tensorrt-fleet-serving:[0-9a-f]{16}) is ready", done.stdout)
    assert ready
    bench.file.write_bytes(before)


def test_a_stock_image_is_renewed_and_the_plan_shows_it(bench: Bench) -> None:
    before = bench.file.read_bytes()
    try:
        bench.file.write_bytes((REPOSITORY / "Pulumi.local.yaml").read_bytes())
        bench.images("bump")
        newer = bench.image
        assert (ImageName.parse(newer).family_by_name, newer > STOCK) == (ImageName.parse(STOCK).family_by_name, True)
        assert bench.planned_image() == newer
        assert "stays as it is" in bench.images("bump").stdout
    finally:
        bench.file.write_bytes(before)


def test_a_baked_image_is_told_to_be_baked_again(bench: Bench, baked: str) -> None:
    told = bench.images("bump").stdout
    assert "bake again: python -m images bake --role serving --stack baked --base " in told
    assert bench.image == baked


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_bake_leaves_nothing(bench: Bench, number: signal.Signals) -> None:
    file, cloud = bench.file.read_bytes(), bench.cloud()
    command = [sys.executable, "-m", "sandbox", "run", "--", sys.executable, "-u", "-m", "images", "bake"]
    options = ["--role", "serving", "--stack", "baked", "--config-file", str(bench.file), "--base", STOCK]
    with subprocess.Popen(
        [*command, *options],
        cwd=REPOSITORY,
        env={**os.environ, "SANDBOX_STATE_DIR": str(bench.state), "SANDBOX_PROGRAM": str(bench.program)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as run:
        assert run.stdout is not None
        for line in run.stdout:
            if "making the VM" in line:
                run.send_signal(number)
        assert run.wait(60) == 130
    assert (bench.file.read_bytes(), bench.cloud()) == (file, cloud)


def test_a_failure_names_its_cause_and_leaves_nothing(bench: Bench, baked: str) -> None:
    before, cloud = bench.file.read_bytes(), bench.cloud()
    text = before.decode().replace("tritonserver:25.08-py3", "elsewhere:25.08-py3")
    bench.file.write_text(text)
    done = bench.images("bake", "--role", "serving", "--base", baked, check=False)
    assert done.returncode == 1
    assert "pull access denied for nvcr.io/nvidia/elsewhere" in done.stderr
    assert "failed with exit status 1" in done.stderr
    assert (bench.file.read_text(), bench.cloud()) == (text, cloud)
    bench.file.write_bytes(before)
