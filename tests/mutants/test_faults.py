"""The list of faults stays true to the code: each still applies, and names a test that exists."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.mutants.faults import FAULTS, Fault

REPOSITORY = Path(__file__).resolve().parent.parent.parent


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_fault_applies_to_exactly_one_place(fault: Fault) -> None:
    text = (REPOSITORY / fault.file).read_text()
    assert fault.apply(text) != text


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_named_test_exists(fault: Fault) -> None:
    file, _, name = fault.test.partition("::")
    functions = {
        node.name
        for node in ast.walk(ast.parse((REPOSITORY / file).read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert name.rpartition("::")[2].partition("[")[0] in functions


def test_names_are_unique() -> None:
    assert len({fault.name for fault in FAULTS}) == len(FAULTS)
