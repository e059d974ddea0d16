"""`python -m client COMMAND`: arguments, exit codes, and nothing else."""

from __future__ import annotations

import argparse
import asyncio
import datetime as dt
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from client import doctor, load, predict, status
from client.api import ModelApi, checked_url, read_image, request_body
from client.errors import ClientError
from client.fleet import Fleet
from client.outputs import raw_outputs, read_outputs
from client.photo import synthetic_jpeg
from client.rendering import show
from client.wait import wait

FAILED = 1
"""Exit code of a command that could not do what it was asked; 2 is argparse's, for a wrong command line."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; its exit code."""
    options = parser().parse_args(arguments)
    run: Callable[[argparse.Namespace], int] = options.run
    try:
        return run(options)
    except ClientError as error:
        print(f"error: {error}", file=sys.stderr)
        return FAILED
    except BrokenPipeError:
        # The reader (`| head`) has seen enough. Python would complain once more when it flushes at exit.
        sys.stderr.close()
        return FAILED
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def parser() -> argparse.ArgumentParser:
    """The command line; `docs/` are checked against it."""
    root = argparse.ArgumentParser(prog="python -m client", description="Use and watch a deployed fleet.")
    commands = root.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: Callable[[argparse.Namespace], int], about: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=about, description=about)
        added.set_defaults(run=run)
        added.add_argument("--stack", help="Pulumi stack (default: the selected one)")
        return added

    one = command("predict", _predict, "Classify images and show labels, probabilities, and which VM answered.")
    one.add_argument("images", nargs="+", type=Path, metavar="IMAGE", help="JPEG or PNG file")
    one.add_argument("--url", help="http://HOST[:PORT] (default: the stack's output `endpoint`)")
    one.add_argument("--top", type=_positive, default=5, metavar="N", help="labels an image (default: 5)")
    one.add_argument("--json", action="store_true", help="print JSON")
    one.add_argument("--write-request", type=Path, metavar="FILE", help="also write the request's body")
    one.add_argument("--curl", action="store_true", help="also print the curl line that sends --write-request's file")

    one = command("status", _status, "Show groups, VMs, health, autoscalers and the GPU metric.")
    one.add_argument("--json", action="store_true", help="print JSON")

    one = command("wait", _wait, "Wait until versions, stability and backend health agree.")
    one.add_argument("--timeout", type=float, default=1800, metavar="S", help="seconds (default: 1800)")

    one = command("load", _load, "Send predict requests at a constant rate and keep what failed.")
    one.add_argument("--url", help="loopback http://HOST[:PORT] (default: the stack's output `endpoint`)")
    one.add_argument("--rate", type=float, default=20, metavar="R", help="requests a second (default: 20)")
    one.add_argument("--seconds", type=float, default=30, metavar="S", help="duration (default: 30)")
    one.add_argument(
        "--image", type=Path, action="append", metavar="FILE", help="JPEG or PNG; repeat for several in turn"
    )
    one.add_argument("--timeout", type=float, default=30, metavar="S", help="of one request (default: 30)")
    one.add_argument("--json", action="store_true", help="print JSON")

    one = command("doctor", _doctor, "Check command line, credentials, project, APIs and quotas.")
    one.add_argument("--json", action="store_true", help="print JSON")

    command("outputs", _outputs, "Print all outputs of the stack as JSON.")
    return root


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return value


def _print_json(value: object) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=False))


def _endpoint(options: argparse.Namespace) -> str:
    return checked_url(options.url or read_outputs(options.stack).endpoint)


def _load_target(options: argparse.Namespace) -> str:
    """The endpoint, if it is this machine's or the stack's own: load on anyone else's is an attack."""
    endpoint = _endpoint(options)
    if options.url and not load.is_loopback(endpoint):
        own = checked_url(read_outputs(options.stack).endpoint)
        if endpoint != own:
            raise ClientError(
                f"{endpoint} is neither on this machine nor the stack's endpoint, {own}",
                "Load only what is yours: leave --url out, or name a loopback address.",
            )
    return endpoint


def _predict(options: argparse.Namespace) -> int:
    if options.curl and options.write_request is None:
        raise ClientError("--curl sends a written request", "Name its file: --write-request out.json.")
    images = [(path, read_image(path)) for path in options.images]
    endpoint = _endpoint(options)
    api = ModelApi(endpoint)
    if options.write_request is not None:
        predict.write_request([data for _, data in images], options.write_request, api.photo_signature())
    predictions = predict.predict(api, images, options.top)
    if options.json:
        _print_json([predict.as_json(one) for one in predictions])
    else:
        for one in predictions:
            show(predict.table(one))
    if options.curl:
        # Apart from the JSON, which a program reads.
        line = predict.curl_line(endpoint, options.write_request)
        print(line, file=sys.stderr if options.json else sys.stdout)
    return 0


def _status(options: argparse.Namespace) -> int:
    fleet = Fleet.of(read_outputs(options.stack))
    state, points = fleet.state(), fleet.gpu_points(dt.datetime.now(dt.UTC))
    if options.json:
        _print_json(status.as_json(state, points))
    else:
        for table in status.tables(state, points):
            show(table)
    return 0


def _wait(options: argparse.Namespace) -> int:
    wait(Fleet.of(read_outputs(options.stack)), options.timeout, lambda line: print(line, flush=True))
    return 0


def _load(options: argparse.Namespace) -> int:
    load.check_size(options.rate, options.seconds)
    endpoint = _load_target(options)
    images = [read_image(path) for path in options.image] if options.image else [synthetic_jpeg()]
    signature = ModelApi(endpoint).photo_signature()
    result = asyncio.run(
        load.generate(
            endpoint,
            [request_body([image], signature) for image in images],
            rate=options.rate,
            seconds=options.seconds,
            timeout_s=options.timeout,
        )
    )
    if options.json:
        _print_json(load.as_json(result))
    else:
        show(load.table(result))
    return FAILED if result.failures else 0


def _doctor(options: argparse.Namespace) -> int:
    checks = doctor.examine(options.stack)
    if options.json:
        _print_json([doctor.as_json(check) for check in checks])
    else:
        show(doctor.table(checks))
    return FAILED if any(check.state == "failed" for check in checks) else 0


def _outputs(options: argparse.Namespace) -> int:
    _print_json(raw_outputs(options.stack))
    return 0


if __name__ == "__main__":
    sys.exit(main())
