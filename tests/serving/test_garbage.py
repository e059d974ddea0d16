"""What a request held is free once it is answered: cycles would keep it until Python's garbage collector looks."""

from __future__ import annotations

import gc
import json
from collections.abc import Callable, Iterator
from types import FrameType, TracebackType
from typing import Any

import pytest

from serving.gateway.http import late
from tests.model.tiny import colour_jpeg
from tests.serving.conftest import Client, b64

GOOD = b64(colour_jpeg("red"))
TENSOR = {"signature_name": "tensor"}


@pytest.fixture
def collected() -> Iterator[Callable[[], list[str]]]:
    """Errors and frames that only the collector would have freed since the last call, as text."""

    def look() -> list[str]:
        gc.collect()
        held = [repr(item) for item in gc.garbage if isinstance(item, BaseException | FrameType | TracebackType)]
        gc.garbage.clear()
        return held

    gc.disable()
    # What is there already is none of these tests' business, and takes the collector long to look through.
    gc.freeze()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        yield look
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.unfreeze()
        gc.enable()


@pytest.mark.parametrize(
    ("body", "status", "options"),
    [
        pytest.param({"instances": [GOOD]}, 200, {}, id="answered"),
        pytest.param({"instances": [GOOD]}, 0, {"leaves": True}, id="its client left"),
        pytest.param(b'{"instances": [', 400, {}, id="no JSON"),
        pytest.param(b'{"instances": ' + b"[" * 2000, 400, {}, id="deep nesting"),
        pytest.param({"instances": [list(range(10_000))]}, 400, {}, id="numbers for an image"),
        pytest.param({"instances": [GOOD, {"b64": "%"}]}, 400, {}, id="no base64"),
        pytest.param({"instances": [GOOD, b64(colour_jpeg("red")[:200])]}, 400, {}, id="truncated image"),
        pytest.param({**TENSOR, "instances": [[1.0, [2.0]], [3.0]]}, 400, {}, id="ragged tensor"),
        pytest.param({**TENSOR, "instances": [["a"] * 1000]}, 400, {}, id="tensor of texts"),
        pytest.param({"instances": list(range(10_000))}, 400, {}, id="many instances"),
        pytest.param({"instances": [GOOD] * 200}, 400, {}, id="too many images"),
    ],
)
async def test_an_answered_request_leaves_no_cycles(
    client: Client, collected: Callable[[], list[str]], body: Any, status: int, options: dict[str, Any]
) -> None:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    await client.predict(content, **options)  # what happens only once is not looked at
    collected()
    assert (await client.predict(content, **options)).status == status
    assert collected() == []


async def test_nor_does_one_that_was_too_late(client: Client, collected: Callable[[], list[str]]) -> None:
    client.router.refusal = late()
    assert (await client.predict({"instances": [GOOD]})).status == 504
    client.router.refusal = None
    assert collected() == []
