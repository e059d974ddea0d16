"""`python -m images COMMAND`: arguments, exit codes, and nothing else."""

from __future__ import annotations

import argparse
import datetime as dt
import signal
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import FrameType
from typing import Final

from client.errors import ClientError
from images.bake import Interface, bake, order, write_image
from images.bump import bump
from images.compute import Compute
from images.pin import pin
from images.roles import ROLES
from images.stack_file import StackFile

FAILED: Final = 1
"""Exit code of a command that could not do what it was asked; 2 is argparse's, for a wrong command line."""
_REPOSITORY: Final = Path(__file__).resolve().parent.parent


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; its exit code."""
    options = parser().parse_args(arguments)
    run: Callable[[argparse.Namespace], None] = options.run
    # A pipeline that is cancelled must not leave a VM behind, no more than Ctrl-C must.
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        run(options)
    except ClientError as error:
        print(f"error: {error}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return 0


def parser() -> argparse.ArgumentParser:
    """The command line; `docs/` are checked against it."""
    root = argparse.ArgumentParser(prog="python -m images", description="What a stack's VMs boot and run.")
    commands = root.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: Callable[[argparse.Namespace], None], about: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=about, description=about)
        added.set_defaults(run=run)
        added.add_argument("--stack", required=True, help="its file is read and edited: Pulumi.<stack>.yaml")
        added.add_argument("--config-file", type=Path, metavar="FILE", help="another file than Pulumi.<stack>.yaml")
        return added

    one = command("bake", _bake, "Bake a boot image and write its name into the stack's file.")
    one.add_argument("--role", choices=sorted(ROLES), required=True, help="kind of VM")
    one.add_argument("--project", help="project of VM and image (default: gcp:project of the stack)")
    one.add_argument("--base", default="", metavar="IMAGE", help="stock image or family to start from")
    one.add_argument("--subnetwork", metavar="NAME", help="projects/<project>/regions/<region>/subnetworks/<name>")
    one.add_argument(
        "--no-external-address", action="store_true", help="the VM reaches registries through Cloud NAT instead"
    )
    one.add_argument("--timeout", type=float, default=3600, metavar="S", help="of the installation (default: 3600)")

    one = command("bump", _bump, "Write the newest stock image of the same family into the stack's file.")
    one.add_argument("--project", help="project to ask in (default: gcp:project of the stack)")

    command("pin", _pin, "Write the digests of the containers' tags into the stack's file.")
    return root


def _bake(options: argparse.Namespace) -> None:
    path, role = _file(options), ROLES[options.role]
    stack = StackFile.read(path)
    compute = Compute(_project(options, stack))
    interface = None
    if options.subnetwork or options.no_external_address:
        interface = Interface(
            network="global/networks/default",
            subnetwork=options.subnetwork or "",
            external_address=not options.no_external_address,
        )
    job = order(_REPOSITORY, stack, role, compute, base=options.base, interface=interface)
    # What can be found out now must not fail after the twenty minutes that an installation takes.
    stack.changed(role.image, f"projects/{compute.project}/global/images/{job.name}")
    image = bake(job, compute, _say, deadline_s=options.timeout)
    _tell(write_image(path, role, image, job.base))


def _bump(options: argparse.Namespace) -> None:
    path = _file(options)
    _tell(bump(path, Compute(_project(options, StackFile.read(path))), options.stack))


def _pin(options: argparse.Namespace) -> None:
    _tell(pin(_file(options), dt.datetime.now(dt.UTC).date()))


def _file(options: argparse.Namespace) -> Path:
    return options.config_file or Path(f"Pulumi.{options.stack}.yaml").absolute()


def _project(options: argparse.Namespace, stack: StackFile) -> str:
    return options.project or stack.required(("gcp:project",), "gcp:project: my-project")


def _say(line: str) -> None:
    print(f"{dt.datetime.now(dt.UTC):%H:%M:%S} {line}", flush=True)


def _tell(lines: Iterable[str]) -> None:
    for line in lines:
        print(line, flush=True)


def _interrupt(number: int, frame: FrameType | None) -> None:
    del number, frame
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
