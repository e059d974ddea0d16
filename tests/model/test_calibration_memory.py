"""Calibration streams: ten times the images, the same memory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CALIBRATE = """
import sys
from pathlib import Path
from model.quantise.int8 import calibrated_tensors
from model.quantise.statistics import collect
from tests.model.nets import images, mobile_net

model, count = mobile_net(), int(sys.argv[1])
collect(model, calibrated_tensors(model), lambda: (images(8, seed) for seed in range(count // 8)), threads=1)
status = Path("/proc/self/status").read_text().splitlines()
print(next(line for line in status if line.startswith("VmHWM")).split()[1])
"""
"""One image's watched tensors are 0.2 MB: held until the end, those of 1,600 images would be 320 MB."""


def peak_kib(images: int) -> int:
    """Most memory that a fresh process holds which calibrates on so many images."""
    done = subprocess.run(
        [sys.executable, "-c", CALIBRATE, str(images)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return int(done.stdout)


def test_memory_does_not_grow_with_the_calibration_set() -> None:
    assert peak_kib(1600) <= 1.15 * peak_kib(160)
