from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="write what the program does now as what is expected")


@pytest.fixture
def update_golden(request: pytest.FixtureRequest) -> bool:
    # Absent unless tests/program is named on the command line: a run of all tests never rewrites what it checks.
    return bool(request.config.getoption("--update-golden", default=False))
