"""Builds one plan after the other with one TensorRT builder."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from artifact.profiles import BatchProfile
from model.errors import BuildError
from model.plan.log import PlanLog, logger_for
from model.plan.tensorrt_api import Config, Network, TensorRt
from model.plan.timing_cache import TimingCacheFile

PlanPrecision = Literal["int8", "fp16", "fp32"]
_FLAGS: Final[dict[PlanPrecision, tuple[str, ...]]] = {"int8": ("INT8", "FP16"), "fp16": ("FP16",), "fp32": ()}
"""What a weakly typed network may run in besides FP32: layers of an INT8 graph without Q/DQ run in FP16."""


@dataclass(frozen=True, slots=True)
class BuiltPlan:
    """A plan and what its engine's inspector says, in JSON."""

    content: bytes
    inspection: str
    seconds: float


class PlanBuilder:
    """Keeps one TensorRT builder: each costs 7 to 8 s, 3 GB of memory and 0.75 GiB of the GPU to make.

    (Measured with TensorRT 8.6.1 on an H200, 2026-11; not with 10.x on a T4.)
    """

    def __init__(self, tensorrt: TensorRt, log: PlanLog, timing: TimingCacheFile) -> None:
        """Make the builder.

        Raises:
            BuildError: TensorRT cannot make one: no driver, or no memory.
        """
        self._tensorrt = tensorrt
        self._log = log
        self._timing = timing
        self._logger = logger_for(tensorrt, log)
        try:
            self._builder = tensorrt.Builder(self._logger)
        except (TypeError, RuntimeError) as error:
            # The bindings raise TypeError where the library answers with a null pointer.
            raise BuildError(f"TensorRT's builder does not start: {log.reason()} (log: {log.path})") from error

    def build(self, name: str, graph: bytes, precision: PlanPrecision, profiles: Sequence[BatchProfile]) -> BuiltPlan:
        """Build the plan `name` from an ONNX graph whose inputs start with the batch.

        TF32 is off: on GPUs that have it (a T4 has not) the row called FP32 would be another precision.

        Raises:
            BuildError: TensorRT does not parse the graph, or cannot build it.
        """
        began = time.monotonic()
        self._log.note(f"--- {name}: {len(graph)} bytes of ONNX")
        network = self._parse(name, graph)
        config = self._builder.create_builder_config()
        config.profiling_verbosity = self._tensorrt.ProfilingVerbosity.DETAILED
        config.clear_flag(self._tensorrt.BuilderFlag.TF32)
        for flag in _FLAGS[precision]:
            config.set_flag(getattr(self._tensorrt.BuilderFlag, flag))
        self._add_profiles(name, network, config, profiles)
        self._log.note(self._timing.load_into(config))
        content = self._builder.build_serialized_network(network, config)
        if content is None:
            raise BuildError(f"TensorRT cannot build {name}: {self._log.reason()} (log: {self._log.path})")
        plan = bytes(content)
        self._timing.save_from(config)
        return BuiltPlan(plan, self._inspect(name, plan), time.monotonic() - began)

    def _parse(self, name: str, graph: bytes) -> Network:
        network = self._builder.create_network(0)
        parser = self._tensorrt.OnnxParser(network, self._logger)
        if not parser.parse(graph):
            errors = [parser.get_error(index) for index in range(parser.num_errors)]
            said = "; ".join(f"node {error.node_name() or '(none)'}: {error.desc()}" for error in errors)
            raise BuildError(f"TensorRT does not parse {name}: {said or self._log.reason()} (log: {self._log.path})")
        return network

    def _add_profiles(self, name: str, network: Network, config: Config, profiles: Sequence[BatchProfile]) -> None:
        for batches in profiles:
            profile = self._builder.create_optimization_profile()
            for index in range(network.num_inputs):
                tensor = network.get_input(index)
                smallest, best, greatest = (
                    (size, *tuple(tensor.shape)[1:]) for size in (batches.smallest, batches.best, batches.greatest)
                )
                if -1 in smallest or tensor.shape[0] not in (-1, batches.best):
                    raise BuildError(
                        f"{name}: input {tensor.name} has shape {list(tensor.shape)}: TensorRT's profiles need all "
                        "dimensions but the batch fixed"
                    )
                profile.set_shape(tensor.name, smallest, best, greatest)
            if config.add_optimization_profile(profile) < 0:
                raise BuildError(f"TensorRT refuses a profile of {name}: {self._log.reason()} (log: {self._log.path})")

    def _inspect(self, name: str, plan: bytes) -> str:
        runtime = self._tensorrt.Runtime(self._logger)
        engine = runtime.deserialize_cuda_engine(plan)
        if engine is None:
            raise BuildError(f"TensorRT does not read {name} back: {self._log.reason()} (log: {self._log.path})")
        return engine.create_engine_inspector().get_engine_information(self._tensorrt.LayerInformationFormat.JSON)
