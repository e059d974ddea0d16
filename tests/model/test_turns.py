from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from model.build.folder import finished, install, work_folder
from tests.model.tiny import KEY, write_tiny_artifact
from tests.model.turns import turn

LIMIT_S = 20


def test_who_comes_while_another_builds_waits_and_finds_what_it_built(tmp_path: Path) -> None:
    out = tmp_path / "cache" / "artifact"
    at_work, let_go = threading.Event(), threading.Event()

    def builds() -> bool:
        with turn(out):
            if finished(out, KEY):
                return False
            with work_folder(out) as work:
                at_work.set()
                assert let_go.wait(LIMIT_S)
                write_tiny_artifact(work)
                install(work, out)
                return True

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(builds)
        assert at_work.wait(LIMIT_S)
        second = pool.submit(builds)
        try:
            with pytest.raises(TimeoutError):
                second.result(0.2)
        finally:
            let_go.set()
        assert first.result(LIMIT_S)
        assert not second.result(LIMIT_S)
