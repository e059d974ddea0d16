"""A bundle's bytes depend on its files and on nothing else, and any gzip reads it."""

from __future__ import annotations

import gzip
import io
import os
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from artifact.key import build_code_files
from components.bundle import BUILDER_CODE, SERVING_CODE, gzip_stored, write_bundle
from tests.program.harness import REPOSITORY


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "code" / "inner").mkdir(parents=True)
    (tmp_path / "code" / "b.py").write_text("b\n")
    (tmp_path / "code" / "inner" / "a.sh").write_text("#!/bin/bash\n")
    (tmp_path / "single.txt").write_text("one\n")
    return tmp_path


ENTRIES = ("single.txt", "code")


def members(archive: Path) -> list[tarfile.TarInfo]:
    with tarfile.open(archive, mode="r:gz") as opened:
        return opened.getmembers()


def test_times_modes_caches_and_order_of_creation_do_not_show(
    tree: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = tmp_path_factory.mktemp("other")
    (other / "single.txt").write_text("one\n")
    (other / "code" / "inner" / "__pycache__").mkdir(parents=True)
    (other / "code" / "inner" / "__pycache__" / "a.pyc").write_bytes(b"x")
    (other / "code" / "inner" / "a.sh").write_text("#!/bin/bash\n")
    (other / "code" / "inner" / "a.sh").chmod(0o700)
    (other / "code" / "b.py").write_text("b\n")
    os.utime(other / "code" / "b.py", (0, 0))

    one, two = write_bundle(tree, ENTRIES), write_bundle(other, ENTRIES)

    assert one.sha256 == two.sha256
    assert (tree / one.path).read_bytes() == (other / two.path).read_bytes()


def test_contents_and_names_show(tree: Path) -> None:
    before = write_bundle(tree, ENTRIES)
    (tree / "code" / "b.py").write_text("c\n")
    changed = write_bundle(tree, ENTRIES)
    (tree / "code" / "b.py").rename(tree / "code" / "c.py")
    renamed = write_bundle(tree, ENTRIES)

    assert len({before.sha256, changed.sha256, renamed.sha256}) == 3
    assert before.object_name == f"code/{before.sha256}.tar.gz"


def test_members_are_sorted_anonymous_files(tree: Path) -> None:
    found = members(tree / write_bundle(tree, ENTRIES).path)

    assert [(m.name, oct(m.mode)) for m in found] == [
        ("code/b.py", "0o644"),
        ("code/inner/a.sh", "0o755"),
        ("single.txt", "0o644"),
    ]
    assert {(m.mtime, m.uid, m.gid, m.uname, m.gname) for m in found} == {(0, 0, 0, "", "")}


def test_a_missing_entry_is_named(tree: Path) -> None:
    with pytest.raises(FileNotFoundError, match="absent"):
        write_bundle(tree, ("absent",))


@pytest.mark.parametrize(("role", "entries"), [("serving", SERVING_CODE), ("model", BUILDER_CODE)])
def test_a_bundle_has_what_a_vm_of_its_role_runs(role: str, entries: tuple[str, ...]) -> None:
    names = {member.name for member in members(REPOSITORY / write_bundle(REPOSITORY, entries).path)}

    assert names >= {"contract.py", f"locks/{role}.txt", f"{role}/__main__.py", "artifact/uri.py"}
    assert not [name for name in names if name.split("/")[0] not in {entry.split("/")[0] for entry in entries}]
    assert {name for name in names if name.startswith("startup/")} == {"startup/install.sh"}


def test_a_builder_runs_exactly_what_its_artifacts_key_is_made_from() -> None:
    names = {member.name for member in members(REPOSITORY / write_bundle(REPOSITORY, BUILDER_CODE).path)}

    assert names - {"startup/install.sh"} == {str(path) for path in build_code_files(REPOSITORY)}


@given(st.binary(max_size=200) | st.integers(0, 200_000).map(bytes))
def test_stored_gzip_is_gzip(content: bytes) -> None:
    packed = gzip_stored(content)

    assert gzip.decompress(packed) == content
    with gzip.open(io.BytesIO(packed)) as opened:
        assert opened.read() == content
