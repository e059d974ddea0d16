"""Which GPU a request goes to: the one with the least outstanding work, among those whose canaries pass."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Final

import grpc

import contract
from artifact.signature import Form
from serving.fixed_batch import cut, filled
from serving.gateway.admission import overloaded
from serving.gateway.deadlines import Deadlines
from serving.gateway.http import bad_request, late, unavailable
from serving.health import Status
from serving.tensors import Array
from serving.triton import WAITED, InferError, Triton

_ELSEWHERE: Final = {grpc.StatusCode.INTERNAL, grpc.StatusCode.NOT_FOUND, grpc.StatusCode.UNAVAILABLE}
"""A dead stub, an unloaded model, a full queue: another GPU may answer. Inference changes nothing, so it may be tried
there."""
_LEAST_QUEUE_S: Final = 0.001
"""Zero would mean no limit to Triton."""


class Router:
    """Sends batches to the VM's GPUs. `status` says which of them work; `fixed_batches`, which forms take one size."""

    def __init__(
        self,
        triton: Triton,
        gpus: Iterable[int],
        status: Callable[[], Status],
        fixed_batches: Mapping[Form, int | None] | None = None,
    ) -> None:
        self._triton = triton
        self._fixed_batches = fixed_batches or {}
        self._status = status
        self._outstanding = dict.fromkeys(gpus, 0)

    async def infer(
        self, form: Form, inputs: Mapping[str, Array], count: int, deadlines: Deadlines
    ) -> dict[str, Array]:
        """Run a batch of `count` images.

        Raises:
            HttpError: 503 if no GPU answers, 400 if Triton finds the tensors wrong, 429 if it waited too long for
                a GPU, 504 if the answer is late.
        """
        inputs = filled(inputs, self._fixed_batches.get(form))
        tried: set[int] = set()
        reason = ""
        while (gpu := self._choose(tried)) is not None:
            tried.add(gpu)
            self._outstanding[gpu] += count
            try:
                now = time.monotonic()
                timeout_s, queue_s = max(0.0, deadlines.answer_by - now), max(_LEAST_QUEUE_S, deadlines.start_by - now)
                model = contract.triton_model_name(form, gpu)
                return cut(await self._triton.infer(model, inputs, timeout_s, queue_timeout_s=queue_s), count)
            except InferError as error:
                if error.code == grpc.StatusCode.INVALID_ARGUMENT:
                    raise bad_request(str(error)) from error
                if error.code == grpc.StatusCode.DEADLINE_EXCEEDED:
                    raise late() from error
                if error.code == grpc.StatusCode.UNAVAILABLE and WAITED in str(error):
                    raise overloaded("this request waited too long for a GPU") from error
                if error.code not in _ELSEWHERE:
                    raise unavailable(f"inference failed: {error}") from error
                reason = f"inference failed: {error}"
            finally:
                self._outstanding[gpu] -= count
        raise unavailable(reason or self._status().reason or "no GPU is ready")

    def _choose(self, tried: set[int]) -> int | None:
        ready = [gpu for gpu in self._status().gpus if gpu in self._outstanding and gpu not in tried]
        # Equal work goes to the GPU that was chosen longest ago: dicts keep their order, so it is moved to the end.
        chosen = min(ready, key=self._order, default=None)
        if chosen is not None:
            self._outstanding[chosen] = self._outstanding.pop(chosen)
        return chosen

    def _order(self, gpu: int) -> tuple[int, int]:
        return self._outstanding[gpu], list(self._outstanding).index(gpu)
