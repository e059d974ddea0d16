from __future__ import annotations

import hashlib
import io
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from artifact.archive import file_entry, unpack_archive, verify_file, write_archive
from artifact.errors import ArtifactError
from artifact.manifest import FileEntry

FILES = {"labels.txt": b"cat\ndog\n", "onnx/fp32.image.onnx": bytes(range(256)) * 40}


def make(folder: Path, files: dict[str, bytes] = FILES) -> dict[str, FileEntry]:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return {name: file_entry(folder / name) for name in files}


def entry(content: bytes) -> FileEntry:
    return FileEntry(sha256=hashlib.sha256(content).hexdigest(), size=len(content))


def tar_of(path: Path, build: Callable[[tarfile.TarFile], None]) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        build(tar)
    return path


def add(tar: tarfile.TarFile, name: str, content: bytes = b"x", kind: bytes = tarfile.REGTYPE, link: str = "") -> None:
    member = tarfile.TarInfo(name)
    member.size, member.type, member.linkname = len(content), kind, link
    tar.addfile(member, io.BytesIO(content))


def test_equal_files_give_equal_archives_whatever_their_times_modes_and_order(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    make(one)
    make(two, dict(reversed(FILES.items())))
    os.utime(two / "labels.txt", (1, 1))
    (two / "labels.txt").chmod(0o600)
    first, second = write_archive(one, FILES), write_archive(two, reversed(list(FILES)))
    assert first == second
    content = (one / first.name).read_bytes()
    assert content == (two / second.name).read_bytes()
    assert content[4:8] == bytes(4)  # gzip's own time stamp


def test_the_archive_is_named_by_its_content(tmp_path: Path) -> None:
    make(tmp_path)
    archive = write_archive(tmp_path, FILES)
    assert archive.name == f"model-{file_entry(tmp_path / archive.name).sha256}.tar.gz"
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(["labels.txt", "onnx", archive.name])


def test_unpacking_gives_the_files_back(tmp_path: Path) -> None:
    files = make(tmp_path / "in")
    archive = write_archive(tmp_path / "in", FILES)
    out = tmp_path / "out"
    out.mkdir()
    unpack_archive(tmp_path / "in" / archive.name, files, out)
    assert {str(p.relative_to(out)): p.read_bytes() for p in out.rglob("*") if p.is_file()} == FILES


@pytest.mark.parametrize("name", ["../escape", "/etc/escape", "onnx/../../escape"])
def test_a_member_outside_the_folder_is_refused(tmp_path: Path, name: str) -> None:
    path = tar_of(tmp_path / "a.tar.gz", lambda tar: add(tar, name))
    out = tmp_path / "deep" / "out"
    out.mkdir(parents=True)
    with pytest.raises(ArtifactError, match="outside its folder"):
        unpack_archive(path, {name: entry(b"x")}, out)
    assert not list(out.rglob("*"))
    assert not list(tmp_path.rglob("escape"))


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE])
def test_only_plain_files_are_unpacked(tmp_path: Path, kind: bytes) -> None:
    path = tar_of(tmp_path / "a.tar.gz", lambda tar: add(tar, "labels.txt", b"", kind, "/etc/passwd"))
    with pytest.raises(ArtifactError, match="no plain file"):
        unpack_archive(path, {"labels.txt": entry(b"")}, tmp_path)


def test_an_unlisted_file_is_refused(tmp_path: Path) -> None:
    path = tar_of(tmp_path / "a.tar.gz", lambda tar: add(tar, "extra"))
    with pytest.raises(ArtifactError, match="'extra', which the manifest does not list"):
        unpack_archive(path, {}, tmp_path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    path = tar_of(tmp_path / "a.tar.gz", lambda tar: add(tar, "labels.txt"))
    with pytest.raises(ArtifactError, match=r"lacks signature\.json"):
        unpack_archive(path, {"labels.txt": entry(b"x"), "signature.json": entry(b"x")}, tmp_path)


def test_a_member_of_another_size_or_content_is_refused(tmp_path: Path) -> None:
    path = tar_of(tmp_path / "a.tar.gz", lambda tar: add(tar, "labels.txt", b"evil"))
    for number, expected in enumerate((b"mild", b"longer")):
        out = tmp_path / str(number)
        out.mkdir()
        with pytest.raises(ArtifactError, match="manifest says"):
            unpack_archive(path, {"labels.txt": entry(expected)}, out)


@pytest.mark.parametrize("spoil", [lambda b: b[: len(b) // 2], lambda b: b[:300] + b"\0" * 9 + b[309:], lambda _: b""])
def test_a_damaged_archive_is_an_artifact_error(tmp_path: Path, spoil: Callable[[bytes], bytes]) -> None:
    files = make(tmp_path / "in", {"weights": os.urandom(4000)})
    archive = write_archive(tmp_path / "in", files)
    path = tmp_path / "spoilt.tar.gz"
    path.write_bytes(spoil((tmp_path / "in" / archive.name).read_bytes()))
    with pytest.raises(ArtifactError):
        unpack_archive(path, files, tmp_path)


def test_a_bomb_is_refused_before_it_is_opened(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="more than"):
        unpack_archive(tmp_path / "absent.tar.gz", {"big": FileEntry(sha256="0" * 64, size=2**40)}, tmp_path)


def test_a_wrong_digest_names_both(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"new")
    with pytest.raises(ArtifactError) as error:
        verify_file(tmp_path / "f", entry(b"old"), "the file")
    assert entry(b"new").sha256 in str(error.value)
    assert entry(b"old").sha256 in str(error.value)
