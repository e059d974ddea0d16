from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from client.errors import ClientError
from images.roles import ROLES
from images.stack_file import StackFile
from tests.program.harness import REPOSITORY, STACKS

IMAGE = ROLES["serving"].image
CONTAINER = ROLES["serving"].container
NEW = "projects/my-project/global/images/tensorrt-fleet-serving-20261124-161020-697aa860"


def file(text: str) -> StackFile:
    return StackFile(Path("Pulumi.test.yaml"), text)


def fleet(lines: str) -> StackFile:
    return file(f"config:\n  tensorrt-fleet:fleet:\n{lines}\n  gcp:region: us-central1 # here\n")


@pytest.mark.parametrize("stack", STACKS)
def test_one_line_of_the_repositorys_files_changes_and_nothing_else(stack: str) -> None:
    before = StackFile.read(REPOSITORY / f"Pulumi.{stack}.yaml")
    after = before.changed(IMAGE, NEW)
    pairs = list(zip(before.text.splitlines(), after.text.splitlines(), strict=True))
    assert [new for old, new in pairs if old != new] == [f"    image: {NEW}"]
    assert after.value(IMAGE) == NEW
    assert after.text.endswith("\n")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("    image: old", f"    image: {NEW}"),
        ("    image:    old", f"    image:    {NEW}"),
        ('    image: "old"', f"    image: {NEW}"),
        ("    image: 'old' # mine", f"    image: {NEW} # mine"),
        ("    image: old   # mine", f"    image: {NEW} # mine"),
        ("    'image': old", f"    'image': {NEW}"),
        ("    image:\n      old", f"    image:\n      {NEW}"),
        ("    {tags: [a], image: old, paused: false} # mine", f"    {{tags: [a], image: {NEW}, paused: false}} # mine"),
        ("    image: old\n    # below", f"    image: {NEW}\n    # below"),
    ],
)
def test_a_value_is_replaced_however_it_is_written(line: str, expected: str) -> None:
    assert fleet(line).changed(IMAGE, NEW).text == fleet(expected).text


@pytest.mark.parametrize(
    ("comment", "expected"),
    [
        ("", " # baked from x"),
        (" # unverified: a tag, until `make pin-containers` has written the digest", " # baked from x"),
        (" # baked from w", " # baked from x"),
        (" # baked from w; ask Ada first", " # baked from x; ask Ada first"),
        (" # ask Ada first", " # baked from x; ask Ada first"),
        (" # two; parts", " # baked from x; two; parts"),
    ],
)
def test_own_comments_are_replaced_and_peoples_stay(comment: str, expected: str) -> None:
    once = fleet(f"    image: old{comment}").changed(IMAGE, NEW, "baked from x")
    assert once.text == fleet(f"    image: {NEW}{expected}").text
    assert once.changed(IMAGE, NEW, "baked from x") == once


def test_an_own_comment_goes_with_what_it_spoke_of() -> None:
    assert fleet("    image: old # baked from w").changed(IMAGE, NEW).text == fleet(f"    image: {NEW}").text


def test_no_comment_is_put_into_the_middle_of_an_object() -> None:
    edited = fleet("    {image: old, paused: true}").changed(IMAGE, NEW, "baked from x")
    assert edited.text == fleet(f"    {{image: {NEW}, paused: true}}").text


def test_windows_line_ends_and_a_missing_last_one_stay(tmp_path: Path) -> None:
    path = tmp_path / "Pulumi.test.yaml"
    path.write_bytes(b"config:\r\n  tensorrt-fleet:fleet:\r\n    image: old\r\n    paused: true")
    StackFile.read(path).changed(IMAGE, NEW).write()
    assert path.read_bytes() == f"config:\r\n  tensorrt-fleet:fleet:\r\n    image: {NEW}\r\n    paused: true".encode()


def test_a_value_that_means_something_to_yaml_is_quoted() -> None:
    assert yaml.safe_load(fleet("    image: old").changed(IMAGE, "a # b").text)["config"][IMAGE[0]]["image"] == "a # b"


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ("    paused: true # mine", f"    paused: true # mine\n    image: {NEW} # baked from x"),
        (
            "    a: 1\n    # of b\n    b:\n      c: 1",
            f"    a: 1\n    image: {NEW} # baked from x\n    # of b\n    b:\n      c: 1",
        ),
        ("    a:\n      b: 1\n    tags: [c]", f"    a:\n      b: 1\n    tags: [c]\n    image: {NEW} # baked from x"),
    ],
)
def test_a_missing_value_gets_a_line_of_its_own(lines: str, expected: str) -> None:
    assert fleet(lines).changed(IMAGE, NEW, "baked from x").text == fleet(expected).text


def test_missing_objects_are_added_too() -> None:
    text = "config:\n  tensorrt-fleet:model:\n    source: builtin # mine"
    added = f"{text}\n    builder:\n      image: {NEW}\n"
    assert file(text).changed(ROLES["builder"].image, NEW).text == added


@pytest.mark.parametrize("stack", STACKS)
def test_the_repositorys_files_take_an_image_for_the_builder(stack: str) -> None:
    before = StackFile.read(REPOSITORY / f"Pulumi.{stack}.yaml")
    after = before.changed(ROLES["builder"].image, NEW)
    assert after.value(ROLES["builder"].image) == NEW
    removed = set(before.text.splitlines()) - set(after.text.splitlines())
    assert all("image: " in line for line in removed)


@pytest.mark.parametrize(
    "lines",
    [
        "    {paused: true}",
        "    pools:\n      - 1",
        "    image: [a]",
        "    image: |\n      old",
        "    image: &one old\n    container: *one",
        "    container: &one old\n    image: *one",
    ],
)
def test_what_cannot_be_edited_in_place_is_told_and_not_touched(lines: str) -> None:
    with pytest.raises(ClientError, match=r"by hand"):
        fleet(lines).changed(IMAGE, NEW)


def test_the_file_is_replaced_whole_and_keeps_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "Pulumi.test.yaml"
    path.write_text(fleet("    image: old").text)
    path.chmod(0o640)
    StackFile.read(path).changed(IMAGE, NEW).write()
    assert (path.read_text(), path.stat().st_mode & 0o777) == (fleet(f"    image: {NEW}").text, 0o640)
    assert [one.name for one in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize(
    ("text", "words"),
    [(None, "Pulumi.other.yaml"), ("a: [", "is not YAML"), ("name: x", "no object `config`"), ("", "no object")],
)
def test_files_that_are_none_say_so(tmp_path: Path, text: str | None, words: str) -> None:
    (tmp_path / "Pulumi.other.yaml").touch()
    path = tmp_path / "Pulumi.test.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ClientError, match=words):
        StackFile.read(path)


def test_values_are_found_by_their_path() -> None:
    stack = fleet("    pools: [{zones: [us-central1-a]}]")
    assert stack.required((IMAGE[0], "pools", 0, "zones", 0), "") == "us-central1-a"
    for keys in ((IMAGE[0], "pools", 1), (IMAGE[0], "pools", "zones"), ("none", "x"), (IMAGE[0], "pools", 0, "zones")):
        with pytest.raises(ClientError, match="for example x"):
            stack.required(keys, "x")
