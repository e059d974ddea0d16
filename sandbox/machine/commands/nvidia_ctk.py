"""`nvidia-ctk`: configures the NVIDIA runtime for the container daemon."""

from __future__ import annotations

import json

from sandbox.machine.refusal import Refusal, not_modelled
from sandbox.machine.scratch import Scratch


def main(arguments: list[str]) -> int:
    """`nvidia-ctk runtime configure --runtime=docker`."""
    match arguments:
        case ["runtime", "configure", "--runtime=docker"] | ["runtime", "configure", "--runtime", "docker"]:
            path = Scratch.here().docker_configuration
            path.parent.mkdir(parents=True, exist_ok=True)
            configured = json.loads(path.read_text()) if path.exists() else {}
            runtimes = configured.get("runtimes", {}) | {"nvidia": {"args": [], "path": "nvidia-container-runtime"}}
            path.write_text(json.dumps({**configured, "runtimes": runtimes}, indent=4))
            print("It is recommended that docker daemon be restarted.")
            return 0
        case []:
            raise Refusal("nvidia-ctk: no command given")
        case _:
            raise not_modelled("nvidia-ctk", " ".join(arguments))
