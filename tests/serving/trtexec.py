"""A stand-in for TensorRT 10's trtexec: takes the options that NVIDIA documents, refuses others, and writes no plan.

Run by a shell script that a test puts on PATH. Where the real one checks shapes against the graph, this one does.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
from pathlib import Path

import onnx

FLAGS = {"--int8", "--fp16", "--skipInference"}
VALUES = {"--onnx", "--saveEngine", "--timingCacheFile", "--profile", "--minShapes", "--optShapes", "--maxShapes"}
SHAPES = ("--minShapes", "--optShapes", "--maxShapes")


def fail(text: str) -> None:
    print(f"[11/24/2026-18:00:00] [E] {text}\n&&&& FAILED TensorRT.trtexec [TensorRT v101302] # trtexec", flush=True)
    sys.exit(1)


def parse(arguments: list[str]) -> tuple[dict[str, str], list[dict[str, dict[str, list[int]]]]]:
    """Options by name, and the shapes of each profile by option and input."""
    options: dict[str, str] = {}
    profiles: list[dict[str, dict[str, list[int]]]] = []
    for argument in arguments:
        name, sign, value = argument.partition("=")
        if name not in FLAGS | VALUES or bool(sign) != (name in VALUES):
            fail(f"Unknown option: {argument}")
        if name == "--profile":
            if int(value) != len(profiles):
                fail("Optimization profile indices must be contiguous")
            profiles.append({})
        elif name in SHAPES:
            if not profiles:
                profiles.append({})
            profiles[-1][name] = {}
            for spec in value.split(","):
                tensor, _, dims = spec.rpartition(":")
                if not re.fullmatch(r"\d+(x\d+)*", dims):
                    fail(f"Invalid shape {spec}")
                profiles[-1][name][tensor.replace("'", "")] = [int(size) for size in dims.split("x")]
        else:
            options[name] = value
    return options, profiles


def check(graph: onnx.GraphProto, profiles: list[dict[str, dict[str, list[int]]]]) -> None:
    inputs = {value.name: [d.dim_value or -1 for d in value.type.tensor_type.shape.dim] for value in graph.input}
    dynamic = any(-1 in shape for shape in inputs.values())
    if profiles and not dynamic:
        fail("Static model does not take explicit shapes since the shape of inference tensors will be determined")
    if dynamic and not profiles:
        fail("Network has dynamic inputs, but no shapes are given")
    for profile in profiles:
        if set(profile) != set(SHAPES):
            fail("Must specify only --optShapes or all of --minShapes, --optShapes, --maxShapes")
        for shapes in profile.values():
            if set(shapes) != set(inputs):
                fail(f"Missing or unknown inputs: {sorted(set(shapes) ^ set(inputs))}")
            for name, given in shapes.items():
                own = inputs[name]
                if len(own) != len(given) or any(a not in (-1, b) for a, b in zip(own, given, strict=True)):
                    fail(f"{name}: {given} does not fit {own}")


def main() -> None:
    options, profiles = parse(sys.argv[1:])
    print("&&&& RUNNING TensorRT.trtexec [TensorRT v101302] # trtexec", *sys.argv[1:], flush=True)
    if "STAND_IN_HANGS" in os.environ:
        time.sleep(600)
    model = onnx.load(options["--onnx"])
    check(model.graph, profiles)
    if "STAND_IN_FAILS" in os.environ:
        fail("Error[2]: [virtualMemoryBuffer.cpp::resizePhysical] OutOfMemory (Requested size was 4 bytes.)")
    Path(options["--timingCacheFile"]).write_bytes(b"timings")
    options["profiles"] = json.dumps(profiles)
    Path(options["--saveEngine"]).write_text(json.dumps(options))
    print("&&&& PASSED TensorRT.trtexec [TensorRT v101302] # trtexec")


if __name__ == "__main__":
    main()
