"""What can run a model: each takes a value for every input and answers one output, float [N, ...]."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final, Literal, Protocol

import numpy as np
import numpy.typing as npt
import onnxruntime
from pydantic import BaseModel, ConfigDict

from model.errors import BuildError
from model.export.frozen import FrozenSignature
from model.values import values_of

Scores = npt.NDArray[np.float32]
NOT_REPRESENTATIVE: Final = (
    "not representative: this runtime has no FP16 kernels for a CPU and computes in FP32 between conversions"
)
"""Said of FP16 rows."""
GRAPH_FILE: Final = "native.pb"
NAMES_FILE: Final = "native.json"


class RowSpec(BaseModel):
    """What one row runs; everything that a process of its own needs to know."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    row: str
    """`native`, or a precision of the artifact."""
    kind: Literal["tensorflow", "onnxruntime", "tensorrt"]
    model: Path
    """A folder with GRAPH_FILE and NAMES_FILE, an ONNX file or a TensorRT plan."""
    output: str
    """The output that is answered."""
    threads: int
    xla: bool = False
    on_gpu: bool = False
    """Whether it must run on a GPU."""
    note: str = ""

    @property
    def options(self) -> str:
        """What else was chosen, in words."""
        return ("XLA" if self.xla else "XLA off") if self.kind == "tensorflow" else ""

    @property
    def size_bytes(self) -> int:
        """Of the model's file."""
        return (self.model / GRAPH_FILE if self.model.is_dir() else self.model).stat().st_size


class Runner(Protocol):
    """A loaded model."""

    runtime: str
    """Library and version."""

    def __call__(self, *inputs: npt.NDArray[Any]) -> Scores:
        """The output for these inputs."""
        ...


class OnnxRuntimeRunner:
    """An ONNX file on the CPU."""

    runtime = f"ONNX Runtime {onnxruntime.__version__}"

    def __init__(self, model: Path | bytes, output: str, threads: int) -> None:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = threads
        content = str(model) if isinstance(model, Path) else model
        self._session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        self._names = [value.name for value in self._session.get_inputs()]
        self._output = output

    def __call__(self, *inputs: npt.NDArray[Any]) -> Scores:
        """See `Runner`."""
        (answer,) = values_of(self._session, [self._output], dict(zip(self._names, inputs, strict=True)))
        scores: Scores = answer
        return scores


class TensorFlowGraphRunner:
    """A frozen TensorFlow graph, on what TensorFlow finds: a CPU, or a GPU that the process may see."""

    def __init__(self, model: FrozenSignature, output: str, xla: bool = False, on_gpu: bool = False) -> None:
        import tensorflow as tf  # noqa: PLC0415 - takes seconds, and ONNX rows need none of it

        if on_gpu and not tf.config.list_physical_devices("GPU"):
            raise BuildError(f"TensorFlow {tf.__version__} sees no GPU here: install the one with CUDA's libraries")
        self.runtime = f"TensorFlow {tf.__version__}"
        self._run = model.runner(output, xla=xla)

    def __call__(self, *inputs: npt.NDArray[Any]) -> Scores:
        """See `Runner`."""
        return self._run(*inputs)


def load_runner(spec: RowSpec) -> Runner:
    """Load what a row runs.

    Raises:
        BuildError: it cannot be loaded here; the message says what is missing.
    """
    if spec.kind == "onnxruntime":
        return OnnxRuntimeRunner(spec.model, spec.output, spec.threads)
    if spec.kind == "tensorflow":
        return _tensorflow(spec)
    from model.compare.tensorrt_runner import TensorrtRunner  # noqa: PLC0415 - rows on a CPU need none of it

    return TensorrtRunner(spec.model, spec.output)


def save_native(model: FrozenSignature, folder: Path) -> None:
    """Write a frozen graph so that another process can run it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / GRAPH_FILE).write_bytes(model.graph_def.SerializeToString(deterministic=True))
    names = {"inputs": model.inputs, "outputs": model.outputs}
    (folder / NAMES_FILE).write_text(json.dumps(names), encoding="utf-8")


def _tensorflow(spec: RowSpec) -> Runner:
    import tensorflow as tf  # noqa: PLC0415 - see TensorFlowGraphRunner

    tf.get_logger().setLevel("ERROR")
    tf.config.threading.set_intra_op_parallelism_threads(spec.threads)
    graph = tf.compat.v1.GraphDef.FromString((spec.model / GRAPH_FILE).read_bytes())
    names = json.loads((spec.model / NAMES_FILE).read_text(encoding="utf-8"))
    frozen = FrozenSignature(graph, names["inputs"], names["outputs"])
    return TensorFlowGraphRunner(frozen, spec.output, spec.xla, spec.on_gpu)
