"""Values that a session computes. It needs no onnx, for neither does a server that compares itself with ours."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import onnxruntime
from onnxruntime.capi.onnxruntime_pybind11_state import InvalidArgument

from model.errors import uncomputed

_UNCOMPUTED: Final = re.compile(
    r"running (?P<operator>\w+) node\. Name:'(?P<name>.*?)' Status Message: (?P<why>.+)", re.DOTALL
)


def values_of(run: onnxruntime.InferenceSession, names: Sequence[str], fed: Mapping[str, Any]) -> list[Any]:
    """Values of the named tensors. None are asked for where there are no names: the session would give all outputs.

    Raises:
        BuildError: a node cannot compute a value that it is fed.
    """
    try:
        return list(run.run(list(names), fed)) if names else []
    except InvalidArgument as error:
        found = _UNCOMPUTED.search(str(error))
        if found is None:
            raise
        raise uncomputed(f"{found['name']} ({found['operator']})", found["why"]) from error
