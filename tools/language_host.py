#!/usr/bin/env python3
"""Pulumi's Python language host, for a CLI that was built from its module: the official one is not published as such.

Installed beside the CLI as `pulumi-language-python`. It runs the program in the project's own interpreter, over the
language server that the SDK carries for its Automation API.
"""

from __future__ import annotations

import os
import runpy
import signal
import sys
from concurrent import futures
from pathlib import Path
from threading import Event

READY = "PULUMI_LANGUAGE_HOST_INTERPRETER"
"""Set once this process runs in the project's interpreter."""


def project_interpreter(start: Path) -> str:
    """`PULUMI_PYTHON_CMD`, as in the official host, or `.venv/bin/python` of the project that `start` is in."""
    given = os.environ.get("PULUMI_PYTHON_CMD")
    if given:
        return given
    for folder in (start, *start.parents):
        candidate = folder / ".venv" / "bin" / "python"
        if candidate.exists():
            return str(candidate)
    sys.exit(f"pulumi-language-python: no .venv in {start} or above it: run `make setup`, or set PULUMI_PYTHON_CMD")


def serve(engine: str) -> None:
    """Print the port and answer the engine until it interrupts."""
    import grpc  # noqa: PLC0415 - only the project's interpreter has it
    from pulumi.automation._server import LanguageServer  # noqa: PLC0415 - the SDK has no public one
    from pulumi.runtime.proto import language_pb2, language_pb2_grpc  # noqa: PLC0415

    class Host(LanguageServer):
        def __init__(self) -> None:
            super().__init__(lambda: None)

        def Handshake(  # noqa: N802 - the protocol names its methods
            self, request: language_pb2.LanguageHandshakeRequest, context: grpc.ServicerContext
        ) -> language_pb2.LanguageHandshakeResponse:
            del request, context
            return language_pb2.LanguageHandshakeResponse()

        def Run(self, request: language_pb2.RunRequest, context: grpc.ServicerContext) -> language_pb2.RunResponse:  # noqa: N802
            os.chdir(request.pwd)
            sys.path.insert(0, request.pwd)
            sys.argv = [request.program, *request.args]
            program = request.info.program_directory or request.pwd

            def run_program() -> None:
                runpy.run_path(program, run_name="__main__")

            self.program = run_program
            del request.args[:]
            request.args.append(engine)
            response: language_pb2.RunResponse = super().Run(request, context)  # type: ignore[no-untyped-call]
            if response.error:
                # The server has logged it to the engine already; an error in the answer would be shown again.
                return language_pb2.RunResponse(bail=True)
            return response

    done = Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: done.set())
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=4))
    language_pb2_grpc.add_LanguageRuntimeServicer_to_server(Host(), server)
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)
    server.start()
    done.wait()
    sys.stdout.flush()
    sys.stderr.flush()
    # A program's worker threads may outlive it, and the engine waits for this process.
    os._exit(0)


def main() -> None:
    """The engine passes its address last; `-root` and the like come before it."""
    if os.environ.get(READY) is None:
        interpreter = project_interpreter(Path.cwd())
        os.execvpe(interpreter, [interpreter, __file__, *sys.argv[1:]], os.environ | {READY: "1"})  # noqa: S606 - itself, in another interpreter
    del os.environ[READY]
    serve(sys.argv[-1])


if __name__ == "__main__":
    main()
