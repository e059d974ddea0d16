from __future__ import annotations

import base64
import io
import json
import shlex
import tarfile
from pathlib import Path

import pytest

from client.errors import ClientError
from images import bake as baking
from images.bake import Interface, Order, bake, interface_of, order, write_image
from images.names import DEFAULT_FAMILY, ImageName
from images.payload import LIMIT, payload
from images.roles import ROLES, RoleName
from images.stack_file import StackFile
from tests.images.fleets import CONTAINER, FAMILY, STOCK, FakeCompute, image, refused
from tests.program.harness import REPOSITORY

SERVING = ROLES["serving"]
OLD, NEW = f"{STOCK}-v20260820", f"{STOCK}-v20261103"
BAKED = "projects/my-project/global/images/tensorrt-fleet-serving-20261124-161020-697aa860"
ENDED = "[  9.1] google_metadata_script_runner[7]: startup-script: bake.sh: "
CYCLE = ["insert instance", "stop instance", "insert image", "delete instance"]


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(baking, "_POLL_S", 0.0)


def stack(fleet_image: str = OLD, network: str = "{nat: true}") -> StackFile:
    return StackFile(
        Path("Pulumi.test.yaml"),
        f"""\
config:
  gcp:project: my-project
  tensorrt-fleet:fleet:
    image: {fleet_image}
    container: {CONTAINER}
    pools: [{{zones: [us-central1-c, us-central1-a]}}]
  tensorrt-fleet:network: {network}
""",
    )


def job(compute: FakeCompute | None = None, **options: str) -> Order:
    known = compute or FakeCompute(images={OLD: image(OLD)})
    return order(REPOSITORY, stack(**options), SERVING, known, base="", interface=None)


def run(compute: FakeCompute) -> list[str]:
    lines: list[str] = []
    compute.images[OLD] = image(OLD)
    bake(job(compute), compute, lines.append, deadline_s=0.0)
    return lines


def test_the_image_is_made_of_the_stopped_vm_and_the_vm_goes() -> None:
    compute = FakeCompute(console=["boot\r\ninstall.sh: installing Do", f"cker\r\n{ENDED}fin", "ished\r\n"])
    lines = run(compute)
    assert compute.asked == CYCLE
    assert "  installing Docker" in lines
    vm, made = compute.bodies["insert instance"], compute.bodies["insert image"]
    assert vm["name"] == made["name"]
    assert made["sourceDisk"] == f"projects/my-project/zones/us-central1-c/disks/{vm['name']}"
    assert baking.origin(made) == OLD


def test_the_vm_has_no_gpu_no_account_and_ends_by_itself() -> None:
    vm = job().instance()
    assert not {"guestAccelerators", "serviceAccounts"} & set(vm)
    assert vm["scheduling"] == {"maxRunDuration": {"seconds": "10800"}, "instanceTerminationAction": "DELETE"}
    assert vm["disks"][0]["autoDelete"] is True
    assert vm["disks"][0]["initializeParams"]["sourceImage"] == OLD
    assert vm["disks"][0]["initializeParams"]["diskSizeGb"] == "50"


def test_a_disk_is_never_smaller_than_its_image() -> None:
    found = FakeCompute(images={OLD: image(OLD, diskSizeGb="80")})
    assert job(found).instance()["disks"][0]["initializeParams"]["diskSizeGb"] == "80"


def test_a_failed_installation_shows_the_end_of_the_console_and_leaves_nothing() -> None:
    console = "".join(f"line {number}\n" for number in range(40)) + f"{ENDED}failed with exit status 125\n"
    compute = FakeCompute(console=[console])
    with pytest.raises(ClientError) as caught:
        run(compute)
    assert "failed with exit status 125" in str(caught.value)
    assert "line 39" in str(caught.value)
    assert "line 3\n" not in str(caught.value)
    assert compute.asked == ["insert instance", "delete instance"]


@pytest.mark.parametrize(("status", "told"), [("TERMINATED", "TERMINATED"), ("gone", "DELETED")])
def test_a_vm_that_ends_early_is_a_failure(status: str, told: str) -> None:
    compute = FakeCompute(console=["boot\n"], status=status)
    with pytest.raises(ClientError, match=f"the VM is {told} before"):
        run(compute)
    assert compute.asked[-1] == "delete instance"


def test_what_a_vm_said_last_is_heard_before_its_end_counts() -> None:
    compute = FakeCompute(console=["", f"{ENDED}failed with exit status 7\n"], status="TERMINATED")
    with pytest.raises(ClientError, match="failed with exit status 7"):
        run(compute)


def test_an_installation_has_a_deadline() -> None:
    with pytest.raises(ClientError, match="not finished in time"):
        run(FakeCompute(console=["boot\n"]))


@pytest.mark.parametrize("step", ["insert instance", "stop instance", "insert image"])
@pytest.mark.parametrize("failure", [refused(), KeyboardInterrupt()])
def test_whatever_ends_it_the_vm_goes(step: str, failure: BaseException) -> None:
    compute = FakeCompute(console=[f"{ENDED}finished\n"], failing={step: failure})
    with pytest.raises(type(failure)):
        run(compute)
    assert compute.asked[-1] == "delete instance"
    assert ("delete image" in compute.asked) == (step == "insert image")


@pytest.mark.parametrize("failure", [refused(), KeyboardInterrupt()])
def test_what_stays_is_named_with_the_command_that_deletes_it(failure: BaseException) -> None:
    compute = FakeCompute(
        console=[f"{ENDED}finished\n"], failing={"delete instance": failure}, images={OLD: image(OLD)}
    )
    lines: list[str] = []
    with pytest.raises(type(failure)):
        bake(job(compute), compute, lines.append, deadline_s=0.0)
    name = compute.bodies["insert instance"]["name"]
    command = f"gcloud compute instances delete {name} --project my-project --zone us-central1-c"
    assert lines[-1].endswith(command)


# --- What it starts from ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("named", "wanted", "expected"),
    [
        (OLD, "", OLD),
        (OLD, NEW, NEW),
        (OLD, DEFAULT_FAMILY, NEW),
        (BAKED, "", OLD),
        (BAKED, NEW, NEW),
        (OLD, BAKED, BAKED),
        ("projects/my-project/global/images/tensorrt-fleet-serving-not-baked-yet", "", NEW),
    ],
)
def test_the_base_is_a_stock_image_by_its_exact_name(named: str, wanted: str, expected: str) -> None:
    note = json.dumps({"base": OLD, "container": CONTAINER})
    known = {
        OLD: image(OLD, family=FAMILY),
        NEW: image(NEW, family=FAMILY),
        DEFAULT_FAMILY: image(NEW, family=FAMILY),
        BAKED: image(BAKED, description=note),
    }
    found = order(REPOSITORY, stack(named), SERVING, FakeCompute(images=known), base=wanted, interface=None)
    assert found.base.path == expected


def test_a_builder_without_an_image_or_container_has_the_fleets_and_the_settings() -> None:
    found = order(REPOSITORY, stack(), ROLES["builder"], FakeCompute(images={OLD: image(OLD)}), base="", interface=None)
    assert (found.base.path, found.container) == (OLD, "nvcr.io/nvidia/tensorrt:25.08-py3")


def test_a_base_that_is_not_there_is_told() -> None:
    with pytest.raises(ClientError, match=f"there is no image {OLD}"):
        job(FakeCompute())


@pytest.mark.parametrize("description", ["", "mine", "[1]", '{"base": 1}', "{}"])
def test_images_of_other_people_have_no_origin(description: str) -> None:
    assert baking.origin({"description": description}) is None


SUBNET = "projects/net/regions/us-central1/subnetworks/serving"


@pytest.mark.parametrize(
    ("network", "expected"),
    [
        ("{nat: true}", Interface(network="global/networks/default")),
        (
            f"{{existing: {{network: n, subnetworks: {{us-central1: {SUBNET}}}, hasNat: true}}}}",
            Interface(subnetwork=SUBNET, external_address=False),
        ),
        (f"{{existing: {{network: n, subnetworks: {{us-central1: {SUBNET}}}}}}}", Interface(subnetwork=SUBNET)),
        ("{existing: {network: n, subnetworks: {}}}", Interface(network="n")),
    ],
)
def test_an_external_address_only_where_no_nat_is_known(network: str, expected: Interface) -> None:
    assert interface_of(stack(network=network), "us-central1-c") == expected
    assert ("accessConfigs" in expected.as_json()) == expected.external_address


# --- What it carries -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ROLES)
def test_the_metadata_carries_install_script_and_lock(role: RoleName) -> None:
    text = payload(REPOSITORY, ROLES[role])
    assert len(text) <= LIMIT
    with tarfile.open(fileobj=io.BytesIO(base64.b64decode(text))) as archive:
        names = archive.getnames()
        assert names == sorted([ROLES[role].lock, "startup/install.sh"])
        for name in names:
            member = archive.extractfile(name)
            assert member is not None
            assert member.read() == (REPOSITORY / name).read_bytes()
    assert payload(REPOSITORY, ROLES[role]) == text


def test_roles_are_those_of_the_install_script() -> None:
    script = (REPOSITORY / "startup/install.sh").read_text()
    (line,) = (line for line in script.splitlines() if "local -A locks=" in line)
    told = line.partition("(")[2].rpartition(")")[0]
    locks = {key.strip("[]"): value for key, _, value in (word.partition("=") for word in shlex.split(told))}
    assert {name: f"locks/{lock}" for name, lock in locks.items()} == {role.name: role.lock for role in ROLES.values()}


def test_what_does_not_fit_is_told(tmp_path: Path) -> None:
    (tmp_path / "startup").mkdir()
    (tmp_path / "locks").mkdir()
    (tmp_path / "startup/install.sh").touch()
    (tmp_path / "locks/serving.txt").write_bytes(bytes(i * i % 251 ^ i % 241 for i in range(LIMIT * 2)))
    with pytest.raises(ClientError, match=r"locks/serving\.txt take"):
        payload(tmp_path, SERVING)


# --- What it writes --------------------------------------------------------------------------------------------------


def test_the_name_is_written_into_the_file_as_it_is_then(tmp_path: Path) -> None:
    path = tmp_path / "Pulumi.test.yaml"
    path.write_text(stack().text + "# edited meanwhile\n")
    lines = write_image(path, SERVING, ImageName.parse(BAKED), ImageName.parse(OLD))
    assert f"    image: {BAKED} # baked from {FAMILY}-v20260820\n" in path.read_text()
    assert path.read_text().endswith("# edited meanwhile\n")
    assert lines[1:3] == [f"  {OLD}", f"  -> {BAKED}"]
    assert "--role builder bakes it" in lines[3]
    assert "network.nat may be false" in lines[4]


def test_a_stack_without_nat_is_not_told_to_give_it_up(tmp_path: Path) -> None:
    path = tmp_path / "Pulumi.test.yaml"
    path.write_text(stack(network="{nat: false}").text + "  tensorrt-fleet:model: {artifact: gs://x/models/k/}\n")
    assert len(write_image(path, SERVING, ImageName.parse(BAKED), ImageName.parse(OLD))) == 3


def test_a_builder_s_image_is_added_where_there_was_none(tmp_path: Path) -> None:
    path = tmp_path / "Pulumi.test.yaml"
    path.write_text(stack().text + "  tensorrt-fleet:model:\n    runtime: tensorrt\n")
    image_name = ImageName.parse(BAKED.replace("serving", "builder"))
    lines = write_image(path, ROLES["builder"], image_name, ImageName.parse(OLD))
    assert lines[1] == "  (nothing)"
    assert StackFile.read(path).value(ROLES["builder"].image) == image_name.path
