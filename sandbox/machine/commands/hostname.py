"""`hostname` inside a VM: the VM's, not that of the machine that simulates it."""

from __future__ import annotations

import json
import os
import urllib.request

from sandbox.machine.markers import MACHINE_MARKER
from sandbox.machine.refusal import not_modelled


def main(arguments: list[str]) -> int:
    """`hostname [-s|-f]`."""
    if arguments in ([], ["-s"], ["--short"]):
        print(os.environ[MACHINE_MARKER].rpartition("/")[2])
        return 0
    if arguments in (["-f"], ["--fqdn"]):
        request = urllib.request.Request(
            f"http://{os.environ['GCE_METADATA_HOST']}/computeMetadata/v1/instance/hostname?alt=json",
            headers={"Metadata-Flavor": "Google"},
        )
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 - the scheme is fixed
            print(json.load(answer))
        return 0
    raise not_modelled("hostname", " ".join(arguments))
