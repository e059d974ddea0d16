"""Run a TensorRT plan from Python: the runner of the comparison's rows on a GPU.

CUDA's runtime is called through ctypes, so that TensorRT's container needs no further package. Names and behaviour
follow NVIDIA's references for TensorRT 10's Python API and for the CUDA runtime API.
"""

from __future__ import annotations

import ctypes
import ctypes.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from model.errors import BuildError
from model.plan.tensorrt_api import load_tensorrt

_TO_DEVICE: Final = 1
_TO_HOST: Final = 2
_LIBRARIES: Final = ("libcudart.so.13", "libcudart.so.12", "libcudart.so")
"""CUDA's runtime by what its releases call it."""


class Cuda(Protocol):
    """The few calls of CUDA's runtime that are needed. Addresses are integers."""

    def malloc(self, size: int) -> int:
        """Address of `size` bytes on the GPU."""
        ...

    def to_device(self, address: int, values: npt.NDArray[Any]) -> None:
        """Copy an array to the GPU."""
        ...

    def to_host(self, values: npt.NDArray[Any], address: int) -> None:
        """Copy from the GPU into an array, when all work before has been done."""
        ...

    def free(self, address: int) -> None:
        """Give GPU memory back."""
        ...


class CudaRuntime:
    """CUDA's own library.

    Raises:
        BuildError: it is not there, or a call fails.
    """

    def __init__(self) -> None:
        found = ctypes.util.find_library("cudart")
        for name in (*((found,) if found else ()), *_LIBRARIES):
            try:
                self._library = ctypes.CDLL(name)
            except OSError:
                continue
            return
        raise BuildError(f"CUDA's runtime is not here ({', '.join(_LIBRARIES)}): run it in NVIDIA's TensorRT container")

    def malloc(self, size: int) -> int:
        """See `Cuda`."""
        address = ctypes.c_void_p()
        self._call("cudaMalloc", ctypes.byref(address), ctypes.c_size_t(size))
        return address.value or 0

    def to_device(self, address: int, values: npt.NDArray[Any]) -> None:
        """See `Cuda`."""
        source = ctypes.c_void_p(values.ctypes.data)
        self._call("cudaMemcpy", ctypes.c_void_p(address), source, ctypes.c_size_t(values.nbytes), _TO_DEVICE)

    def to_host(self, values: npt.NDArray[Any], address: int) -> None:
        """See `Cuda`."""
        # The default stream waits for all work before it, and so does this copy.
        target = ctypes.c_void_p(values.ctypes.data)
        self._call("cudaMemcpy", target, ctypes.c_void_p(address), ctypes.c_size_t(values.nbytes), _TO_HOST)

    def free(self, address: int) -> None:
        """See `Cuda`."""
        self._call("cudaFree", ctypes.c_void_p(address))

    def _call(self, name: str, *arguments: object) -> None:
        status = getattr(self._library, name)(*arguments)
        if status:
            raise BuildError(f"{name} failed with CUDA error {status}")


class TensorrtRunner:
    """A plan on the GPU. A call copies its inputs there, runs, and copies the output back, as a request does.

    Every batch size runs on the optimisation profile whose best batch is nearest to it, among those that allow it.

    Raises:
        BuildError: no TensorRT or CUDA, a plan of another version or GPU, or a batch that no profile allows.
    """

    def __init__(self, plan: Path, output: str, tensorrt: Any = None, cuda: Cuda | None = None) -> None:  # noqa: ANN401 - the module
        trt: Any = tensorrt or load_tensorrt()
        self.runtime = f"TensorRT {trt.__version__}"
        self._cuda = cuda or CudaRuntime()
        self._output = output
        # Both live as long as the engine does.
        self._logger = trt.Logger(trt.Logger.WARNING)
        self._reader = trt.Runtime(self._logger)
        self._engine = self._reader.deserialize_cuda_engine(plan.read_bytes())
        if self._engine is None:
            raise BuildError(f"{plan} is not read by TensorRT {trt.__version__} on this GPU: build plans here")
        names = [self._engine.get_tensor_name(number) for number in range(self._engine.num_io_tensors)]
        self._inputs = [n for n in names if self._engine.get_tensor_mode(n) == trt.TensorIOMode.INPUT]
        self._outputs = [name for name in names if name not in self._inputs]
        self._dtypes = {name: np.dtype(trt.nptype(self._engine.get_tensor_dtype(name))) for name in names}
        self._profiles = [self._profile(number) for number in range(self._engine.num_optimization_profiles)]
        self._contexts: dict[int, Any] = {}
        self._buffers: dict[str, tuple[int, int]] = {}

    def __call__(self, *inputs: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """See `model.compare.runners.Runner`."""
        context = self._context(nearest_profile(self._profiles, len(inputs[0])))
        for name, values in zip(self._inputs, inputs, strict=True):
            given = np.ascontiguousarray(values, self._dtypes[name])
            context.set_input_shape(name, given.shape)
            context.set_tensor_address(name, self._buffer(name, given.nbytes))
            self._cuda.to_device(self._buffers[name][0], given)
        answers = {}
        for name in self._outputs:
            answers[name] = np.empty(tuple(context.get_tensor_shape(name)), self._dtypes[name])
            context.set_tensor_address(name, self._buffer(name, answers[name].nbytes))
        if not context.execute_async_v3(0):
            raise BuildError("TensorRT did not run the plan")
        self._cuda.to_host(answers[self._output], self._buffers[self._output][0])
        return answers[self._output].astype(np.float32, copy=False)

    def _profile(self, number: int) -> tuple[int, int, int]:
        smallest, best, greatest = self._engine.get_tensor_profile_shape(self._inputs[0], number)
        return smallest[0], best[0], greatest[0]

    def _context(self, profile: int) -> Any:  # noqa: ANN401 - TensorRT's classes exist at run time only
        if profile not in self._contexts:
            context = self._engine.create_execution_context()
            context.set_optimization_profile_async(profile, 0)
            self._contexts[profile] = context
        return self._contexts[profile]

    def _buffer(self, name: str, size: int) -> int:
        """Address of at least `size` bytes for a tensor."""
        address, held = self._buffers.get(name, (0, 0))
        if held < size:
            if held:
                self._cuda.free(address)
            address = self._cuda.malloc(size)
            self._buffers[name] = address, size
        return address


def nearest_profile(profiles: Sequence[tuple[int, int, int]], batch: int) -> int:
    """Index of the profile (smallest, best, greatest batch) that is best for a batch.

    Raises:
        BuildError: none allows it; the message names those there are.
    """
    allowed = [number for number, (smallest, _, greatest) in enumerate(profiles) if smallest <= batch <= greatest]
    if not allowed:
        ranges = ", ".join(f"{smallest} to {greatest}" for smallest, _, greatest in profiles)
        raise BuildError(f"batch {batch} is not in the plan: its profiles take {ranges}")
    return min(allowed, key=lambda number: abs(profiles[number][1] - batch))
