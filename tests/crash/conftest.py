"""How many points: `python -m pytest tests/crash --points 50`."""

from __future__ import annotations

import pytest

DEFAULT_POINTS = 5


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--points", type=int, default=DEFAULT_POINTS, help="crashes to survive, each of a seed of its own")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "seed" in metafunc.fixturenames:
        # The option is there only where this folder is named on the command line.
        points = metafunc.config.getoption("--points", DEFAULT_POINTS)
        metafunc.parametrize("seed", range(points))
