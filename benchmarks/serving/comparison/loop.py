"""`python -m benchmarks.serving.comparison.loop`: decode and run the graph in a loop, without any server.

Runs in the serving environment. It reads a line with a number of seconds, works for so long, and writes what it did as
a line of JSON, until stdin ends.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import onnxruntime

from artifact.folder import ArtifactFolder
from artifact.preprocessing import load_image


def main() -> int:
    """Work as often as asked."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving.comparison.loop", description=__doc__)
    parser.add_argument("artifact", type=Path)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--batch", type=int, required=True)
    parser.add_argument("--photos", type=Path, nargs="+", required=True)
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    artifact = ArtifactFolder(arguments.artifact)
    prep = artifact.signatures.signatures["serving_default"].preprocessing
    assert prep is not None
    photos = [photo.read_bytes() for photo in arguments.photos]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = arguments.threads
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    graph = str(artifact.graph("int8-cpu", "image"))
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    for line in sys.stdin:
        images, began, cpu = 0, time.perf_counter(), time.process_time()
        while time.perf_counter() - began < float(line):
            batch = [load_image(photos[(images + at) % len(photos)], prep) for at in range(arguments.batch)]
            session.run(["probabilities"], {name: np.stack(batch)})
            images += arguments.batch
        done = {"images": images, "seconds": time.perf_counter() - began, "cpu_s": time.process_time() - cpu}
        print(json.dumps(done), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
