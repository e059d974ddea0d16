from __future__ import annotations

import json
from pathlib import Path

import pytest

from client.errors import ClientError
from client.google import Json
from images.bump import bump
from images.names import DEFAULT_FAMILY
from tests.images.fleets import CONTAINER, FAMILY, STOCK, FakeCompute, image

OLD, NEW = f"{STOCK}-v20260820", f"{STOCK}-v20261103"
BAKED = "projects/my-project/global/images/tensorrt-fleet-serving-20261124-161020-697aa860"


def google(others: dict[str, Json] | None = None) -> FakeCompute:
    """The stock image, and a newer one of its family."""
    known = {OLD: image(OLD, family=FAMILY), DEFAULT_FAMILY: image(NEW, family=FAMILY)}
    return FakeCompute(images=known | (others or {}))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "Pulumi.test.yaml"


def write(file: Path, name: str) -> str:
    text = f"config:\n  tensorrt-fleet:fleet:\n    image: {name} # ask Ada\n    container: {CONTAINER}\n"
    file.write_text(text)
    return text


def test_the_newest_of_the_family_is_written_by_its_exact_name(file: Path) -> None:
    text = write(file, OLD)
    told = list(bump(file, google(), "test"))
    assert file.read_text() == text.replace(OLD, NEW)
    assert told[1:3] == [f"  {OLD}", f"  -> {NEW}"]
    assert "/family/" not in file.read_text()


def test_nothing_newer_changes_nothing_and_says_so(file: Path) -> None:
    text = write(file, NEW)
    told = list(bump(file, google({NEW: image(NEW, family=FAMILY)}), "test"))
    assert "is the newest of its family" in told[0]
    assert told[1] == "Pulumi.test.yaml stays as it is"
    assert file.read_text() == text


def test_a_family_that_was_rolled_back_takes_no_stack_back(file: Path) -> None:
    text = write(file, NEW)
    known = {NEW: image(NEW, family=FAMILY), DEFAULT_FAMILY: image(OLD, family=FAMILY)}
    list(bump(file, FakeCompute(images=known), "test"))
    assert file.read_text() == text


def test_a_family_in_the_file_becomes_an_image(file: Path) -> None:
    write(file, DEFAULT_FAMILY)
    list(bump(file, google(), "test"))
    assert f"image: {NEW} #" in file.read_text()


def test_an_image_that_is_gone_has_the_family_of_its_name(file: Path) -> None:
    write(file, f"{STOCK}-v20250101")
    list(bump(file, google(), "test"))
    assert NEW in file.read_text()


@pytest.mark.parametrize(
    ("name", "found", "words"),
    [
        ("projects/debian-cloud/global/images/mine", None, "its name tells no family"),
        ("projects/debian-cloud/global/images/mine", {}, "belongs to no family"),
        ("projects/debian-cloud/global/images/debian-12-v20260101", None, "no image that is not deprecated"),
    ],
)
def test_an_image_without_a_family_is_told(file: Path, name: str, found: dict[str, str] | None, words: str) -> None:
    text = write(file, name)
    known = FakeCompute(images={} if found is None else {name: image(name)})
    with pytest.raises(ClientError, match=words):
        list(bump(file, known, "test"))
    assert file.read_text() == text


@pytest.mark.parametrize(
    ("base", "words"),
    [
        (OLD, f"python -m images bake --role serving --stack test --base {NEW}"),
        (NEW, "was baked from the newest stock image"),
        ("", "is no stock image: `python -m images bake --role serving --stack test` bakes one"),
    ],
)
def test_a_baked_image_is_baked_again_not_edited(file: Path, base: str, words: str) -> None:
    text = write(file, BAKED)
    baked = image(BAKED, description=json.dumps({"base": base}) if base else "")
    told = list(bump(file, google({BAKED: baked, NEW: image(NEW, family=FAMILY)}), "test"))
    assert words in "\n".join(told)
    assert file.read_text() == text


def test_a_file_without_images_says_where_one_belongs(file: Path) -> None:
    file.write_text("config:\n  gcp:project: my-project\n")
    with pytest.raises(ClientError, match=r"tensorrt-fleet:fleet\.image"):
        list(bump(file, google(), "test"))
