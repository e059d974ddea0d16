"""TensorRT 8.6.1 from a folder of `runtime.sh`: build an engine, inspect it, run it, time it.

CUDA's runtime is called through ctypes, so nothing but NumPy and TensorRT's bindings is needed.
"""

from __future__ import annotations

import ctypes
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

Precision = Literal["fp32", "tf32", "fp16", "int8"]
Array = npt.NDArray[Any]

_PRELOADED: Final = (
    "stub/libcublas.so.12",
    "stub/libcublasLt.so.12",
    "stub/libcudnn.so.8",
    "lib/libnvinfer.so.8",
    "lib/libnvinfer_plugin.so.8",
    "lib/libnvonnxparser.so.8",
    "lib/libnvparsers.so.8",
)
_CUDART: Final = "python/lib/python3.11/site-packages/nvidia/cuda_runtime/lib/libcudart.so.12"
_TO_DEVICE, _TO_HOST = 1, 2
_NON_BLOCKING: Final = 1
_RELAXED_CAPTURE: Final = 2
WORKSPACE_BYTES: Final = 8 << 30


class Cuda:
    """The few calls of CUDA's runtime that a benchmark needs; a failed one raises RuntimeError with its number."""

    def __init__(self, runtime: Path) -> None:
        self._library = ctypes.CDLL(str(runtime / _CUDART), mode=ctypes.RTLD_GLOBAL)

    def __getattr__(self, name: str) -> Callable[..., None]:
        """CUDA's function of that name without its prefix."""
        function = getattr(self._library, f"cuda{name}")

        def call(*arguments: object) -> None:
            status = function(*arguments)
            if status:
                raise RuntimeError(f"cuda{name} failed with error {status}")

        return call

    def handle(self, name: str, *arguments: object) -> ctypes.c_void_p:
        """The handle or pointer that a call writes to its first argument."""
        made = ctypes.c_void_p()
        getattr(self, name)(ctypes.byref(made), *arguments)
        return made

    def free_bytes(self) -> int:
        """Free memory of the GPU."""
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        self.MemGetInfo(ctypes.byref(free), ctypes.byref(total))
        return free.value


@dataclass(frozen=True, slots=True)
class Built:
    """A serialised engine, and what its build took."""

    plan: bytes
    seconds: float
    peak_mib: int
    """Most GPU memory that the build held beyond what was held before, polled: a lower bound."""


class TensorRT:
    """One builder, runtime and timing cache for all engines of a process: a builder loads 1 GB of kernels."""

    def __init__(self, runtime: Path, timing_cache: Path) -> None:
        for name in _PRELOADED:
            ctypes.CDLL(str(runtime / name), mode=ctypes.RTLD_GLOBAL)
        import tensorrt_bindings  # noqa: PLC0415 - only after the libraries that it is linked to

        self.trt: Any = tensorrt_bindings
        self.cuda = Cuda(runtime)
        self.cuda.Free(None)
        self._logger = self.trt.Logger(self.trt.Logger.WARNING)
        self._builder = self.trt.Builder(self._logger)
        self._runtime = self.trt.Runtime(self._logger)
        self._timing_cache = timing_cache

    def build(self, onnx: bytes, precision: Precision, batch: int) -> Built:
        """Build an engine for one fixed batch.

        Raises:
            RuntimeError: the graph is not parsed or not built; TensorRT's own words are on standard error.
        """
        trt = self.trt
        network = self._builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.EXPLICIT_BATCH))
        parser = trt.OnnxParser(network, self._logger)
        if not parser.parse(onnx):
            raise RuntimeError("; ".join(str(parser.get_error(i).desc()) for i in range(parser.num_errors)))
        config = self._config(precision)
        profile = self._builder.create_optimization_profile()
        for i in range(network.num_inputs):
            tensor = network.get_input(i)
            shape = (batch, *tuple(tensor.shape)[1:])
            profile.set_shape(tensor.name, shape, shape, shape)
        config.add_optimization_profile(profile)
        known = self._timing_cache.read_bytes() if self._timing_cache.exists() else b""
        config.set_timing_cache(config.create_timing_cache(known), ignore_mismatch=False)
        began = time.perf_counter()
        with self._peak() as peak:
            plan = self._builder.build_serialized_network(network, config)
        if plan is None:
            raise RuntimeError(f"TensorRT built no {precision} engine")
        self._timing_cache.write_bytes(bytes(config.get_timing_cache().serialize()))
        return Built(bytes(plan), time.perf_counter() - began, peak[0] >> 20)

    def engine(self, plan: bytes) -> Any:  # noqa: ANN401 - the bindings have no types
        """Deserialise a plan."""
        return self._runtime.deserialize_cuda_engine(plan)

    def inspect(self, engine: Any) -> list[dict[str, Any]]:  # noqa: ANN401 - likewise
        """The engine's layers as its inspector describes them."""
        text = engine.create_engine_inspector().get_engine_information(self.trt.LayerInformationFormat.JSON)
        layers: list[dict[str, Any]] = json.loads(text)["Layers"]
        return layers

    def _config(self, precision: Precision) -> Any:  # noqa: ANN401 - likewise
        trt = self.trt
        config = self._builder.create_builder_config()
        # Without cuBLAS and cuDNN: TensorRT's own kernels only.
        sources = trt.TacticSource
        config.set_tactic_sources(1 << int(sources.EDGE_MASK_CONVOLUTIONS) | 1 << int(sources.JIT_CONVOLUTIONS))
        config.set_preview_feature(trt.PreviewFeature.DISABLE_EXTERNAL_TACTIC_SOURCES_FOR_CORE_0805, True)
        config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, WORKSPACE_BYTES)
        if precision == "fp32":
            config.clear_flag(trt.BuilderFlag.TF32)
        if precision in ("fp16", "int8"):
            config.set_flag(trt.BuilderFlag.FP16)
        if precision == "int8":
            config.set_flag(trt.BuilderFlag.INT8)
        return config

    @contextmanager
    def _peak(self) -> Iterator[list[int]]:
        before, peak, done = self.cuda.free_bytes(), [0], threading.Event()

        def poll() -> None:
            while not done.wait(0.1):
                peak[0] = max(peak[0], before - self.cuda.free_bytes())

        poller = threading.Thread(target=poll)
        poller.start()
        try:
            yield peak
        finally:
            done.set()
            poller.join()


class Execution:
    """An execution context for one batch with its own stream and buffers. `inputs` and `outputs` are pinned arrays."""

    def __init__(self, tensorrt: TensorRT, engine: Any, batch: int) -> None:  # noqa: ANN401 - the bindings have no types
        self._cuda, trt = tensorrt.cuda, tensorrt.trt
        self._context = engine.create_execution_context()
        self.stream = self._cuda.handle("StreamCreateWithFlags", _NON_BLOCKING)
        self.inputs: dict[str, Array] = {}
        self.outputs: dict[str, Array] = {}
        self._copies: dict[str, tuple[ctypes.c_void_p, ctypes.c_void_p, int]] = {}
        names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
        taken = [name for name in names if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT]
        for name in taken:
            self._context.set_input_shape(name, (batch, *tuple(engine.get_tensor_shape(name))[1:]))
        for name in names:
            dtype = np.dtype(trt.nptype(engine.get_tensor_dtype(name)))
            shape = tuple(self._context.get_tensor_shape(name))
            size = int(np.prod(shape)) * dtype.itemsize
            device = self._cuda.handle("Malloc", ctypes.c_size_t(size))
            host = self._cuda.handle("HostAlloc", ctypes.c_size_t(size), ctypes.c_uint(0))
            self._context.set_tensor_address(name, device.value)
            pinned = (ctypes.c_uint8 * size).from_address(host.value or 0)
            array = np.frombuffer(pinned, dtype).reshape(shape)
            (self.inputs if name in taken else self.outputs)[name] = array
            self._copies[name] = (device, host, size)

    def send(self) -> None:
        """Copy the inputs to the GPU."""
        for name in self.inputs:
            device, host, size = self._copies[name]
            self._cuda.MemcpyAsync(device, host, ctypes.c_size_t(size), _TO_DEVICE, self.stream)

    def run(self) -> None:
        """Run the engine on what was sent."""
        if not self._context.execute_async_v3(self.stream.value):
            raise RuntimeError("the engine did not run")

    def receive(self) -> None:
        """Copy the outputs back."""
        for name in self.outputs:
            device, host, size = self._copies[name]
            self._cuda.MemcpyAsync(host, device, ctypes.c_size_t(size), _TO_HOST, self.stream)

    def synchronise(self) -> None:
        """Wait until all of it is done."""
        self._cuda.StreamSynchronize(self.stream)

    def captured(self, work: Callable[[], None]) -> Callable[[], None]:
        """`work` as a CUDA graph."""
        self.synchronise()
        self._cuda.StreamBeginCapture(self.stream, _RELAXED_CAPTURE)
        work()
        graph = ctypes.c_void_p()
        self._cuda.StreamEndCapture(self.stream, ctypes.byref(graph))
        instance = self._cuda.handle("GraphInstantiateWithFlags", graph, ctypes.c_ulonglong(0))
        return lambda: self._cuda.GraphLaunch(instance, self.stream)

    def close(self) -> None:
        """Give the buffers back."""
        for device, host, _ in self._copies.values():
            self._cuda.Free(device)
            self._cuda.FreeHost(host)
