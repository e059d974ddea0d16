"""`python -m serving`: serve on a VM, serve an artifact without one, fetch an artifact, load the GPUs."""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import contract
from artifact.errors import ArtifactError
from serving import log
from serving.burn import burn
from serving.fetch import fetch
from serving.gpus import NvidiaSmiError
from serving.limits import LIMITS, LimitError, of_arguments, of_metadata, with_limits
from serving.metadata import MetadataError, MetadataServer
from serving.settings import Settings, of_vm, without_fleet
from serving.supervisor import StartError, supervise
from serving.triton import InferError

_OTHER_PORTS: Final = {
    contract.METRICS_PORT: "metrics",
    contract.TRITON_GRPC_PORT: "Triton (gRPC)",
    contract.TRITON_METRICS_PORT: "Triton (metrics)",
}


def main() -> int:
    """Command line; the process's exit code."""
    arguments = _parser().parse_args()
    log.set_up("supervisor" if arguments.command is None else arguments.command)
    try:
        match arguments.command:
            case "fetch":
                print(fetch(MetadataServer.of_environment()))
            case "burn":
                asyncio.run(burn(arguments.host or _own_address(), arguments.seconds))
            case _ if arguments.artifact is None:
                asyncio.run(supervise(_settings_of_vm(arguments.set)))
            case _:
                _serve_folder(arguments.artifact, arguments.host, arguments.port, of_arguments(arguments.set))
    except (ArtifactError, InferError, LimitError, MetadataError, NvidiaSmiError, StartError) as error:
        print(f"error: {error}", file=sys.stderr)
        if isinstance(error, MetadataError):
            print("Not on a VM of a fleet? Serve a folder: python -m serving --artifact FOLDER", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m serving", description=__doc__)
    parser.add_argument("--artifact", type=Path, help="folder of an artifact: serve it without a fleet")
    parser.add_argument("--host", default="", help="address to bind without a fleet (default: 127.0.0.1)")
    parser.add_argument(
        "--port", type=_port, default=contract.API_PORT, help="port without a fleet (default: %(default)s)"
    )
    names = ", ".join(limit.name for limit in LIMITS)
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help=f"another limit than the default: {names}"
    )
    commands = parser.add_subparsers(dest="command")
    commands.add_parser("fetch", help="download and verify the artifact that the VM's metadata names")
    load = commands.add_parser("burn", help="keep the GPUs busy through Triton, past the gateway")
    load.add_argument("--seconds", type=float, required=True)
    return parser


def _port(text: str) -> int:
    """A port for the API, which the VM's other parts leave free."""
    if not text.isdecimal() or not 0 < int(text) < 2**16:
        raise argparse.ArgumentTypeError(f"{text!r} is no port: 1 to 65535")
    if (taken := _OTHER_PORTS.get(int(text))) is not None:
        raise argparse.ArgumentTypeError(f"{text} is the port of the same VM's {taken}: name another")
    return int(text)


def _settings_of_vm(pairs: Sequence[str]) -> Settings:
    server = MetadataServer.of_environment()
    text = server.attribute(contract.SERVING_LIMITS_KEY)
    try:
        settings = with_limits(of_vm(server), of_metadata(text) if text else {})
    except LimitError as error:
        raise MetadataError(f"metadata {contract.SERVING_LIMITS_KEY}: {error}") from error
    return with_limits(settings, of_arguments(pairs))


def _serve_folder(artifact: Path, host: str, port: int, limits: Mapping[str, str]) -> None:
    with tempfile.TemporaryDirectory(prefix="tensorrt-fleet-") as folder:
        asyncio.run(supervise(with_limits(without_fleet(artifact, host, port, Path(folder, "run")), limits)))


def _own_address() -> str:
    return MetadataServer.of_environment().need("instance/network-interfaces/0/ip")


if __name__ == "__main__":
    raise SystemExit(main())
