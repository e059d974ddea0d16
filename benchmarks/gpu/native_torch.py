"""On the GPU machine: torchvision's ResNet-50 in PyTorch, eager and compiled, as further native baselines.

python3 native_torch.py OUT.json
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
import torchvision

BATCHES: Final = (128, 32, 8, 1)
COMPILED_BATCHES: Final = (128,)
ROUNDS: Final = 5
_MIN_RUNS: Final = 40
_ROUND_S: Final = 0.6


def timed(run: Callable[[], Any], batch: int) -> dict[str, Any]:
    """Images per second of each round of runs that are queued one behind the other."""
    began = time.perf_counter()
    while time.perf_counter() - began < 0.5:
        run()
        torch.cuda.synchronize()
    began = time.perf_counter()
    run()
    torch.cuda.synchronize()
    runs = int(max(_MIN_RUNS, _ROUND_S / (time.perf_counter() - began)))
    rates = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        for _ in range(runs):
            run()
        torch.cuda.synchronize()
        rates.append(batch * runs / (time.perf_counter() - began))
    return {"images_per_s": round(float(np.median(rates)), 1), "rounds": [round(rate, 1) for rate in rates]}


def main() -> None:
    """Command line."""
    torch.manual_seed(0)
    model = torchvision.models.resnet50(weights=None).eval().cuda()
    half = torchvision.models.resnet50(weights=None).eval().cuda().half().to(memory_format=torch.channels_last)
    rows = []

    def add(name: str, network: Callable[[Any], Any], batch: int, *, halved: bool) -> None:
        images = torch.randn(batch, 3, 224, 224, device="cuda")
        if halved:
            images = images.half().to(memory_format=torch.channels_last)
        rows.append({"name": name, "batch": batch, **timed(lambda: network(images), batch)})
        print(json.dumps(rows[-1]), flush=True)

    with torch.inference_mode():
        for tf32 in (False, True):
            torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = tf32
            for batch in BATCHES:
                add(f"PyTorch eager {'TF32' if tf32 else 'FP32'}", model, batch, halved=False)
        for batch in BATCHES:
            add("PyTorch eager FP16, channels last", half, batch, halved=True)
        for batch in COMPILED_BATCHES:
            add("torch.compile FP16, channels last", torch.compile(half, dynamic=False), batch, halved=True)
    versions = {
        "torch": torch.__version__,
        "cudnn": torch.backends.cudnn.version(),
        "gpu": torch.cuda.get_device_name(),
    }
    Path(sys.argv[1]).write_text(json.dumps({"versions": versions, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
