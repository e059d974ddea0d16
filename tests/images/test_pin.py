from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from pathlib import Path

import pytest

from client.errors import ClientError, UnavailableError
from components.settings.fleet import pinned
from images.pin import pin
from images.registry import Found, Reference, challenge, look_up, versions
from images.roles import ROLES
from images.stack_file import StackFile
from tests.images import registry
from tests.images.fleets import settings
from tests.images.registry import FakeRegistry

TODAY = dt.date(2026, 11, 24)
ENVIRONMENT = ["PATH=/bin", "TRT_VERSION=10.13.2.6+cuda13.0", "TRITON_SERVER_VERSION=2.60.0"]


@pytest.fixture
def nvidia() -> Iterator[FakeRegistry]:
    with registry.running() as one:
        yield one


def stack(folder: Path, container: str, more: str = "") -> Path:
    path = folder / "Pulumi.test.yaml"
    path.write_text(f"config:\n  tensorrt-fleet:fleet:\n    container: {container} # unverified: a tag\n{more}")
    return path


def test_a_tag_becomes_tag_and_digest_with_the_versions_behind_it(nvidia: FakeRegistry, tmp_path: Path) -> None:
    digest = nvidia.publish(ENVIRONMENT)
    path = stack(tmp_path, nvidia.container)
    told = list(pin(path, TODAY))
    comment = "holds TensorRT 10.13.2.6, Triton 2.60.0 (its own word, 2026-11-24)"
    assert path.read_text().splitlines()[2] == f"    container: {nvidia.container}@{digest} # {comment}"
    assert f"  -> {nvidia.container}@{digest}" in told
    assert nvidia.asked.count("/proxy_auth") == 1


def test_pinning_again_changes_nothing_until_the_tag_moves(nvidia: FakeRegistry, tmp_path: Path) -> None:
    nvidia.publish(ENVIRONMENT)
    path = stack(tmp_path, nvidia.container)
    list(pin(path, TODAY))
    pinned = path.read_text()
    assert "the tag still names" in "\n".join(pin(path, TODAY + dt.timedelta(days=9)))
    assert path.read_text() == pinned
    moved = nvidia.publish([*ENVIRONMENT, "NEW=1"])
    list(pin(path, TODAY))
    assert path.read_text() != pinned
    assert moved in path.read_text()


def test_a_single_image_is_pinned_by_its_own_digest(nvidia: FakeRegistry, tmp_path: Path) -> None:
    digest = nvidia.publish([], {"com.nvidia.tritonserver.version": "2.60.0"}, index=False)
    path = stack(tmp_path, nvidia.container)
    list(pin(path, TODAY))
    assert f"{digest} # holds Triton 2.60.0 (" in path.read_text()


def test_an_image_that_tells_no_version_is_pinned_and_says_so(nvidia: FakeRegistry, tmp_path: Path) -> None:
    nvidia.publish(["PATH=/bin"])
    path = stack(tmp_path, nvidia.container)
    list(pin(path, TODAY))
    assert path.read_text().splitlines()[2].endswith("# pinned 2026-11-24; it tells no version")


def test_settings_take_what_is_written(nvidia: FakeRegistry, tmp_path: Path) -> None:
    nvidia.publish(ENVIRONMENT)
    path = stack(tmp_path, nvidia.container)
    list(pin(path, TODAY))
    container = StackFile.read(path).value(ROLES["serving"].container)
    assert pinned(settings(container=container).container)


def test_a_baked_image_has_the_container_by_its_old_name(nvidia: FakeRegistry, tmp_path: Path) -> None:
    nvidia.publish(ENVIRONMENT)
    baked = "    image: projects/p1/global/images/tensorrt-fleet-serving-20261124-161020-697aa860\n"
    assert "bake it again" in "\n".join(pin(stack(tmp_path, nvidia.container, baked), TODAY))


def test_a_container_named_by_digest_alone_stays(tmp_path: Path) -> None:
    path = stack(tmp_path, f"nvcr.io/nvidia/tritonserver@sha256:{'0' * 64}")
    before = path.read_text()
    assert "digest alone" in "\n".join(pin(path, TODAY, ask=unasked))
    assert path.read_text() == before


def unasked(reference: Reference) -> Found:
    raise AssertionError(reference)


def test_a_file_without_containers_says_where_one_belongs(tmp_path: Path) -> None:
    path = tmp_path / "Pulumi.test.yaml"
    path.write_text("config:\n  gcp:project: my-project\n")
    with pytest.raises(ClientError, match=r"tensorrt-fleet:fleet\.container"):
        list(pin(path, TODAY))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"refuse_tokens": True}, "tells nothing to a guest"),
        ({"challenge": 'Basic realm="x"'}, "tells nothing to a guest"),
        ({"challenge": 'Bearer realm="ftp://127.0.0.1/x"'}, "tells nothing to a guest"),
        ({"told_digest": "sha256:" + "1" * 64}, "damaged"),
        ({"manifests": {}}, "there is no such tag"),
        ({"manifests": {"25.08-py3": b"<html>"}}, "no JSON object"),
        ({"manifests": {"25.08-py3": b'{"manifests": []}'}}, "no image for linux/amd64"),
    ],
)
def test_what_a_registry_does_wrong_is_named_and_writes_nothing(
    nvidia: FakeRegistry, tmp_path: Path, change: dict[str, object], words: str
) -> None:
    nvidia.publish(ENVIRONMENT)
    for name, value in change.items():
        setattr(nvidia, name, value)
    path = stack(tmp_path, nvidia.container)
    before = path.read_text()
    with pytest.raises(ClientError, match=words):
        list(pin(path, TODAY))
    assert path.read_text() == before


def test_a_damaged_configuration_is_refused(nvidia: FakeRegistry) -> None:
    nvidia.publish(ENVIRONMENT)
    nvidia.blobs = dict.fromkeys(nvidia.blobs, b'{"config": {"Env": ["TRT_VERSION=9"]}}')
    with pytest.raises(ClientError, match=r"configuration from .* is damaged"):
        look_up(Reference.parse(nvidia.container))


def test_a_manifest_that_is_not_what_the_index_names_is_refused(nvidia: FakeRegistry) -> None:
    index = nvidia.publish(ENVIRONMENT)
    nvidia.manifests = {
        name: text if name in {"25.08-py3", index} else b"{}" for name, text in nvidia.manifests.items()
    }
    with pytest.raises(ClientError, match=r"manifest sha256:\w+ from .* is damaged"):
        look_up(Reference.parse(nvidia.container))


def test_a_registry_that_is_away_is_told() -> None:
    with registry.running() as gone:
        container = gone.container
    with pytest.raises(UnavailableError, match="did not answer"):
        look_up(Reference.parse(container))


def test_only_this_machine_is_asked_without_encryption() -> None:
    roots = {name: Reference.parse(f"{name}/a/b:1").root for name in ("nvcr.io", "127.0.0.1:5000", "localhost:1")}
    assert roots == {
        "nvcr.io": "https://nvcr.io/v2/",
        "127.0.0.1:5000": "http://127.0.0.1:5000/v2/",
        "localhost:1": "http://localhost:1/v2/",
    }


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (
            'Bearer realm="https://nvcr.io/proxy_auth",scope="repository:nvidia/x:pull"',
            {"realm": "https://nvcr.io/proxy_auth", "scope": "repository:nvidia/x:pull"},
        ),
        ('bearer service="s, with comma", realm="r"', {"service": "s, with comma", "realm": "r"}),
        ('Basic realm="r"', {}),
        ("", {}),
    ],
)
def test_challenges_are_read(header: str, expected: dict[str, str]) -> None:
    assert challenge(header) == expected


def test_versions_come_from_environment_or_labels() -> None:
    assert versions({}) == {}
    assert versions({"config": {"Env": None, "Labels": None}}) == {}
    assert versions({"config": {"Env": ["TENSORRT_VERSION=10.13", "X"]}}) == {"TensorRT": "10.13"}
