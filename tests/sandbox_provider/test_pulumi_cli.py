"""Which CLI is used: the pinned one on PATH, else the one in the cache."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from tools import pulumi_cli

REPOSITORY = Path(__file__).resolve().parents[2]


def program(folder: Path, version: str, *, language_host: bool = True) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    made = folder / "pulumi"
    made.write_text(f"#!/bin/sh\necho {version}\n")
    made.chmod(0o755)
    if language_host:
        (folder / pulumi_cli.LANGUAGE_HOST).touch()
    return made


@pytest.fixture
def cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return program(tmp_path / "cache" / "tensorrt-fleet" / f"pulumi-{pulumi_cli.VERSION}" / "bin", "cached")


@pytest.fixture
def said() -> list[str]:
    return []


def test_the_pinned_version_on_path_is_used(tmp_path: Path, cached: Path, said: list[str]) -> None:
    mine = program(tmp_path / "bin", f"v{pulumi_cli.VERSION}")
    assert pulumi_cli.find(said.append, f"{tmp_path / 'bin'}{os.pathsep}/bin") == mine
    assert said == []
    assert cached.exists()


@pytest.mark.parametrize("version", ["v3.258.0", "v3.259.0-dev", "v4.0.0", "''"])
def test_another_version_on_path_is_named_and_skipped(
    tmp_path: Path, cached: Path, said: list[str], version: str
) -> None:
    mine = program(tmp_path / "bin", version)
    assert pulumi_cli.find(said.append, f"{tmp_path / 'bin'}{os.pathsep}/bin") == cached
    assert len(said) == 1
    assert str(mine) in said[0]
    assert f"{pulumi_cli.VERSION} is pinned" in said[0]


def test_one_without_a_language_host_is_named_and_skipped(tmp_path: Path, cached: Path, said: list[str]) -> None:
    program(tmp_path / "bin", f"v{pulumi_cli.VERSION}", language_host=False)
    assert pulumi_cli.find(said.append, f"{tmp_path / 'bin'}{os.pathsep}/bin") == cached
    assert pulumi_cli.LANGUAGE_HOST in said[0]


def test_the_language_host_is_put_beside_the_built_cli_and_kept_up_to_date(cached: Path, said: list[str]) -> None:
    host = cached.with_name(pulumi_cli.LANGUAGE_HOST)
    assert pulumi_cli.find(said.append, "/nowhere") == cached
    assert host.read_bytes() == (REPOSITORY / "tools" / "language_host.py").read_bytes()
    assert os.access(host, os.X_OK)
    host.write_text("old")
    pulumi_cli.find(said.append, "/nowhere")
    assert host.read_text() != "old"


def test_a_build_that_fails_says_what_to_do_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: list[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    go = tmp_path / "bin" / "go"
    go.parent.mkdir()
    go.write_text('#!/bin/sh\n[ "$1" = env ] && echo go1.99.0 && exit 0\necho "no route to proxy" >&2\nexit 1\n')
    go.chmod(0o755)
    with pytest.raises(pulumi_cli.CliError, match="no route to proxy") as failure:
        pulumi_cli.find(said.append, f"{go.parent}{os.pathsep}/bin{os.pathsep}/usr/bin")
    assert f"install Pulumi {pulumi_cli.VERSION} yourself" in str(failure.value)
    folder = tmp_path / "cache" / "tensorrt-fleet" / f"pulumi-{pulumi_cli.VERSION}" / "bin"
    assert [path.name for path in folder.iterdir()] == [".lock"]


def test_cli_and_sdk_are_pinned_to_one_version() -> None:
    module = (REPOSITORY / "tools" / "go.mod").read_text()
    assert f"github.com/pulumi/pulumi/pkg/v3 v{pulumi_cli.VERSION}" in module
    requirements = (REPOSITORY / "requirements.in").read_text()
    assert re.search(rf"^pulumi=={re.escape(pulumi_cli.VERSION)}$", requirements, re.MULTILINE)
