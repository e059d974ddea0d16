"""What the documentation names exists, what it tells to type is a command, and its tables are the code's."""

from __future__ import annotations

import dataclasses
import re
import subprocess
from pathlib import Path

import pytest
from pydantic.alias_generators import to_camel

from docs import generate
from docs.settings_reference import settings
from sandbox.settings import SandboxSettings
from tests.docs import pages
from tests.docs.pages import PAGES, ROOT, SCRIPTS, Found

LANGUAGES = {*pages.SHELL, "json", "yaml", "python", "mermaid", "text"}
SETTING_PATHS = {setting.path for setting in settings()}
SETTING_PARENTS = {path.rpartition(".")[0] for path in SETTING_PATHS} | {
    path.removesuffix("[]") for path in SETTING_PATHS
}
TOP_LEVEL = {path.name for path in ROOT.iterdir()}
MADE_LATER = re.compile(r"^(\.sandbox|\.cache|build)(/|$)")
"""Folders that commands make."""


def page_id(path: Path) -> str:
    return str(path.relative_to(ROOT))


each_page = pytest.mark.parametrize("page", PAGES, ids=page_id)


@each_page
def test_every_block_says_what_it_is(page: Path) -> None:
    assert [str(block) for block in pages.blocks(page) if block.language not in LANGUAGES] == []


@each_page
def test_every_shell_block_is_valid_bash(page: Path) -> None:
    for block in pages.blocks(page):
        if block.language in pages.SHELL:
            checked = subprocess.run(["bash", "-n"], input=block.text, capture_output=True, text=True, check=False)
            assert (checked.returncode, checked.stderr) == (0, ""), str(block)


@pytest.mark.parametrize("script", SCRIPTS, ids=page_id)
def test_every_script_is_valid_bash(script: Path) -> None:
    checked = subprocess.run(["bash", "-n", script], capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stderr) == (0, "")


def test_every_make_target_exists() -> None:
    targets = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = [
        (command, target) for command in pages.commands() for target in pages.make_targets(pages.words(command.text))
    ]
    assert len(named) > 20, "the commands are found"
    assert [str(command) for command, target in named if target not in targets] == []


def test_every_module_command_takes_its_flags() -> None:
    calls = [(command, call) for command in pages.commands() for call in pages.module_calls(pages.words(command.text))]
    assert len(calls) > 20, "the commands are found"
    wrong = []
    for command, call in calls:
        text = pages.help_of(call.module, call.subcommand)
        if text is None:
            wrong.append(f"{command}: `python -m {call.module} {call.subcommand or ''} --help` fails")
        else:
            known = set(re.findall(r"--[a-z][a-z-]*", text))
            wrong += [f"{command}: no flag {flag}" for flag in call.flags if flag not in known]
    assert wrong == []


@each_page
def test_every_link_leads_somewhere(page: Path) -> None:
    wrong = []
    for link in pages.links(page):
        if re.match(r"https?://", link.text):
            continue
        path, _, anchor = link.text.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in pages.anchors(target)):
            wrong.append(str(link))
    assert wrong == []


def is_path(text: str) -> bool:
    """Whether inline code reads as a path of this repository."""
    if not re.fullmatch(r"[\w./-]+", text) or MADE_LATER.match(text):
        return False
    first = text.partition("/")[0]
    return ("/" in text and first in TOP_LEVEL) or bool(re.search(r"\.(py|sh|md|toml|yaml|txt|in)$", text))


@each_page
def test_every_path_exists(page: Path) -> None:
    written = {"labels.txt", "log.txt", "out.json"}
    """Parts of an artifact, and what commands write."""
    wrong = [
        str(code)
        for code in pages.inline(page)
        if is_path(code.text) and code.text not in written and not exists(page, code)
    ]
    assert wrong == []


def exists(page: Path, code: Found) -> bool:
    return (ROOT / code.text).exists() or (page.parent / code.text).exists()


@each_page
def test_every_setting_exists(page: Path) -> None:
    sections = "|".join(sorted({path.partition(".")[0] for path in SETTING_PATHS}))
    mentioned = [
        (code, match[1])
        for code in (*pages.inline(page), *pages.blocks(page))
        for match in re.finditer(rf"(?<![\w/.-])((?:{sections})(?:\.\w+(?:\[\])?)+)(?![\w/])", code.text)
        if code.language not in {"mermaid", "python"} and not match[1].endswith((".py", ".txt", ".json"))
    ]
    known = SETTING_PATHS | SETTING_PARENTS
    assert [str(code) for code, path in mentioned if path not in known] == []


def test_dials_of_the_sandbox_are_its_settings() -> None:
    rows = re.findall(r"^\| `(\w+)` \| ([\d.]+) \|", (ROOT / "docs" / "sandbox.md").read_text(), re.MULTILINE)
    defaults = {field.name: field.default for field in dataclasses.fields(SandboxSettings)}
    dials = {to_camel(name): default for name, default in defaults.items() if isinstance(default, float)}
    assert {name: float(default) for name, default in rows} == dials


@pytest.mark.parametrize("page", generate.PAGES, ids=lambda page: str(page.path.name))
def test_tables_are_those_of_the_code(page: generate.Page) -> None:
    """Run `python -m docs.generate` where this fails."""
    assert page.path.read_text() == page.rewritten()
