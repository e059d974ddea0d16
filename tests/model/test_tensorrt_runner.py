"""The runner of plans against a stand-in for TensorRT and CUDA: what is asked for, and in which order."""

from __future__ import annotations

import ctypes
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from artifact.folder import ArtifactFolder
from artifact.manifest import Plan
from model.compare import device
from model.compare.device import gpu_device
from model.compare.tensorrt_runner import TensorrtRunner, nearest_profile
from model.errors import BuildError
from model.plan.target import Gpu
from tests.model.tiny import write_tiny_artifact

PROFILES = ((1, 8, 32), (32, 128, 128))


class Memory:
    """GPU memory as buffers of this process."""

    def __init__(self) -> None:
        self.buffers: dict[int, Any] = {}
        self.freed: list[int] = []

    def malloc(self, size: int) -> int:
        buffer = ctypes.create_string_buffer(size)
        self.buffers[ctypes.addressof(buffer)] = buffer
        return ctypes.addressof(buffer)

    def to_device(self, address: int, values: npt.NDArray[Any]) -> None:
        assert len(self.buffers[address]) >= values.nbytes
        ctypes.memmove(address, values.ctypes.data, values.nbytes)

    def to_host(self, values: npt.NDArray[Any], address: int) -> None:
        ctypes.memmove(values.ctypes.data, address, values.nbytes)

    def free(self, address: int) -> None:
        self.freed.append(address)
        del self.buffers[address]


class Context:
    """Answers twice the sum of each image's numbers."""

    def __init__(self, engine: Engine) -> None:
        self.engine, self.profile = engine, -1
        self.addresses: dict[str, int] = {}
        self.shape: tuple[int, ...] = ()
        engine.contexts.append(self)

    def set_optimization_profile_async(self, profile: int, stream: int) -> None:
        assert stream == 0
        self.profile = profile

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> None:
        smallest, _, greatest = PROFILES[self.profile]
        assert name == "image"
        assert smallest <= shape[0] <= greatest
        self.shape = tuple(shape)

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self.shape if name == "image" else (self.shape[0], 2)

    def set_tensor_address(self, name: str, address: int) -> None:
        self.addresses[name] = address

    def execute_async_v3(self, stream: int) -> bool:
        assert stream == 0
        if self.engine.broken:
            return False
        count = int(np.prod(self.shape))
        taken = (ctypes.c_uint8 * count).from_address(self.addresses["image"])
        sums = np.ctypeslib.as_array(taken).reshape(self.shape[0], -1).sum(1, dtype=np.float32)
        answer = np.stack([sums, 2 * sums], 1).astype(np.float32)
        ctypes.memmove(self.addresses["scores"], answer.ctypes.data, answer.nbytes)
        return True


class Engine:
    num_io_tensors = 2
    num_optimization_profiles = len(PROFILES)

    def __init__(self) -> None:
        self.contexts: list[Context] = []
        self.broken = False

    def get_tensor_name(self, number: int) -> str:
        return ("image", "scores")[number]

    def get_tensor_mode(self, name: str) -> str:
        return "in" if name == "image" else "out"

    def get_tensor_dtype(self, name: str) -> str:
        return name

    def get_tensor_profile_shape(self, name: str, profile: int) -> list[tuple[int, ...]]:
        assert name == "image"
        return [(batch, 4, 4, 3) for batch in PROFILES[profile]]

    def create_execution_context(self) -> Context:
        return Context(self)


class Logger:
    WARNING = "warning"

    def __init__(self, severity: str) -> None:
        assert severity == self.WARNING


@pytest.fixture
def engine() -> Engine:
    return Engine()


def runner(engine: Engine | None, memory: Memory, folder: Path) -> TensorrtRunner:
    reader = SimpleNamespace(deserialize_cuda_engine=lambda content: engine if content == b"plan" else None)
    trt = SimpleNamespace(
        __version__="10.13.2.6",
        Logger=Logger,
        Runtime=lambda _: reader,
        TensorIOMode=SimpleNamespace(INPUT="in"),
        nptype=lambda name: np.uint8 if name == "image" else np.float32,
    )
    (folder / "int8.image.plan").write_bytes(b"plan")
    return TensorrtRunner(folder / "int8.image.plan", "scores", trt, memory)


def pixels(batch: int) -> npt.NDArray[np.uint8]:
    return np.arange(batch * 48, dtype=np.uint32).astype(np.uint8).reshape(batch, 4, 4, 3)


def test_a_plan_answers_what_was_copied_to_it(engine: Engine, tmp_path: Path) -> None:
    run = runner(engine, Memory(), tmp_path)
    assert run.runtime == "TensorRT 10.13.2.6"
    for batch in (1, 5, 2):
        images = pixels(batch)
        sums = images.reshape(batch, -1).sum(1)
        np.testing.assert_array_equal(run(images), np.stack([sums, 2 * sums], 1))


def test_every_batch_runs_on_the_profile_that_suits_it_best(engine: Engine, tmp_path: Path) -> None:
    run = runner(engine, Memory(), tmp_path)
    for batch in (1, 32, 128, 8):
        run(pixels(batch))
    assert [(context.profile, context.shape[0]) for context in engine.contexts] == [(0, 8), (1, 128)]
    assert [nearest_profile(PROFILES, batch) for batch in (1, 8, 32, 33, 128)] == [0, 0, 0, 1, 1]
    with pytest.raises(BuildError, match="batch 129 is not in the plan: its profiles take 1 to 32, 32 to 128"):
        run(pixels(129))


def test_memory_is_taken_again_only_where_more_is_needed(engine: Engine, tmp_path: Path) -> None:
    memory = Memory()
    run = runner(engine, memory, tmp_path)
    run(pixels(8))
    held = set(memory.buffers)
    run(pixels(3))
    assert set(memory.buffers) == held
    run(pixels(16))
    assert set(memory.freed) == held
    assert len(memory.buffers) == 2


def test_a_plan_of_another_version_and_a_failed_run_are_said(engine: Engine, tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"is not read by TensorRT 10\.13\.2\.6 on this GPU: build plans here"):
        runner(None, Memory(), tmp_path)
    run = runner(engine, Memory(), tmp_path)
    engine.broken = True
    with pytest.raises(BuildError, match="did not run"):
        run(pixels(1))


def test_a_gpu_is_taken_only_with_a_plan_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    artifact = write_tiny_artifact(tmp_path / "artifact")
    plan = Plan(gpu="nvidia-tesla-t4", compute_capability="7.5", tensorrt="10.13.2.6", folder="plans/t4")

    def with_plan(held: ArtifactFolder) -> ArtifactFolder:
        held.manifest = held.manifest.model_copy(update={"plans": (plan,)})
        return held

    def no_gpu() -> tuple[Gpu, ...]:
        raise BuildError("nvidia-smi: not found")

    monkeypatch.setattr(device, "visible_gpus", no_gpu)
    assert gpu_device(artifact, "auto") is None
    assert gpu_device(with_plan(artifact), "auto") is None
    with pytest.raises(BuildError, match="nvidia-smi"):
        gpu_device(artifact, "gpu")
    monkeypatch.setattr(device, "visible_gpus", lambda: (Gpu("Tesla T4", "7.5"),))
    assert gpu_device(artifact, "cpu") is None
    found = gpu_device(artifact, "auto")
    assert found is not None
    assert (found.gpu.name, found.plan) == ("Tesla T4", plan)
    monkeypatch.setattr(device, "visible_gpus", lambda: (Gpu("NVIDIA L4", "8.9"),))
    assert gpu_device(artifact, "auto") is None
    with pytest.raises(BuildError, match=r"it has nvidia-tesla-t4 \(7\.5\), and here is NVIDIA L4 \(8\.9\)"):
        gpu_device(artifact, "gpu")
