"""Reads the documentation: fenced blocks, inline code, links, and the commands in them."""

from __future__ import annotations

import functools
import io
import re
import runpy
import shlex
import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

ROOT = Path(__file__).resolve().parents[2]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
SCRIPTS = tuple(sorted((ROOT / "examples").glob("*.sh")))
SHELL = ("sh", "sh cloud")

_FENCE = re.compile(r"^```(?P<language>[^\n`]*)\n(?P<text>.*?)^```\s*$", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"`([^`\n]+)`")
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_COMMANDS = ("make ", "python -m ", "python3 -m ")


@dataclass(frozen=True, slots=True)
class Found:
    """A piece of text and where it stands."""

    where: str
    """`docs/page.md:12`."""
    text: str
    language: str = ""

    def __str__(self) -> str:
        return f"{self.where}: {self.text.strip()}"


def blocks(path: Path) -> Iterator[Found]:
    """Fenced blocks of a page."""
    page = path.read_text()
    for match in _FENCE.finditer(page):
        yield Found(_where(path, page, match.start()), match["text"], match["language"].strip())


def inline(path: Path) -> Iterator[Found]:
    """Inline code of a page, outside fenced blocks."""
    page = _without_blocks(path)
    for match in _INLINE.finditer(page):
        yield Found(_where(path, page, match.start()), match[1])


def links(path: Path) -> Iterator[Found]:
    """Link targets of a page."""
    page = _without_blocks(path)
    for match in _LINK.finditer(page):
        yield Found(_where(path, page, match.start()), match[1])


def anchors(path: Path) -> set[str]:
    """Anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ +(.+)$", _without_blocks(path), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def commands() -> Iterator[Found]:
    """Every simple command of shell blocks, scripts and inline code."""
    for path in PAGES:
        for block in blocks(path):
            if block.language in SHELL:
                yield from _lines(block)
        yield from (one for one in inline(path) if one.text.startswith(_COMMANDS))
    for path in SCRIPTS:
        yield from _lines(Found(str(path.relative_to(ROOT)), path.read_text()))


def words(command: str) -> list[str]:
    """Words of a command, comments left out; empty if it is only part of one."""
    try:
        return shlex.split(command, comments=True)
    except ValueError:
        return []


@dataclass(frozen=True, slots=True)
class ModuleCall:
    """`python -m MODULE SUBCOMMAND FLAGS`."""

    module: str
    subcommand: str | None
    flags: tuple[str, ...]


def module_calls(command: list[str]) -> Iterator[ModuleCall]:
    """Calls of modules in a command; what follows `--` is a command of its own."""
    for index, word in enumerate(command[:-1]):
        if word == "-m" and index and re.search(r"python[0-9.]*$", command[index - 1]):
            rest = command[index + 2 :]
            own = rest[: rest.index("--")] if "--" in rest else rest
            subcommand = (
                own[0] if own and re.fullmatch(r"[a-z-]*[a-z]", own[0]) and not own[0].startswith("-") else None
            )
            flags = tuple(one.partition("=")[0] for one in own if one.startswith("--"))
            yield ModuleCall(command[index + 1], subcommand, flags)


def make_targets(command: list[str]) -> Iterator[str]:
    """Targets that a `make` command names."""
    if command and command[0] == "make":
        yield from (one for one in command[1:] if not one.startswith("-") and "=" not in one)


@functools.cache
def help_of(module: str, subcommand: str | None) -> str | None:
    """What `python -m MODULE SUBCOMMAND --help` prints, or None where it fails."""
    out = io.StringIO()
    with (
        mock.patch.object(sys, "argv", [module, *([subcommand] if subcommand else []), "--help"]),
        redirect_stdout(out),
    ):
        try:
            runpy.run_module(module, run_name="__main__")
        except SystemExit as end:
            return out.getvalue() if end.code == 0 else None
        except ImportError:
            return None
    return None


def _lines(block: Found) -> Iterator[Found]:
    joined = block.text.replace("\\\n", " ")
    for line in joined.splitlines():
        for part in re.split(r"&&|\|\||[;|]", line):
            command = re.sub(r'^\s*(?:[A-Z_]+=(?:"[^"]*"|\S*)\s+)+', "", part).partition(" >")[0].strip()
            if command and not command.startswith("#"):
                yield Found(block.where, command)


def _without_blocks(path: Path) -> str:
    """The page with fenced blocks blanked, so that line numbers hold."""
    return _FENCE.sub(lambda match: "\n" * match[0].count("\n"), path.read_text())


def _where(path: Path, page: str, offset: int) -> str:
    return f"{path.relative_to(ROOT)}:{page.count(chr(10), 0, offset) + 1}"
