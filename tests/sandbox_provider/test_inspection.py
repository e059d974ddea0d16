from __future__ import annotations

import json
from pathlib import Path

from sandbox.compute.records import BALANCER
from sandbox.folder import StateFolder
from sandbox.inspection import overview
from sandbox.recovery import stacks_folder
from sandbox.store import RESOURCE, Store


def declare(folder: StateFolder, *identifiers: str) -> None:
    store = Store(folder.store)
    for identifier in identifiers:
        record = {"type": "gcp:compute/network:Network", "urn": f"urn:{identifier}", "created": 1.0}
        store.put(RESOURCE, identifier, record | {"inputs": {}, "state": {}})
    store.close()


def test_what_no_stack_knows_is_listed_as_unowned(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path)
    declare(folder, "projects/p/global/networks/known", "projects/p/global/networks/stray")
    checkpoint = stacks_folder(folder.backend, "demo") / "dev.json"
    checkpoint.parent.mkdir(parents=True)
    latest = {"resources": [{"urn": "u", "id": "projects/p/global/networks/known"}]}
    checkpoint.write_text(json.dumps({"checkpoint": {"latest": latest}}))
    unowned = [line for line in overview(folder).splitlines() if line.startswith("unowned")]
    assert unowned == ["unowned (a killed run made it, no stack knows it): projects/p/global/networks/stray"]


def test_what_the_balancer_cannot_do_is_told(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path)
    store = Store(folder.store)
    for name, error in (("projects/p/global/forwardingRules/bad", "no port"), ("projects/p/global/x/good", "")):
        store.put(BALANCER, name, {"address": "127.16.1.1", "port": 80, "error": error})
    store.close()
    lines = overview(folder).splitlines()
    assert "projects/p/global/forwardingRules/bad: no port" in lines
    assert not any("good" in line for line in lines)
