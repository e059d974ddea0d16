"""One gateway worker: `python -m serving.gateway --settings JSON --socket FD --gpus 0,1`, started by the supervisor."""

from __future__ import annotations

import argparse
import asyncio
import os
import socket
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import cv2
import uvicorn
import uvloop

from artifact.folder import ArtifactFolder
from serving import log
from serving.gateway import metrics
from serving.gateway.access_log import AccessLog
from serving.gateway.admission import Admission
from serving.gateway.app import Gateway
from serving.gateway.protocol import LimitedProtocol
from serving.gateway.router import Router
from serving.graphs import graphs
from serving.health import StatusFile
from serving.settings import Settings
from serving.triton import Triton

KEEP_ALIVE_S: Final = 620
"""Above the balancer's fixed 600 s: it must be the one who closes an idle connection first, or a request is lost."""


async def serve(settings: Settings, listener: socket.socket, gpus: list[int]) -> None:
    """Answer requests from `listener`, which other workers share, until SIGTERM; then finish those in flight."""
    artifact = ArtifactFolder(settings.artifact)
    status = StatusFile(settings.status_file)
    triton = Triton(settings.triton_address)
    images = max(1, settings.max_in_flight_images * len(gpus) // settings.workers)
    admission = Admission(images, settings.max_buffered_bytes, settings.queue_deadline_s)
    publishing = asyncio.create_task(metrics.publish_in_flight(admission))
    with ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="decode") as decoders:
        app = Gateway(
            vm=settings.vm,
            key=artifact.manifest.key,
            version=settings.model_version,
            platform="tensorrt_plan" if artifact.manifest.runtime == "tensorrt" else "onnxruntime_onnx",
            signatures=artifact.signatures,
            labels=artifact.labels(),
            status=status.read,
            router=Router(triton, gpus, status.read, {g.form: g.fixed_batch for g in graphs(artifact.signatures)}),
            admission=admission,
            decoders=decoders,
            access_log=AccessLog(settings.access_log_sample, settings.access_log_errors_per_s),
            max_body_bytes=settings.max_body_bytes,
            body_timeout_s=settings.body_timeout_s,
            request_timeout_s=settings.request_timeout_s,
        )
        config = uvicorn.Config(
            app,
            http=LimitedProtocol,
            ws="none",
            proxy_headers=False,
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_keep_alive=KEEP_ALIVE_S,
            # The supervisor ends a worker that is not done by then.
            timeout_graceful_shutdown=int(settings.finish_s),
        )
        await uvicorn.Server(config).serve(sockets=[listener])
    publishing.cancel()
    await triton.close()


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m serving.gateway")
    parser.add_argument("--settings", type=Settings.from_json, required=True)
    parser.add_argument("--socket", type=int, required=True)
    parser.add_argument("--gpus", type=lambda text: [int(gpu) for gpu in text.split(",")], required=True)
    arguments = parser.parse_args()
    log.set_up("gateway")
    # Decoding runs in threads of its own, one an image: OpenCV's would only add to them.
    cv2.setNumThreads(1)
    uvloop.run(serve(arguments.settings, socket.socket(fileno=arguments.socket), arguments.gpus))


if __name__ == "__main__":
    main()
