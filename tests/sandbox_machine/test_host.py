from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from sandbox.iam.policy import Policy
from sandbox.iam.tokens import Tokens
from sandbox.machine.host import MachineHost
from sandbox.machine.processes import ProcessId
from sandbox.machine.record import MachineRecord
from sandbox.storage.service import StorageService
from sandbox.store import INSTANCE
from tests.sandbox_machine.machines import TRITON, World, until

pytestmark = pytest.mark.servers

REPOSITORY = Path(__file__).resolve().parents[2]
UNIT = "systemd-run --quiet --unit=web "
SERVE = """bash -c 'trap "echo got TERM; exit 0" TERM; echo serving; while :; do sleep 0.05; done'"""
STUBBORN = """bash -c 'trap "echo ignoring TERM" TERM; echo serving; while :; do sleep 0.05; done'"""
SLOW = (
    """bash -c 'trap "echo draining; sleep 2; echo drained; exit 0" TERM; echo serving; while :; do sleep 0.05; done'"""
)


def main_pid(world: World, key: str, command: str) -> int:
    """Process id that the serial console gives for a line of `command`."""
    found = re.findall(rf"{command}\[(\d+)\]: serving", world.serial(key))
    return int(found[-1])


def parent_of(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.findall(r"PPid:\s+(\d+)", status)[0])


def position(world: World, key: str, text: str) -> int:
    where = world.serial(key).find(text)
    assert where >= 0, f"{text!r} is not on the serial console:\n{world.serial(key)}"
    return where


# --- Boot ------------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("host")
async def test_startup_script_reaches_metadata_and_storage(world: World) -> None:
    storage = StorageService(world.settings, world.store, Policy(world.settings, world.store))
    await storage.start()
    try:
        await storage.create_bucket("inputs")
        await storage.put_object("inputs", "greeting", b"hello from the bucket", "text/plain")
        world.bind("inputs", "roles/storage.objectViewer")
        key = world.insert(
            """#!/bin/bash
            set -euo pipefail
            metadata=http://$GCE_METADATA_HOST/computeMetadata/v1/instance
            echo "colour: $(curl -fsS -H 'Metadata-Flavor: Google' $metadata/attributes/colour)"
            token=$(curl -fsS -H 'Metadata-Flavor: Google' $metadata/service-accounts/default/token |
                sed 's/.*"access_token": "\\([^"]*\\).*/\\1/')
            echo "content: $(curl -fsS -H "Authorization: Bearer $token" \\
                "$STORAGE_EMULATOR_HOST/storage/v1/b/inputs/o/greeting?alt=media")"
            echo "host: $(hostname)"
            """,
            metadata={"colour": "blue"},
        )
        await world.logs(key, "startup-script exit status 0")
        for line in ("colour: blue", "content: hello from the bucket", "host: vm"):
            position(world, key, f"startup-script: {line}")
        assert world.status(key) == "RUNNING"
    finally:
        await storage.stop()


@pytest.mark.usefixtures("host")
async def test_environment_of_a_vm_is_its_own(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/home/somebody/key.json")
    key = world.insert('#!/bin/bash\nenv -0 | tr "\\0" "\\n" | sed "s/=.*//" | sort | paste -sd,; echo "in $PWD"')
    await world.logs(key, "startup-script exit status 0")
    names = re.findall(r"startup-script: ([A-Z_,]+GCE[A-Z_,]+)", world.serial(key))[0].split(",")
    assert set(names) - {"_", "SHLVL", "PWD", "OLDPWD", ""} == {
        "GCE_METADATA_HOST",
        "GCE_METADATA_IP",
        "GOOGLE_COMPUTE_CUSTOM_ENDPOINT",
        "GOOGLE_MONITORING_CUSTOM_ENDPOINT",
        "HOME",
        "LANG",
        "PATH",
        "SANDBOX_MACHINE",
        "SANDBOX_STATE",
        "SANDBOX_UNIT",
        "STATE_DIRECTORY",
        "STORAGE_EMULATOR_HOST",
        "TMPDIR",
    }


@pytest.mark.usefixtures("host")
async def test_failed_startup_script_is_logged_and_the_vm_runs_on(world: World) -> None:
    key = world.insert("#!/bin/bash\nexit 3")
    await world.logs(key, 'Script "startup-script" failed with error: exit status 3')
    await world.logs(key, "Finished running startup scripts.")
    assert world.status(key) == "RUNNING"


@pytest.mark.usefixtures("host")
async def test_host_commands_are_out_of_reach(world: World) -> None:
    key = world.insert("#!/bin/bash\nfor one in apt docker reboot sudo python3; do command -v $one; done; echo none")
    await world.logs(key, "startup-script exit status 0")
    lines = re.findall(r"startup-script: (.*)", world.serial(key))
    assert lines == ["none"]


# --- Units -----------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("host")
async def test_unit_is_restarted_with_all_that_it_started(world: World) -> None:
    key = world.insert(f"#!/bin/bash\n{UNIT} --property=Restart=always --property=RestartSec=0.1 {SERVE}")
    await world.logs(key, ": serving")
    first = main_pid(world, key, "bash")
    os.kill(first, signal.SIGKILL)
    await world.logs(key, "Scheduled restart job, restart counter is at 1.")
    position(world, key, "web.service: Main process exited, code=killed, status=9/KILL")
    await until(lambda: main_pid(world, key, "bash") != first, "it serves again")


@pytest.mark.usefixtures("host")
async def test_unit_that_dies_too_often_fails_as_systemd_s_would(world: World) -> None:
    restart = "--property=Restart=always --property=RestartSec=10ms"
    key = world.insert(f"#!/bin/bash\n{UNIT} {restart} false\nsleep 1.5; systemctl status web; systemctl is-failed web")
    await world.logs(key, "Start request repeated too quickly.")
    assert world.serial(key).count("Main process exited, code=exited, status=1/FAILURE") == 5
    await world.logs(key, "Active: failed (failed) (Result: start-limit-hit)")
    await world.logs(key, "startup-script: failed")


@pytest.mark.usefixtures("host")
async def test_systemctl_tells_stops_and_refuses(world: World) -> None:
    key = world.insert(
        f"""#!/bin/bash
        {UNIT} {SERVE}
        echo "again: $({UNIT} true 2>&1)"
        echo "state: $(systemctl is-active web)"
        systemctl stop web
        echo "after: $(systemctl is-active web)"
        echo "unknown: $(systemctl stop nothing 2>&1)"
        echo "verb: $(systemctl edit web 2>&1)"
        """
    )
    await world.logs(key, "Finished running startup scripts.")
    for line in (
        "again: Failed to start transient service unit: Unit web.service was already loaded",
        "state: active",
        "after: inactive",
        "unknown: Failed to stop nothing.service: Unit nothing.service not loaded.",
        "verb: systemctl: the sandbox's stand-in does not model the verb edit",
    ):
        position(world, key, line)
    assert position(world, key, "got TERM") < position(world, key, "after: inactive")


# --- Stopping --------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("host")
async def test_soft_off_stops_units_in_order_and_then_the_machine(world: World) -> None:
    key = world.insert(f"#!/bin/bash\n{UNIT} {SERVE}", metadata={"shutdown-script": "#!/bin/bash\necho last words"})
    await world.logs(key, ": serving")
    world.want(key, "TERMINATED")
    await until(lambda: world.status(key) in {"STOPPING", "TERMINATED"}, "it is stopping")
    await world.ends(key)
    assert position(world, key, "got TERM") < position(world, key, "Reached target System Power Off.")
    position(world, key, "shutdown-script: last words")
    assert world.processes(key) == []
    instance = world.instance(key)
    assert instance is not None
    assert (instance.pid, instance.last_error) == (0, "")


@pytest.mark.usefixtures("host")
async def test_power_goes_off_when_the_notice_is_over(world: World) -> None:
    key = world.insert(f"#!/bin/bash\n{UNIT} {STUBBORN}", stop_notice_s=1.0)
    await world.logs(key, ": serving")
    started = time.monotonic()
    world.want(key, "TERMINATED")
    await world.ends(key)
    assert time.monotonic() - started >= 1.0
    position(world, key, "ignoring TERM")
    assert world.processes(key) == []
    assert "Power-off before the guest had shut down." in [text for _, _, text in world.store.events()]


@pytest.mark.usefixtures("host")
async def test_stopped_vm_starts_again_with_its_disk(world: World) -> None:
    key = world.insert(
        '#!/bin/bash\necho "boots: $(ls $STATE_DIRECTORY | wc -l)"; touch $STATE_DIRECTORY/$RANDOM$RANDOM'
    )
    await world.logs(key, "boots: 0")
    world.want(key, "TERMINATED")
    await world.ends(key)
    world.want(key, "RUNNING")
    await world.logs(key, "boots: 1")
    assert world.status(key) == "RUNNING"


@pytest.mark.usefixtures("host")
async def test_deleted_vm_leaves_nothing(world: World) -> None:
    key = world.insert(f"#!/bin/bash\n{UNIT} {SERVE}\nnohup sleep 600 &")
    await world.logs(key, ": serving")
    world.want(key, "DELETED")
    await world.ends(key, "(gone)")
    await until(lambda: not world.folder(key).exists(), "its folder is gone")
    assert world.processes(key) == []
    assert world.store.get("machine", key) is None


async def test_vm_deleted_while_it_boots_is_never_started(world: World, host: MachineHost) -> None:
    del host
    key = world.insert("#!/bin/bash\necho started")
    world.want(key, "DELETED")
    await world.ends(key, "(gone)")
    assert "Started on" not in "".join(text for _, _, text in world.store.events())


@pytest.mark.usefixtures("host")
async def test_guest_that_powers_itself_off_stays_off(world: World) -> None:
    key = world.insert("#!/bin/bash\necho done; poweroff")
    await world.ends(key)
    instance = world.instance(key)
    assert instance is not None
    assert (instance.desired, instance.last_error) == ("TERMINATED", "The guest shut itself down.")
    position(world, key, "Reached target System Power Off.")


# --- Crashes ---------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("host")
async def test_killed_init_takes_the_whole_vm_with_it(world: World) -> None:
    key = world.insert(f"#!/bin/bash\n{UNIT} {STUBBORN}\nsetsid sleep 600 >/dev/null 2>&1 &\necho orphan $!")
    for text in (": serving", "Finished running startup scripts."):
        await world.logs(key, text)
    instance = world.instance(key)
    assert instance is not None
    orphan = int(re.findall(r"orphan (\d+)", world.serial(key))[0])
    await until(lambda: parent_of(orphan) == instance.pid, "init has adopted the orphan")
    os.kill(instance.pid, signal.SIGKILL)
    await world.ends(key)
    assert world.processes(key) == []
    after = world.instance(key)
    assert after is not None
    assert (after.desired, after.pid) == ("TERMINATED", 0)
    assert "ended unexpectedly" in after.last_error


@asynccontextmanager
async def predecessor(world: World) -> AsyncIterator[asyncio.subprocess.Process]:
    """Another process that hosts the same VMs; the test kills it."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "tests.sandbox_machine.predecessor", str(world.settings.state), str(world.settings.block)),
        cwd=REPOSITORY,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        assert await process.stdout.readline() == b"ready\n"
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_running_vms_of_a_killed_daemon_are_taken_over(world: World) -> None:
    async with predecessor(world) as daemon:
        key = world.insert(f"#!/bin/bash\n{UNIT} {SERVE}")
        stopping = world.insert(f"#!/bin/bash\n{UNIT} {STUBBORN}", name="stopping", last_octet=2, stop_notice_s=3.0)
        for one in (key, stopping):
            await world.logs(one, ": serving")
        world.want(stopping, "TERMINATED")
        await until(lambda: world.status(stopping) == "STOPPING", "it is stopping")
        daemon.kill()
        await daemon.wait()
    instance = world.instance(key)
    assert instance is not None
    init = ProcessId.of(instance.pid)
    host = MachineHost(world.settings, world.store, Tokens(world.store))
    await host.start()
    try:
        await world.ends(stopping)
        assert init is not None
        assert init.alive
        assert world.status(key) == "RUNNING"
        assert await world.metadata(key, "instance/name") == "vm"
        world.want(key, "TERMINATED")
        await world.ends(key)
        position(world, key, "got TERM")
        assert not init.alive
    finally:
        await host.stop()


async def test_a_vm_that_a_killed_daemon_was_stopping_shuts_down_in_order(world: World) -> None:
    async with predecessor(world) as daemon:
        metadata = {"shutdown-script": "#!/bin/bash\necho goodbye"}
        key = world.insert(f"#!/bin/bash\n{UNIT} {SERVE}", metadata=metadata, stop_notice_s=50.0)
        await world.logs(key, ": serving")
        daemon.kill()
        await daemon.wait()
    record = MachineRecord.load(world.store, key)
    record.stop_by = time.time() + 50.0
    record.save(world.store)
    found = world.store.get(INSTANCE, key)
    assert found is not None
    world.store.put(INSTANCE, key, {**found, "status": "STOPPING", "desired": "TERMINATED"})
    host = MachineHost(world.settings, world.store, Tokens(world.store))
    await host.start()
    try:
        await until(lambda: world.status(key) == "TERMINATED", "it has shut down", 30.0)
        assert "goodbye" in world.serial(key)
    finally:
        await host.stop()


async def test_what_died_without_a_daemon_is_found_dead_and_strays_are_ended(world: World) -> None:
    async with predecessor(world) as daemon:
        dead = world.insert(f"#!/bin/bash\n{UNIT} {STUBBORN}", name="dead")
        stray = world.insert(f"#!/bin/bash\n{UNIT} {STUBBORN}", name="stray", last_octet=2)
        for one in (dead, stray):
            await world.logs(one, ": serving")
        daemon.kill()
        await daemon.wait()
    instance = world.instance(dead)
    assert instance is not None
    os.kill(instance.pid, signal.SIGKILL)
    world.store.delete(INSTANCE, stray)
    assert world.processes(dead)
    assert world.processes(stray)
    host = MachineHost(world.settings, world.store, Tokens(world.store))
    await host.start()
    try:
        assert world.processes(stray) == []
        assert not world.folder(stray).exists()
        await world.ends(dead)
        assert world.processes(dead) == []
    finally:
        await host.stop()


async def test_vm_that_a_killed_daemon_had_not_noted_is_started_once(world: World) -> None:
    async with predecessor(world) as daemon:
        key = world.insert(f"#!/bin/bash\n{UNIT} {SERVE}")
        await world.logs(key, ": serving")
        daemon.kill()
        await daemon.wait()
    record = world.store.get(INSTANCE, key)
    assert record is not None
    first = record["pid"]
    world.store.put(INSTANCE, key, {**record, "status": "STAGING", "pid": 0})
    host = MachineHost(world.settings, world.store, Tokens(world.store))
    await host.start()
    try:
        await world.runs(key)
        instance = world.instance(key)
        assert instance is not None
        assert instance.pid != first
        assert ProcessId.of(first) is None
    finally:
        await host.stop()


async def test_stopped_host_leaves_no_process_and_the_next_one_boots_its_vms(world: World) -> None:
    host = MachineHost(world.settings, world.store, Tokens(world.store))
    await host.start()
    key = world.insert(f"#!/bin/bash\n{UNIT} {SERVE}")
    await world.logs(key, ": serving")
    await host.stop()
    assert world.processes(key) == []
    host = MachineHost(world.settings, world.store, Tokens(world.store))
    await host.start()
    try:
        await world.runs(key)
    finally:
        await host.stop()


# --- What Google does to a VM ----------------------------------------------------------------------------------------


async def test_preempted_vm_is_told_and_stopped(world: World, host: MachineHost) -> None:
    key = world.insert(f"#!/bin/bash\n{UNIT} {STUBBORN}")
    await world.logs(key, ": serving")
    waiting = asyncio.create_task(world.metadata(key, "instance/preempted", wait_for_change="true"))
    await asyncio.sleep(0.1)
    host.preempt(key)
    assert await asyncio.wait_for(waiting, 5) == "TRUE"
    await until(lambda: world.status(key) == "STOPPING", "it is stopping")
    record = world.store.get("machine", key)
    assert record is not None
    assert 25 < record["stop_by"] - time.time() <= 30
    os.kill(main_pid(world, key, "bash"), signal.SIGKILL)
    await world.ends(key)
    instance = world.instance(key)
    assert instance is not None
    assert (instance.desired, instance.last_error) == ("TERMINATED", "Instance was preempted.")


@pytest.mark.parametrize("automatic_restart", [True, False])
async def test_maintenance_is_announced_and_then_stops_the_vm(
    world: World, host: MachineHost, automatic_restart: bool
) -> None:
    key = world.insert(f"#!/bin/bash\n{UNIT} {SERVE}", automatic_restart=automatic_restart)
    await world.logs(key, ": serving")
    first = world.instance(key)
    host.announce_maintenance(key, 0.5)
    assert await world.metadata(key, "instance/maintenance-event") == "TERMINATE_ON_HOST_MAINTENANCE"
    assert world.status(key) == "RUNNING"
    await world.logs(key, "got TERM")
    if not automatic_restart:
        await world.ends(key)
        return
    assert first is not None
    await until(lambda: (now := world.instance(key)) and now.pid not in {0, first.pid}, "it has booted again")
    assert await world.metadata(key, "instance/maintenance-event") == "NONE"


async def test_lost_gpu_is_gone_until_the_next_boot(world: World, host: MachineHost) -> None:
    key = world.insert('#!/bin/bash\nwhile :; do echo "gpus $(nvidia-smi -L | wc -l)"; sleep 0.1; done', gpus=2)
    await world.logs(key, "gpus 2")
    host.lose_gpu(key, 1)
    await world.logs(key, "gpus 1")


@pytest.mark.parametrize(("at_limit", "status"), [("TERMINATED", "TERMINATED"), ("DELETED", "(gone)")])
@pytest.mark.usefixtures("host")
async def test_vm_ends_at_its_maximum_run_duration(world: World, at_limit: str, status: str) -> None:
    key = world.insert(f"#!/bin/bash\n{UNIT} {SERVE}")
    await world.logs(key, ": serving")
    record = world.store.get(INSTANCE, key)
    assert record is not None
    world.store.put(INSTANCE, key, {**record, "max_run_s": time.time() - record["started"] + 0.5, "at_limit": at_limit})
    await world.ends(key, status)
    assert world.processes(key) == []


# --- Containers ------------------------------------------------------------------------------------------------------


INSTALL = """#!/bin/bash
set -euo pipefail
apt-get install -y -q docker.io >/dev/null
docker pull -q IMAGE >/dev/null
container() { docker run --rm --network host "$@"; }
""".replace("IMAGE", TRITON)


@pytest.mark.usefixtures("host")
async def test_container_has_the_image_s_programs_and_its_own_environment(world: World) -> None:
    key = world.insert(
        f"""{INSTALL}
        export SECRET=1
        container -e COLOUR=blue {TRITON} python3 -c 'import os, sys; print(sys.prefix, *sorted(os.environ))'
        container {TRITON} sh -c 'exit 7' || echo "exit code $?"
        """
    )
    await world.logs(key, "exit code 7")
    prefix, *names = re.findall(r"startup-script: (/.*)", world.serial(key))[0].split()
    assert prefix.endswith(".venv-serving")
    assert {"COLOUR", "GCE_METADATA_HOST", "STORAGE_EMULATOR_HOST", "GOOGLE_MONITORING_CUSTOM_ENDPOINT"} <= set(names)
    assert not {"SECRET", "STATE_DIRECTORY", "SANDBOX_UNIT"} & set(names)


@pytest.mark.usefixtures("host")
async def test_killed_client_leaves_its_container_and_its_name_taken(world: World) -> None:
    key = world.insert(
        f"""{INSTALL}
        container --name one {TRITON} {SERVE} &
        client=$!
        until [[ -n $(docker ps -q --filter name=one) ]]; do sleep 0.05; done
        kill -9 $client
        wait $client || true
        echo "still: $(docker ps --filter name=one | tail -n 1)"
        echo "again: $(container --name one {TRITON} true 2>&1)" || true
        docker rm --force one
        echo "left: $(docker ps -q)"
        """
    )
    await world.logs(key, "startup-script exit status 0")
    assert re.search(r"still: \w+ .* Up 0 minutes +one", world.serial(key))
    position(world, key, 'Conflict. The container name "/one" is already in use by container')
    assert re.search(r"left: ?$", world.serial(key), re.MULTILINE)


@pytest.mark.usefixtures("host")
async def test_end_of_the_main_process_is_the_end_of_the_container(world: World) -> None:
    key = world.insert(f"{INSTALL}\ncontainer {TRITON} bash -c 'setsid sleep 600 & sleep 0.2'\necho over")
    await world.logs(key, "startup-script: over")
    await until(lambda: len(world.processes(key)) == 1, "only init is left")


@pytest.mark.usefixtures("host")
@pytest.mark.parametrize("ordered", [True, False])
async def test_container_drains_only_if_its_unit_is_ordered_after_docker(world: World, ordered: bool) -> None:
    after = "--property=After=docker.service" if ordered else ""
    key = world.insert(
        f"""{INSTALL}
        echo '{{"shutdown-timeout": 1}}' | tee /etc/docker/daemon.json >/dev/null
        {UNIT} {after} docker run --rm --network host --name web {TRITON} {SLOW}
        """
    )
    await world.logs(key, ": serving")
    world.want(key, "TERMINATED")
    await world.ends(key)
    assert re.search(r": draining$", world.serial(key), re.MULTILINE)
    assert bool(re.search(r": drained$", world.serial(key), re.MULTILINE)) is ordered
