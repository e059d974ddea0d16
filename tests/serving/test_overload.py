"""More requests than a VM's real processes will take: refused at once, on connections that stay, health being 200."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from artifact.folder import ArtifactFolder
from benchmarks.serving.generator import generate
from benchmarks.serving.overload import watched_health
from benchmarks.serving.vm import running
from tests.model.tiny import COLOURS, colour_jpeg
from tests.serving.conftest import b64

pytestmark = pytest.mark.servers

HOST = "127.208.18.1"
CONCURRENCY = 64


def test_what_is_too_much_is_refused_and_nothing_else_suffers(tiny: ArtifactFolder, tmp_path: Path) -> None:
    bodies = [tmp_path / name for name in COLOURS]
    for body in bodies:
        photo = colour_jpeg(body.name, 480, 640)
        # Longer than a read of the server's, so that a refusal finds part of the body still on its way.
        body.write_text(json.dumps({"instances": [b64(photo)]}) + " " * 300_000)
    with running(tiny.path, HOST, tmp_path / "vm.log", {"queue_deadline_s": 0.01}) as vm, watched_health(vm) as health:
        load = generate(HOST, bodies, 4, concurrency=CONCURRENCY)
    assert load.answers.keys() == {"200", "429"}
    assert load.connections == CONCURRENCY, "every refused request left its connection usable"
    assert health.keys() == {200}
    assert vm.restarts() == []
