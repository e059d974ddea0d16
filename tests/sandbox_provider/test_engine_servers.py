"""The real engine on a small program: through the command line, in a sandbox of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from sandbox.folder import REPOSITORY, StateFolder
from sandbox.machine.markers import STATE_MARKER
from sandbox.store import RESOURCE, Store

pytestmark = pytest.mark.servers

EXPECTED_NO_CHANGES = 7
"""Exit code of the CLI where `--expect-no-changes` is not met."""
PROGRAM = """\
import pulumi
import pulumi_gcp as gcp

config = pulumi.Config()
network = gcp.compute.Network("network", auto_create_subnetworks=False)
subnetwork = gcp.compute.Subnetwork("subnetwork", network=network.id, ip_cidr_range="10.0.0.0/20")
bucket = gcp.storage.Bucket("bucket", name="toy-bucket", location="us-central1")
note = gcp.storage.BucketObject(
    "note", bucket=bucket.name, name="note.txt", content=config.get_secret("secret") or "nothing"
)
template = gcp.compute.InstanceTemplate(
    "template",
    machine_type="n1-standard-1",
    disks=[gcp.compute.InstanceTemplateDiskArgs(source_image="projects/p/global/images/exact")],
    network_interfaces=[gcp.compute.InstanceTemplateNetworkInterfaceArgs(subnetwork=subnetwork.id)],
    metadata={"note": config.require("note")},
)
gcp.compute.HealthCheck(
    "check", check_interval_sec=9, http_health_check=gcp.compute.HealthCheckHttpHealthCheckArgs(port=8888)
)
if config.get_bool("broken"):
    gcp.sql.DatabaseInstance("database", database_version="POSTGRES_16", settings={"tier": "db-f1-micro"})
pulumi.export("template", template.name)
"""


@dataclass(frozen=True)
class Toy:
    state: Path
    program: Path

    @property
    def environment(self) -> dict[str, str]:
        return os.environ | {"SANDBOX_STATE_DIR": str(self.state), "SANDBOX_PROGRAM": str(self.program)}

    def run(self, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "sandbox", *arguments],
            cwd=REPOSITORY,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        assert done.returncode == code, f"{arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def changes(self, *arguments: str) -> dict[str, int]:
        """Planned steps by kind."""
        found: dict[str, int] = json.loads(self.run("preview", "toy", *arguments, "--", "--json").stdout)[
            "changeSummary"
        ]
        return found

    def declared(self) -> set[str]:
        """Types in the sandbox's cloud."""
        store = Store(StateFolder(self.state).store)
        try:
            return {record["type"].rpartition(":")[2] for _, record in store.items(RESOURCE)}
        finally:
            store.close()

    def processes(self) -> list[psutil.Process]:
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get(STATE_MARKER) == str(self.state):
                    found.append(process)
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
        return found


@pytest.fixture
def toy(tmp_path: Path) -> Iterator[Toy]:
    program = tmp_path / "program"
    program.mkdir()
    (program / "Pulumi.yaml").write_text("name: toy\nruntime: python\n")
    (program / "Pulumi.toy.yaml").write_text("config:\n  gcp:region: us-central1\n  toy:note: one\n")
    (program / "__main__.py").write_text(PROGRAM)
    made = Toy((tmp_path / "state").resolve(), program)
    yield made
    made.run("down")


def test_a_plan_needs_no_daemon_and_leaves_none(toy: Toy) -> None:
    assert toy.changes() == {"create": 7}
    assert toy.processes() == []
    assert toy.declared() == set()


def test_a_stack_lives_from_its_first_update_to_its_end(toy: Toy) -> None:
    kinds = {"Network", "Subnetwork", "Bucket", "BucketObject", "InstanceTemplate", "HealthCheck"}
    first = toy.run("up", "toy", "--config", "secret=hush")
    assert "7 created" in first.stdout
    assert toy.declared() == kinds
    assert toy.changes() == {"same": 7}

    second = toy.run("up", "toy", "--config", "note=two")
    assert "replaced" in second.stdout
    assert toy.changes() == {"same": 7}
    toy.run("refresh", "toy", "--", "--expect-no-changes")
    toy.run("preview", "toy", "--", "--refresh", "--expect-no-changes")

    exported = toy.run("run", "--", "pulumi", "-C", str(toy.program), "stack", "output", "--stack", "toy", "--json")
    assert json.loads(exported.stdout)["template"].startswith("template-")
    assert "encryptionsalt" not in (toy.program / "Pulumi.toy.yaml").read_text()
    assert sorted(path.name for path in toy.program.iterdir()) == ["Pulumi.toy.yaml", "Pulumi.yaml", "__main__.py"]

    toy.run("destroy", "toy")
    assert toy.declared() == set()
    toy.run("down")
    assert toy.processes() == []
    assert not toy.state.exists()


def test_secrets_stay_secret_in_the_engines_state(toy: Toy) -> None:
    (toy.program / "__main__.py").write_text(
        PROGRAM.replace('config.get_secret("secret") or "nothing"', 'pulumi.Output.secret("hush-hush")')
    )
    toy.run("up", "toy")
    checkpoints = [path.read_text() for path in (toy.state / "pulumi").rglob("*.json") if path.is_file()]
    assert any("toy-bucket" in text for text in checkpoints)
    assert not any("hush-hush" in text for text in checkpoints)


def test_an_unmodelled_type_stops_the_plan_and_names_itself(toy: Toy) -> None:
    done = toy.run("preview", "toy", "--config", "broken=true", code=1)
    assert "the sandbox does not model gcp:sql/databaseInstance:DatabaseInstance" in done.stdout


def test_an_edit_behind_the_programs_back_is_found_and_repaired(toy: Toy) -> None:
    toy.run("up", "toy")
    store = Store(StateFolder(toy.state).store)
    identifier, record = next(iter(store.resources("gcp:compute/healthCheck:HealthCheck")))
    record["state"]["checkIntervalSec"] = 5
    store.put(RESOURCE, identifier, record)
    drifted = toy.run("preview", "toy", "--", "--refresh", "--expect-no-changes", code=EXPECTED_NO_CHANGES)
    assert "HealthCheck check update [diff: ~checkIntervalSec]" in drifted.stdout
    toy.run("up", "toy", "--", "--refresh")
    repaired = store.get(RESOURCE, identifier)
    store.close()
    assert repaired is not None
    assert repaired["state"]["checkIntervalSec"] == 9


def test_a_killed_run_is_taken_over(toy: Toy) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "sandbox", "up", "toy"],
        cwd=REPOSITORY,
        env=toy.environment,
        stdout=subprocess.PIPE,
        text=True,
    ) as run:
        assert run.stdout is not None
        for line in run.stdout:
            if "Bucket bucket" in line:
                break
        for child in psutil.Process(run.pid).children(recursive=True):
            child.kill()
        run.kill()
    again = toy.run("up", "toy")
    assert "an earlier run on toy was killed; taking over its lock" in again.stderr
    assert toy.changes() == {"same": 7}
    assert "unowned" not in toy.run("status").stdout
    # A kill tears the files that the backend does not replace as a whole, so there may be none.
    assert list(toy.state.rglob("*.attrs")) == []


def test_a_killed_daemon_is_replaced_and_its_world_is_still_there(toy: Toy) -> None:
    toy.run("up", "toy")
    running = StateFolder(toy.state).running()
    assert running is not None
    running.process.signal(signal.SIGKILL)
    psutil.wait_procs([process for process in toy.processes() if process.pid == running.pid], timeout=10)
    toy.run("refresh", "toy", "--", "--expect-no-changes")
    again = StateFolder(toy.state).running()
    assert again is not None
    assert again.pid != running.pid


def test_the_end_of_a_sandbox_whose_daemon_is_dead_leaves_no_process(toy: Toy) -> None:
    toy.run("start")
    running = StateFolder(toy.state).running()
    assert running is not None
    running.process.signal(signal.SIGKILL)
    toy.run("down")
    assert toy.processes() == []
    assert not toy.state.exists()


def test_one_daemon_a_state_folder(toy: Toy) -> None:
    starts = [
        subprocess.Popen([sys.executable, "-m", "sandbox", "start"], cwd=REPOSITORY, env=toy.environment)
        for _ in range(2)
    ]
    assert [start.wait(120) for start in starts] == [0, 0]
    daemons = [process for process in toy.processes() if "sandbox.daemon" in process.cmdline()]
    assert len(daemons) == 1


def test_commands_without_a_sandbox_say_how_to_start_one(toy: Toy) -> None:
    assert "python -m sandbox start" in toy.run("run", "--", "true", code=1).stderr
    assert "no sandbox in" in toy.run("status").stdout


def test_the_end_of_what_never_was_says_nothing_and_makes_nothing(toy: Toy) -> None:
    done = toy.run("down")
    assert (done.stdout, done.stderr) == ("", "")
    assert not toy.state.exists()
