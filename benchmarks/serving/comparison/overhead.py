"""What the gateway adds: client to gateway to a null model, minus client to the same null model in Triton over HTTP.

A real gateway worker with all that it does for every request, and a real Triton with the configuration of a VM's model;
only the model does nothing. The text form passes the photo's bytes through as a string, so the difference is the
gateway's own work; the image form decodes them, so the rest is decoding.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import socket
import statistics
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import psutil
from google.protobuf import text_format

import contract
from artifact.archive import file_entry
from artifact.folder import dump
from artifact.manifest import MANIFEST_FILE, Archive, Manifest
from artifact.preprocessing import load_image
from artifact.signature import SIGNATURE_FILE, Preprocessing, Signature, SignatureFile, TensorSpec
from benchmarks.serving import vm
from benchmarks.serving.comparison.cells import Cell
from benchmarks.serving.generator import generate
from serving.graphs import graphs
from serving.health import Status, StatusFile
from serving.settings import Settings, without_fleet
from serving.triton_config import cpu_config
from serving.tritonserver import arguments

HOST: Final = "127.209.20.1"
TRITON_HTTP_PORT: Final = 8000
CLASSES: Final = 1000
_STATUS_S: Final = 1.0
_START_S: Final = 60.0
_TEXT: Final = "text"
_IMAGE: Final = "serving_default"
_PREP: Final = Preprocessing(
    decoder="fast", interpolation="linear", crop_fraction=0.875, height=224, width=224, mean=(127,) * 3, std=(128,) * 3
)


@dataclass(frozen=True, slots=True)
class Feeding:
    """Photos decoded and handed to the null model, in a closed loop."""

    images_per_s: float
    cpu_ms: float
    """Processor time an image of gateway worker, Triton and stub: all that there is but the model."""


@dataclass(frozen=True, slots=True)
class Overhead:
    """Milliseconds of one request at a time: the median of each round, in turns."""

    gateway: tuple[float, ...]
    triton: tuple[float, ...]
    gateway_decoding: tuple[float, ...]
    """The image form through the gateway."""
    triton_pixels: tuple[float, ...]
    """The decoded image to Triton."""
    bytes: int
    """Of the photo."""
    feeding: Mapping[str, Feeding]
    """By cell: what a GPU would be fed with."""

    @property
    def gateway_ms(self) -> float:
        """What the gateway adds without decoding: median of the rounds' differences."""
        return _difference(self.gateway, self.triton)

    @property
    def decoding_ms(self) -> float:
        """What it adds on top where it decodes the photo."""
        return _difference(self.gateway_decoding, self.triton_pixels) - self.gateway_ms


def measure_overhead(
    folder: Path, photo: bytes, cells: Mapping[str, Cell], *, rounds: int, requests: int, seconds: float
) -> Overhead:
    """So many `requests` of each kind a round, one at a time over one connection each; then `seconds` of each cell."""
    times: dict[str, list[float]] = {name: [] for name in ("gateway", "triton", "gateway_decoding", "triton_pixels")}
    pixels = load_image(photo, _PREP)
    asked = {
        "gateway": (contract.API_PORT, _predict(photo, _TEXT)),
        "triton": (TRITON_HTTP_PORT, _infer("tensor", "BYTES", (1, 1), len(photo).to_bytes(4, "little") + photo)),
        "gateway_decoding": (contract.API_PORT, _predict(photo, _IMAGE)),
        "triton_pixels": (TRITON_HTTP_PORT, _infer("image", "UINT8", (1, *pixels.shape), pixels.tobytes())),
    }
    with _null_vm(folder / "null") as processes, ExitStack() as stack:
        sides: dict[str, Callable[[], None]] = {}
        for name, (port, request) in asked.items():
            connection = stack.enter_context(socket.create_connection((HOST, port)))
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sides[name] = partial(_exchange, connection, request)
        for exchange in sides.values():
            _median_ms(exchange, requests)
        for _ in range(rounds):
            for name, exchange in sides.items():
                times[name].append(_median_ms(exchange, requests))
        feeding = {name: _feed(cell, processes, seconds) for name, cell in cells.items()}
    return Overhead(**{name: tuple(values) for name, values in times.items()}, bytes=len(photo), feeding=feeding)


def _feed(cell: Cell, processes: Sequence[psutil.Process], seconds: float) -> Feeding:
    def cpu_s() -> float:
        return sum(sum(process.cpu_times()[:2]) for process in processes)

    before = cpu_s()
    load = generate(HOST, cell.bodies, seconds, concurrency=cell.concurrency)
    images = len(load.good_s) * cell.images
    return Feeding(load.closed_loop_rate * cell.images, 1000 * (cpu_s() - before) / images)


def _difference(one: Sequence[float], other: Sequence[float]) -> float:
    return statistics.median(a - b for a, b in zip(one, other, strict=True))


def _median_ms(exchange: Callable[[], None], requests: int) -> float:
    seconds = []
    for _ in range(requests):
        began = time.perf_counter()
        exchange()
        seconds.append(time.perf_counter() - began)
    return 1000 * statistics.median(seconds)


def _exchange(connection: socket.socket, request: bytes) -> None:
    """Send a request, and read its answer."""
    connection.sendall(request)
    received = b""
    while b"\r\n\r\n" not in received:
        received += _received(connection)
    head, _, body = received.partition(b"\r\n\r\n")
    lines = head.lower().split(b"\r\n")
    assert b" 200 " in lines[0], received[:500]
    left = next(int(line[15:]) for line in lines if line.startswith(b"content-length:")) - len(body)
    while left > 0:
        left -= len(_received(connection))


def _received(connection: socket.socket) -> bytes:
    data = connection.recv(2**17)
    assert data, "the server closed the connection"
    return data


def _predict(photo: bytes, signature: str) -> bytes:
    instance = {"b64": base64.b64encode(photo).decode()}
    body = json.dumps({"signature_name": signature, "instances": [instance]}).encode()
    return _post(contract.PREDICT_PATH, body, {"Content-Type": "application/json"})


def _infer(form: Any, datatype: str, shape: Sequence[int], raw: bytes) -> bytes:  # noqa: ANN401 - a Form
    tensor = {"name": form, "shape": shape, "datatype": datatype, "parameters": {"binary_data_size": len(raw)}}
    document = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    path = f"/v2/models/{contract.triton_model_name(form, 0)}/infer"
    return _post(path, document + raw, {"Inference-Header-Content-Length": str(len(document))})


def _post(path: str, body: bytes, headers: Mapping[str, str]) -> bytes:
    lines = [f"POST {path} HTTP/1.1", f"Host: {HOST}", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


def _signatures() -> SignatureFile:
    """A text and an image in, as many scores as the measured model's out."""
    scores = TensorSpec(name="scores", dtype="float32", shape=(-1, CLASSES), kind="tensor", tensor="scores")
    text = TensorSpec(name="text", dtype="string", shape=(-1,), kind="tensor", tensor="tensor")
    image = TensorSpec(name="image", dtype="string", shape=(-1,), kind="jpeg", tensor="image")
    return SignatureFile(
        signatures={
            _TEXT: Signature(form="tensor", inputs=(text,), outputs=(scores,), max_batch=32),
            _IMAGE: Signature(form="image", inputs=(image,), outputs=(scores,), preprocessing=_PREP, max_batch=32),
        }
    )


def _write_artifact(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / SIGNATURE_FILE).write_bytes(dump(_signatures()))
    manifest = Manifest(
        key="0" * 20,
        runtime="onnxruntime-cpu",
        inputs={},
        run="0" * 16,
        tools={},
        archive=Archive(name=f"model-{'0' * 64}.tar.gz", sha256="0" * 64, size=0),
        files={SIGNATURE_FILE: file_entry(folder / SIGNATURE_FILE)},
        precisions=(),
    )
    (folder / MANIFEST_FILE).write_bytes(dump(manifest))


def _write_repository(folder: Path) -> None:
    for graph in graphs(_signatures()):
        name = contract.triton_model_name(graph.form, 0)
        version = folder / name / "1"
        version.mkdir(parents=True)
        shutil.copy(Path(__file__).with_name("null_model.py"), version / "model.py")
        written = cpu_config(name, 0, graph, Path(), 1)
        (folder / name / "config.pbtxt").write_text(text_format.MessageToString(written))


@contextmanager
def _null_vm(folder: Path) -> Iterator[list[psutil.Process]]:
    """Triton and one gateway worker, without the supervisor, which lets Triton speak no HTTP. Yields all processes."""
    _write_artifact(folder / "artifact")
    _write_repository(folder / "models")
    settings = without_fleet(folder / "artifact", HOST, contract.API_PORT, folder)
    settings.metrics_folder.mkdir()
    triton = arguments(HOST, folder / "models", f"bench-{os.getpid()}-", on_gpus=False)
    triton.remove("--allow-http=false")
    triton += [f"--http-address={HOST}", f"--http-port={TRITON_HTTP_PORT}", "--load-model=*"]
    path = {"PATH": f"{vm.SERVING_BIN}:{os.defpath}"}
    with (
        (folder / "log").open("w") as log,
        socket.create_server((HOST, contract.API_PORT)) as listener,
        ExitStack() as on,
    ):
        listener.setblocking(False)
        on.enter_context(_healthy(settings))
        server = on.enter_context(_process(triton, path, log.fileno()))
        worker = _process(_worker(settings, listener), path | _metrics(settings), log.fileno(), listener)
        gateway = on.enter_context(worker)
        _wait_for_answers(folder / "log")
        yield [server, *server.children(recursive=True), gateway]


def _worker(settings: Settings, listener: socket.socket) -> list[str]:
    command = [str(vm.SERVING_BIN / "python3"), "-m", "serving.gateway", "--settings", settings.to_json()]
    return [*command, "--socket", str(listener.fileno()), "--gpus", "0"]


def _metrics(settings: Settings) -> dict[str, str]:
    return {"PROMETHEUS_MULTIPROC_DIR": str(settings.metrics_folder)}


@contextmanager
def _process(
    command: Sequence[str], environment: Mapping[str, str], log: int, listener: socket.socket | None = None
) -> Iterator[psutil.Process]:
    fds = [] if listener is None else [listener.fileno()]
    process = subprocess.Popen(command, cwd=vm.ROOT, env=environment, stdout=log, stderr=log, pass_fds=fds)
    try:
        yield psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait()


@contextmanager
def _healthy(settings: Settings) -> Iterator[None]:
    """Says what the supervisor would: a worker sends nothing to a GPU that is not known to work."""
    file = StatusFile(settings.status_file)
    stop = threading.Event()

    def say() -> None:
        file.write(
            Status(
                at=time.monotonic(),
                serving=True,
                live=True,
                state="AVAILABLE",
                reason="",
                draining=False,
                gpus=(0,),
            )
        )

    def keep_saying() -> None:
        while not stop.wait(_STATUS_S):
            say()

    say()
    thread = threading.Thread(target=keep_saying, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _wait_for_answers(log: Path) -> None:
    request = _predict(b"", _TEXT)
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline:
        with suppress(OSError, AssertionError), socket.create_connection((HOST, contract.API_PORT), 5.0) as connection:
            _exchange(connection, request)
            return
        time.sleep(0.1)
    raise vm.VmError(f"the null model on {HOST} does not answer:\n{log.read_text()[-2000:]}")
