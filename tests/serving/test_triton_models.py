"""The real Triton takes our model configurations, warm-up included: on the CPU whole, on a GPU as far as it can here.

The wheel's Triton (2.51) has no TensorRT backend, and the machine no GPU.
"""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as pb

import contract
from artifact.archive import file_entry
from artifact.folder import ArtifactFolder, dump
from artifact.manifest import MANIFEST_FILE
from artifact.signature import SIGNATURE_FILE
from serving.graphs import graphs
from serving.triton import InferError, Triton, sample
from serving.tritonserver import arguments
from tests.model.tiny import COLOURS, SIZE, write_tiny_artifact

pytestmark = pytest.mark.servers

REPOSITORY = Path(__file__).parents[2]
SERVING_BIN = REPOSITORY / ".venv-serving" / "bin"
HOST = "127.205.8.1"
FIXED = 4


@dataclass
class Server:
    """A Triton with an empty state; models are loaded by name."""

    repository: Path
    log: Path

    def add(self, config: Any, source: str) -> None:
        """Put a model of the Python backend, with another's model.py, into the repository."""
        folder = self.repository / config.name
        (folder / "1").mkdir(parents=True)
        code = (self.repository / source / "1" / "model.py").read_text()
        (folder / "1" / "model.py").write_text(code)
        (folder / "config.pbtxt").write_text(text_format.MessageToString(config))

    def config(self, model: str) -> Any:
        return text_format.Parse((self.repository / model / "config.pbtxt").read_text(), pb.ModelConfig())

    def warmed(self, model: str) -> list[str]:
        """Samples of a model's warm-up that Triton says it ran, in order."""
        lines = [line for line in self.log.read_text().splitlines() if "warmup sample" in line and f"'{model}'" in line]
        return [line.split("'")[-2] for line in lines]


def fixed_artifact(folder: Path) -> ArtifactFolder:
    """The tiny artifact of a batch of FIXED images, in its tensor form."""
    artifact = write_tiny_artifact(folder)
    for precision in artifact.manifest.precisions:
        path = artifact.graph(precision, "tensor")
        model = onnx.load(path)
        for value in (*model.graph.input, *model.graph.output):
            value.type.tensor_type.shape.dim[0].dim_value = FIXED
        onnx.save(model, path)
    signature = artifact.signatures.signatures["tensor"]
    specs = {
        side: tuple(spec.model_copy(update={"shape": (FIXED, *spec.shape[1:])}) for spec in getattr(signature, side))
        for side in ("inputs", "outputs")
    }
    only = {"serving_default": signature.model_copy(update={**specs, "max_batch": FIXED})}
    (folder / SIGNATURE_FILE).write_bytes(dump(artifact.signatures.model_copy(update={"signatures": only})))
    files = {name: file_entry(folder / name) for name in artifact.manifest.files}
    (folder / MANIFEST_FILE).write_bytes(dump(artifact.manifest.model_copy(update={"files": files})))
    return ArtifactFolder(folder)


def write(artifact: ArtifactFolder, repository: Path) -> None:
    """Write the CPU repository as the serving environment does: the model's code names that environment's packages."""
    module = "tests.serving.write_repository"
    subprocess.run([SERVING_BIN / "python3", "-m", module, repository, artifact.path], check=True, cwd=REPOSITORY)


@pytest.fixture(scope="module")
def server(tiny: ArtifactFolder, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("triton")
    write(tiny, folder / "models")
    made = Server(folder / "models", folder / "log")
    command = arguments(HOST, made.repository, f"tensorrt-fleet-test-{folder.name}-", on_gpus=False)
    command = [SERVING_BIN / "tritonserver", *(word for word in command[1:] if word != "--log-info=false")]  # type: ignore[list-item]
    with made.log.open("w") as log:
        process = subprocess.Popen([*command, "--log-verbose=1"], stdout=log, stderr=subprocess.STDOUT)
        try:
            yield made
        finally:
            process.terminate()
            process.wait(20)


@pytest.fixture
async def triton(server: Server) -> Any:
    client = Triton(f"{HOST}:{contract.TRITON_GRPC_PORT}")
    deadline = time.monotonic() + 30
    # A server with a model that could not be loaded is not ready any more: any answer will do.
    while not await answers(client):
        assert time.monotonic() < deadline, server.log.read_text()[-2000:]
        await asyncio.sleep(0.05)
    yield client
    await client.close()


async def answers(client: Triton) -> bool:
    try:
        await client.models(1.0)
    except InferError:
        return False
    return True


async def refusal(load: Callable[[], Any]) -> str:
    with pytest.raises(InferError) as caught:
        await load()
    return str(caught.value)


async def test_the_cpu_models_load_as_written_and_every_size_is_warmed(
    server: Server, triton: Triton, tiny: ArtifactFolder
) -> None:
    for graph in graphs(tiny.signatures):
        name = contract.triton_model_name(graph.form, 0)
        await triton.load(name, 60)
        loaded, written = await triton.config(name, 5), server.config(name)
        for field in ("input", "output", "instance_group", "model_warmup", "max_batch_size"):
            theirs, ours = getattr(loaded, field), getattr(written, field)
            if field == "instance_group":
                assert [(group.kind, group.count) for group in theirs] == [(group.kind, group.count) for group in ours]
            else:
                assert theirs == ours
        assert loaded.dynamic_batching.default_queue_policy == written.dynamic_batching.default_queue_policy
        assert server.warmed(name) == ["batch 1", "batch 8"]
        answer = await triton.infer(name, sample(graph, 3), 10)
        assert answer["probabilities"].shape == (3, len(COLOURS))


async def test_batching_graphs_pinned_memory_and_warm_up_of_the_gpu_models_are_taken(
    server: Server, triton: Triton
) -> None:
    golden = Path(__file__).parent / "golden" / "t4x4" / "default_image_gpu3.pbtxt"
    config = text_format.Parse(golden.read_text(), pb.ModelConfig())
    wanted = pb.ModelConfig()
    wanted.CopyFrom(config)
    # Only what needs a GPU or the TensorRT backend is changed.
    config.name, config.platform, config.backend, config.default_model_filename = "gpu_image", "", "python", "model.py"
    del config.instance_group[:]
    config.instance_group.add(kind=pb.ModelInstanceGroup.KIND_CPU, count=1)
    cpu = server.config("default_image_gpu0")
    for name in ("graph", "threads"):
        config.parameters[name].CopyFrom(cpu.parameters[name])
    server.add(config, "default_image_gpu0")
    await triton.load("gpu_image", 60)
    loaded = await triton.config("gpu_image", 5)
    for field in ("input", "output", "dynamic_batching", "model_warmup"):
        assert getattr(loaded, field) == getattr(wanted, field)
    assert loaded.optimization.cuda == wanted.optimization.cuda
    assert loaded.optimization.input_pinned_memory.enable
    assert loaded.optimization.output_pinned_memory.enable
    assert server.warmed("gpu_image") == ["batch 1", "batch 8", "batch 32", "batch 128"]


@pytest.mark.parametrize("deployment", ["t4x1", "t4x4"])
async def test_the_gpu_models_are_read_and_fail_only_for_want_of_the_backend(
    server: Server, triton: Triton, deployment: str
) -> None:
    for path in sorted((Path(__file__).parent / "golden" / deployment).glob("*.pbtxt")):
        config = text_format.Parse(path.read_text(), pb.ModelConfig())
        config.name = f"{deployment}_{config.name}"
        server.add(config, "default_image_gpu0")
        text = await refusal(lambda name=config.name: triton.load(name, 60))  # type: ignore[misc]
        assert "unable to find backend library for backend 'tensorrt'" in text


async def test_a_model_of_a_fixed_batch_loads_is_warmed_and_answers_that_batch(
    server: Server, triton: Triton, tmp_path: Path
) -> None:
    artifact = fixed_artifact(tmp_path / "fixed")
    write(artifact, tmp_path / "models")
    config = text_format.Parse((tmp_path / "models/default_tensor_gpu0/config.pbtxt").read_text(), pb.ModelConfig())
    assert config.max_batch_size == 0
    config.name = "fixed"
    server.add(config, "default_image_gpu0")
    await triton.load("fixed", 60)
    assert server.warmed("fixed") == [f"batch {FIXED}"]
    answer = await triton.infer("fixed", {"image": np.zeros((FIXED, SIZE, SIZE, 3), np.float32)}, 10)
    assert answer["probabilities"].shape == (FIXED, len(COLOURS))
    two = {"image": np.zeros((2, SIZE, SIZE, 3), np.float32)}
    assert "shape" in await refusal(lambda: triton.infer("fixed", two, 10))
