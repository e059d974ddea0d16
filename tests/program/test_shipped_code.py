"""The program that is shipped knows one cloud and no environments."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.program.harness import REPOSITORY, STACKS

SHIPPED = (
    "__main__.py",
    "contract.py",
    "artifact",
    "components",
    "model",
    "serving",
    "startup",
    "client",
    "images",
    "policy",
)
GOOGLES_VARIABLE = "STORAGE_EMULATOR_HOST"
PROGRAM = ("__main__.py", "components")


def files(entries: tuple[str, ...]) -> Iterator[Path]:
    for entry in entries:
        place = REPOSITORY / entry
        found = place.rglob("*") if place.is_dir() else [place]
        yield from (path for path in found if path.is_file() and "__pycache__" not in path.parts)


@pytest.mark.parametrize("word", ["sandbox", "emulator"])
def test_shipped_code_does_not_know_what_stands_in_for_the_cloud(word: str) -> None:
    holding = [
        str(path.relative_to(REPOSITORY))
        for path in files(SHIPPED)
        if word in path.read_text(encoding="utf-8", errors="replace").replace(GOOGLES_VARIABLE, "").lower()
    ]
    assert holding == []


def test_the_program_names_no_stack() -> None:
    """A stack's name as a text in the program would be the start of a branch on the environment."""
    named = [
        f"{path.relative_to(REPOSITORY)}:{node.lineno}: {node.value!r}"
        for path in files(PROGRAM)
        if path.suffix == ".py"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and node.value in STACKS
    ]
    assert named == []


def test_the_main_module_decides_nothing() -> None:
    tree = ast.parse((REPOSITORY / "__main__.py").read_text(encoding="utf-8"))
    decisions = [
        node.lineno for node in ast.walk(tree) if isinstance(node, ast.If | ast.IfExp | ast.Match | ast.BoolOp)
    ]
    assert decisions == []


def test_components_call_no_cloud_and_start_no_process() -> None:
    """They describe; what talks to a cloud is a gate, in a module of its own."""
    forbidden = re.compile(
        r"^\s*(?:import|from) (?:google|requests|httpx|urllib|socket|subprocess|aiohttp)\b", re.MULTILINE
    )
    calling = [
        str(path.relative_to(REPOSITORY))
        for path in files(("components",))
        if path.suffix == ".py" and path.name != "gates.py" and forbidden.search(path.read_text(encoding="utf-8"))
    ]
    assert calling == []


def test_arrows_point_one_way() -> None:
    """The program knows what an artifact is; of the rest only the gates know anything: how to wait for a fleet."""
    others = re.compile(r"^\s*(?:import|from) (client|serving|model|images|tools|sandbox|docs|tests)\b", re.MULTILINE)
    found = {
        (path.name, name)
        for path in files(PROGRAM)
        if path.suffix == ".py"
        for name in others.findall(path.read_text(encoding="utf-8"))
    }
    assert found == {("gates.py", "client")}


def test_environment_variables_do_not_reach_the_program() -> None:
    reading = [
        str(path.relative_to(REPOSITORY))
        for path in files(PROGRAM)
        if path.suffix == ".py" and re.search(r"\bos\.(environ|getenv)\b", path.read_text(encoding="utf-8"))
    ]
    assert reading == []
