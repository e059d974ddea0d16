"""`make demo`: deploy the stack on this machine, which builds its model, and classify labelled photos.

Every step runs the command that a person would type, and prints it with its time. The photos are those that the
package `foolbox` ships with their ImageNet class in the file name; the model has never been calibrated on them.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
PHOTOS = REPOSITORY / ".cache" / "photos"
STACK = "local"
PHOTO_COUNT = 8
NEEDED_RIGHT = 0.6
"""Share of the photos. A wrong model gets none right; the FP32 original misses one, and another is a close call that
INT8 may decide either way."""
STEPS = 4


class StepFailedError(Exception):
    """A step's command failed; its own message has been printed."""


@contextmanager
def step(number: int, title: str) -> Iterator[None]:
    """Announce a step and its time."""
    print(f"\n[{number}/{STEPS}] {title}", flush=True)
    began = time.monotonic()
    yield
    print(f"      ({time.monotonic() - began:.1f} s)", flush=True)


def python(*arguments: str, capture: bool = False) -> subprocess.CompletedProcess[str]:
    """Run `python ARGUMENTS` in the repository; output goes to the terminal unless captured."""
    if not capture:
        shown = " ".join(arguments).replace(f"{REPOSITORY}{os.sep}", "").replace(".venv/bin/python", "python")
        print(f"      $ python {shown}", flush=True)
    result = subprocess.run(
        [sys.executable, *arguments],
        cwd=REPOSITORY,
        text=True,
        check=False,
        stdout=subprocess.PIPE if capture else None,
    )
    if result.returncode:
        raise StepFailedError(f"`python {' '.join(arguments)}` failed with exit code {result.returncode}")
    return result


def operator(*arguments: str, capture: bool = False) -> subprocess.CompletedProcess[str]:
    """Run `python ARGUMENTS` with the sandbox's credentials and endpoints."""
    return python("-m", "sandbox", "run", "--", sys.executable, *arguments, capture=capture)


def labelled_photos(count: int) -> list[tuple[Path, int]]:
    """Copies of photos that the package `foolbox` ships, with the ImageNet class that their file names tell."""
    PHOTOS.mkdir(parents=True, exist_ok=True)
    found = []
    for source in sorted(Path(str(resources.files("foolbox")), "data").glob("imagenet_*.jpg")):
        match = re.fullmatch(r"imagenet_\d+_(\d+)\.jpg", source.name)
        if match:
            shutil.copy(source, PHOTOS / source.name)
            found.append((PHOTOS.relative_to(REPOSITORY) / source.name, int(match[1])))
    return found[:count]


def main() -> int:
    """Exit code 0 when the fleet is up and its answers are right."""
    began = time.monotonic()
    print("tensorrt-fleet demo: the Pulumi program of this repository, deployed on this machine.")
    print("Real: engine, startup scripts, model build, Triton, load balancer (Envoy), storage.")
    print("Simulated: Compute Engine, IAM, Monitoring and the GPUs (inference runs on the CPU).")
    try:
        with step(1, "Start the sandbox"):
            python("-m", "sandbox", "start")
        with step(2, f"pulumi up --stack {STACK}: its builder VM converts EfficientNet-Lite0 to INT8 and measures it"):
            python("-m", "sandbox", "up", STACK)
        with step(3, "Check that versions, stability and backend health agree"):
            operator("-m", "client", "wait", "--stack", STACK, "--timeout", "600")
        with step(4, "Classify photos through the load balancer"):
            right, total = classify()
    except StepFailedError as error:
        print(
            f"\nThe demo stopped: {error}.\n`make events` and `make logs VM=name` show what happened.", file=sys.stderr
        )
        return 1
    outputs = json.loads(operator("-m", "client", "outputs", "--stack", STACK, capture=True).stdout)
    print_next_steps(outputs["endpoint"], time.monotonic() - began)
    if right < NEEDED_RIGHT * total:
        print(f"\nOnly {right} of {total} photos were classified right: the deployed model is wrong.", file=sys.stderr)
        return 1
    return 0


def classify() -> tuple[int, int]:
    """Classify labelled photos in one request each; how many were right, of how many."""
    photos = labelled_photos(PHOTO_COUNT)
    paths = [str(path) for path, _ in photos]
    operator("-m", "client", "predict", "--stack", STACK, "--top", "3", *paths)
    answers = json.loads(operator("-m", "client", "predict", "--stack", STACK, "--json", *paths, capture=True).stdout)
    right = sum(answer["class"] == label for answer, (_, label) in zip(answers, photos, strict=True))
    print(f"      {right} of {len(photos)} photos have the label that their file name tells.")
    return right, len(photos)


def print_next_steps(endpoint: str, seconds: float) -> None:
    """What the reader can do now."""
    request = REPOSITORY / ".cache" / "out.json"
    photo = str(labelled_photos(1)[0][0])
    options = ("--write-request", str(request), "--json")
    operator("-m", "client", "predict", "--stack", STACK, *options, photo, capture=True)
    print(f"\nThe fleet runs at {endpoint} (ready after {seconds:.0f} s). Try:")
    print(f"  curl -X POST {endpoint}/v1/models/default:predict -d @{request.relative_to(REPOSITORY)}")
    print("  make predict IMAGE=your-photo.jpg   any JPEG of yours")
    print("  make status                         groups, VMs, health, GPU metric (simulated GPUs)")
    print("  make load                           constant-rate load; watch it scale with make events")
    print("  make down                           end it: no process, port or state stays")


if __name__ == "__main__":
    sys.exit(main())
