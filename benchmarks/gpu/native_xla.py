"""On the GPU machine: ResNet-50 under XLA, through JAX, as the strongest native baseline that was at hand.

TensorFlow itself is not there; its `jit_compile=True` gives the same compiler the same convolutions. Batch
normalisation is folded into the weights, which favours the baseline.

    python3 native_xla.py OUT.json
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

STAGES: Final = ((64, 3), (128, 4), (256, 6), (512, 3))
"""Width and number of blocks of each stage (He et al. 2015, table 1)."""
BATCHES: Final = (128, 32, 8, 1)
ROUNDS: Final = 5
_MIN_RUNS: Final = 40
_ROUND_S: Final = 0.6
_LAYOUT: Final = ("NHWC", "HWIO", "NHWC")
Weights = list[tuple[Any, Any]]


def resnet50_weights() -> Weights:
    """Random kernels and biases in the order of `resnet50`."""
    random = np.random.RandomState(0)
    weights: Weights = []

    def convolution(side: int, taken: int, given: int) -> None:
        kernel = random.standard_normal((side, side, taken, given)) / np.sqrt(side * side * taken)
        weights.append((kernel.astype(np.float32), np.zeros(given, np.float32)))

    convolution(7, 3, 64)
    taken = 64
    for width, blocks in STAGES:
        for block in range(blocks):
            if block == 0:
                convolution(1, taken, 4 * width)
            convolution(1, taken, width)
            convolution(3, width, width)
            convolution(1, width, 4 * width)
            taken = 4 * width
    weights.append((random.standard_normal((taken, 1000)).astype(np.float32) * 0.02, np.zeros(1000, np.float32)))
    return weights


def resnet50(weights: Weights, images: Any, precision: Any) -> Any:  # noqa: ANN401 - JAX arrays
    """Probabilities [N, 1000] of images [N, 224, 224, 3]."""
    following: Iterator[tuple[Any, Any]] = iter(weights)

    def convolve(x: Any, stride: int = 1, padding: Any = "SAME") -> Any:  # noqa: ANN401 - likewise
        kernel, bias = next(following)
        return bias + lax.conv_general_dilated(
            x, kernel, (stride, stride), padding, dimension_numbers=_LAYOUT, precision=precision
        )

    x = jax.nn.relu(convolve(images, 2, ((3, 3), (3, 3))))
    lowest = jnp.array(-jnp.inf, x.dtype)
    x = lax.reduce_window(x, lowest, lax.max, (1, 3, 3, 1), (1, 2, 2, 1), ((0, 0), (1, 1), (1, 1), (0, 0)))
    for stage, (_, blocks) in enumerate(STAGES):
        for block in range(blocks):
            stride = 2 if block == 0 and stage else 1
            shortcut = convolve(x, stride) if block == 0 else x
            y = jax.nn.relu(convolve(x, stride))
            y = jax.nn.relu(convolve(y))
            x = jax.nn.relu(convolve(y) + shortcut)
    kernel, bias = next(following)
    return jax.nn.softmax(jnp.dot(x.mean((1, 2)), kernel, precision=precision) + bias)


def timed(run: Callable[[], Any], batch: int) -> dict[str, Any]:
    """Images per second of each round of runs that are queued one behind the other."""
    began = time.perf_counter()
    while time.perf_counter() - began < 0.5:
        run().block_until_ready()
    began = time.perf_counter()
    run().block_until_ready()
    runs = int(max(_MIN_RUNS, _ROUND_S / (time.perf_counter() - began)))
    rates = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        answers = [run() for _ in range(runs)]
        answers[-1].block_until_ready()
        rates.append(batch * runs / (time.perf_counter() - began))
    return {"images_per_s": round(float(np.median(rates)), 1), "rounds": [round(rate, 1) for rate in rates]}


def main() -> None:
    """Command line."""
    rows = []
    for name, dtype, precision in (
        ("XLA FP32", jnp.float32, lax.Precision.HIGHEST),
        ("XLA TF32", jnp.float32, lax.Precision.DEFAULT),
        ("XLA FP16", jnp.float16, lax.Precision.DEFAULT),
    ):
        weights = jax.device_put(jax.tree.map(lambda array, to=dtype: array.astype(to), resnet50_weights()))
        network = jax.jit(resnet50, static_argnums=2)
        for batch in BATCHES:
            images = jnp.asarray(np.random.RandomState(1).standard_normal((batch, 224, 224, 3)), dtype)
            found = timed(lambda n=network, w=weights, x=images, p=precision: n(w, x, p), batch)  # type: ignore[misc]
            rows.append({"name": name, "batch": batch, **found})
            print(json.dumps(rows[-1]), flush=True)
    versions = {"jax": jax.__version__, "device": str(jax.devices()[0])}
    Path(sys.argv[1]).write_text(json.dumps({"versions": versions, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
