"""Asks a server through NVIDIA's own HTTP client, prints what it got as JSON: `tritonclient_calls.py HOST:PORT JPEG`.

Run by test_tritonclient.py in the serving environment, which has the client's dependencies.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput
from tritonclient.utils import InferenceServerException


def photos(*jpegs: bytes, binary: bool = True) -> InferInput:
    """The image input."""
    given = InferInput("image_bytes", [len(jpegs)], "BYTES")
    given.set_data_from_numpy(np.array(jpegs, np.object_), binary_data=binary)
    return given


def refusal(call: Any, *arguments: Any) -> list[str]:
    """Status and message of a call that must fail."""
    try:
        call(*arguments)
    except InferenceServerException as error:
        return [str(error.status()), str(error.message())]
    return []


def main(address: str, jpeg: bytes) -> dict[str, Any]:
    """What each call gives."""
    client = InferenceServerClient(address)
    pixels = np.zeros((3, 32, 32, 3), np.float32)
    tensor = InferInput("image", list(pixels.shape), "FP32")
    tensor.set_data_from_numpy(pixels)
    in_json = InferInput("image", list(pixels.shape), "FP32")
    in_json.set_data_from_numpy(pixels, binary_data=False)
    plain = client.infer("default", [photos(jpeg, jpeg)])
    zipped = client.infer(
        "default", [photos(jpeg)], request_compression_algorithm="gzip", response_compression_algorithm="gzip"
    )
    deflated = client.infer("default", [photos(jpeg)], request_compression_algorithm="deflate")
    best = client.infer(
        "default", [photos(jpeg)], outputs=[InferRequestedOutput("probabilities", class_count=2)], request_id="7"
    )
    chosen = client.infer(
        "default", [in_json], model_version="1", outputs=[InferRequestedOutput("classes", binary_data=False)]
    )
    named = client.infer("default", [tensor], parameters={"signature_name": "tensor"})
    late = client.async_infer("default", [photos(jpeg)]).get_result()
    return {
        "live": client.is_server_live(),
        "ready": client.is_server_ready(),
        "model ready": [client.is_model_ready("default", version) for version in ("", "1", "2")],
        "server": client.get_server_metadata(),
        "model": client.get_model_metadata("default"),
        "plain": [plain.as_numpy(name).tolist() for name in ("classes", "probabilities")],
        "zipped": zipped.as_numpy("classes").tolist(),
        "deflated": deflated.as_numpy("classes").tolist(),
        "best": [best.get_response()["id"], [item.decode() for item in best.as_numpy("probabilities").ravel()]],
        "chosen": [chosen.as_numpy("classes").tolist(), chosen.as_numpy("probabilities")],
        "named": list(named.as_numpy("probabilities").shape),
        "async": late.as_numpy("classes").tolist(),
        "bad image": refusal(client.infer, "default", [photos(b"no image")]),
        "unknown model": refusal(client.infer, "other", [photos(jpeg)]),
        "repository": refusal(client.get_model_repository_index),
        "load": refusal(client.load_model, "default"),
        "log": refusal(client.get_log_settings),
        "trace": refusal(client.get_trace_settings),
        "memory": refusal(client.get_system_shared_memory_status),
    }


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], Path(sys.argv[2]).read_bytes())))
