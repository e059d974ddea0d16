"""A model of one's own behind the real Triton: several inputs and outputs of several types, and one fixed batch."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import contract
from artifact.archive import file_entry, write_archive
from artifact.folder import dump
from artifact.manifest import MANIFEST_FILE, Manifest, graph_path
from artifact.signature import SIGNATURE_FILE, Signature, SignatureFile, TensorSpec

pytestmark = pytest.mark.servers

REPOSITORY = Path(__file__).parents[2]
SERVING_BIN = REPOSITORY / ".venv-serving" / "bin"
HOST = "127.201.3.1"
BATCH = 4
PLANES = np.random.default_rng(3).normal(0, 1, (3, 2, 5, 5)).astype(np.float32)
SHIFTS = np.array([10, 20, 30], np.int32)


def spec(name: str, dtype: Any, *shape: int, kind: Any = "tensor", tensor: str = "") -> TensorSpec:
    return TensorSpec(name=name, dtype=dtype, shape=(BATCH, *shape), kind=kind, tensor=tensor or name)


def write_artifact(folder: Path) -> None:
    """`scores` [4, 2] are the means of two planes [5, 5] each; `shifted` [4] is an integer up to 30, plus one."""
    signature = Signature(
        form="tensor",
        inputs=(spec("image/planes", "float32", 2, 5, 5, tensor="planes"), spec("shift", "int32")),
        outputs=(
            spec("best", "int64", kind="argmax", tensor="scores"),
            spec("class:scores", "float32", 2, tensor="scores"),
            spec("shifted", "int32"),
        ),
        max_batch=BATCH,
    )
    graph = helper.make_graph(
        [
            helper.make_node("ReduceMean", ["planes"], ["scores"], axes=[2, 3], keepdims=0),
            helper.make_node("Gather", ["successors", "shift"], ["shifted"], name="words/table"),
        ],
        "own",
        [
            helper.make_tensor_value_info("planes", TensorProto.FLOAT, [BATCH, 2, 5, 5]),
            helper.make_tensor_value_info("shift", TensorProto.INT32, [BATCH]),
        ],
        [
            helper.make_tensor_value_info("scores", TensorProto.FLOAT, [BATCH, 2]),
            helper.make_tensor_value_info("shifted", TensorProto.INT32, [BATCH]),
        ],
        [helper.make_tensor("successors", TensorProto.INT32, [31], range(1, 32))],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    names = [graph_path("int8-cpu", "tensor"), SIGNATURE_FILE]
    (folder / "onnx").mkdir(parents=True)
    onnx.save(model, folder / names[0])
    (folder / SIGNATURE_FILE).write_bytes(dump(SignatureFile(signatures={"serving_default": signature})))
    manifest = Manifest(
        key="0123456789abcdef0123",
        runtime="onnxruntime-cpu",
        inputs={},
        tools={},
        archive=write_archive(folder, names),
        files={name: file_entry(folder / name) for name in names},
        precisions=("int8-cpu",),
        run="test",
    )
    (folder / MANIFEST_FILE).write_bytes(dump(manifest))


def call(path: str, body: object = None) -> tuple[int, Any]:
    """Status and JSON; 0 where nobody answers."""
    data = None if body is None else json.dumps(body).encode()
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"http://{HOST}:{contract.API_PORT}{path}", data, timeout=20) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())
    except OSError:
        return 0, None


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """`python -m serving --artifact`, as on a laptop."""
    folder = tmp_path_factory.mktemp("own")
    write_artifact(folder / "artifact")
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [SERVING_BIN / "python3", "-m", "serving", "--artifact", folder / "artifact", "--host", HOST],
            cwd=REPOSITORY,
            env=os.environ | {"PATH": f"{SERVING_BIN}:/usr/bin:/bin", "STATE_DIRECTORY": str(folder / "state")},
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            deadline = time.monotonic() + 60
            while call(contract.MODEL_PATH)[0] != 200:
                assert process.poll() is None, (folder / "log").read_text()[-2000:]
                assert time.monotonic() < deadline, (folder / "log").read_text()[-2000:]
                time.sleep(0.1)
            yield
        finally:
            process.terminate()
            try:
                process.wait(30)
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize("count", [1, 3])
def test_rows_are_filled_up_to_the_batch_and_answered_as_many_as_were_sent(count: int) -> None:
    rows = [{"image/planes": PLANES[n].tolist(), "shift": int(SHIFTS[n])} for n in range(count)]
    status, answer = call(contract.PREDICT_PATH, {"instances": rows})
    assert status == 200
    scores = PLANES[:count].mean((2, 3))
    assert [row["best"] for row in answer["predictions"]] == scores.argmax(1).tolist()
    assert [row["shifted"] for row in answer["predictions"]] == (SHIFTS[:count] + 1).tolist()
    np.testing.assert_allclose([row["class:scores"] for row in answer["predictions"]], scores, atol=1e-6)


@pytest.mark.usefixtures("server")
def test_columns_are_answered_as_columns() -> None:
    columns = {"image/planes": PLANES.tolist(), "shift": SHIFTS.tolist()}
    status, answer = call(contract.PREDICT_PATH, {"inputs": columns})
    assert status == 200
    assert answer["outputs"]["shifted"] == [11, 21, 31]
    assert answer["outputs"].keys() == {"best", "class:scores", "shifted"}


@pytest.mark.usefixtures("server")
def test_more_rows_than_the_batch_are_refused_in_words() -> None:
    rows = [{"image/planes": PLANES[0].tolist(), "shift": 1}] * (BATCH + 1)
    assert call(contract.PREDICT_PATH, {"instances": rows}) == (
        400,
        {"error": "instances: 5 instances given, at most 4 are taken in one request"},
    )


@pytest.mark.usefixtures("server")
def test_a_value_that_the_model_cannot_look_up_is_the_clients_fault() -> None:
    rows = [{"image/planes": PLANES[0].tolist(), "shift": shift} for shift in (10, 31)]
    status, answer = call(contract.PREDICT_PATH, {"instances": rows})
    assert status == 400
    assert "node words/table (Gather) of the model cannot compute what it is fed: " in answer["error"]
    assert "idx=31" in answer["error"]
    assert call(contract.PREDICT_PATH, {"instances": rows[:1]})[0] == 200
