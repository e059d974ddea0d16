"""`python -m sandbox`: the sandbox's command line."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from sandbox.engine import Engine, Operation, engine, say
from sandbox.folder import SandboxError, StateFolder, chosen_program
from sandbox.inspection import follow_events, follow_log, overview
from sandbox.lifecycle import end_everything, ensure_running
from sandbox.operator import as_shell, clean_environment, variables
from tools import pulumi_cli


def main(arguments: Sequence[str]) -> int:
    """Run one command; its exit code."""
    command, _, rest = _split(arguments)
    options = _parser().parse_args(command)
    try:
        return asyncio.run(_dispatch(options, rest))
    except SandboxError as error:
        print(f"sandbox: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _split(arguments: Sequence[str]) -> tuple[list[str], bool, list[str]]:
    if "--" not in arguments:
        return list(arguments), False, []
    at = list(arguments).index("--")
    return list(arguments[:at]), True, list(arguments[at + 1 :])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m sandbox", description="Google Cloud on this machine.")
    commands = parser.add_subparsers(dest="command", required=True)
    for operation, text in (
        ("preview", "show what `up` would do; needs no running sandbox"),
        ("up", "deploy a stack here"),
        ("refresh", "read the live state into the stack"),
        ("destroy", "remove a stack from here"),
    ):
        stack = commands.add_parser(operation, help=text, epilog="Arguments after -- go to pulumi.")
        stack.add_argument("stack", help="name of Pulumi.<stack>.yaml")
        stack.add_argument(
            "--file",
            default="",
            metavar="Pulumi.NAME.yaml",
            help="take the stack's settings from this file of the program, for this and later runs",
        )
        stack.add_argument(
            "--config",
            action="append",
            default=[],
            metavar="PATH=VALUE",
            help="set a value in the sandbox's copy of the stack's file, for this and later runs; PATH= takes it back",
        )
    commands.add_parser("start", help="start the sandbox")
    commands.add_parser("down", help="end it: destroy its stacks, end every process, remove its state")
    commands.add_parser("status", help="what is declared and what runs")
    commands.add_parser("env", help="print the operator's environment, for a shell to evaluate")
    commands.add_parser("run", help="run a command in the operator's environment: run -- COMMAND ...")
    logs = commands.add_parser("logs", help="serial console of a VM")
    logs.add_argument("vm", help="its name")
    logs.add_argument("-f", "--follow", action="store_true", help="go on as it grows")
    events = commands.add_parser("events", help="what the sandbox did")
    events.add_argument("-f", "--follow", action="store_true", help="go on as they happen")
    return parser


async def _dispatch(options: argparse.Namespace, rest: Sequence[str]) -> int:
    folder, program = StateFolder.chosen(), chosen_program()
    command: str = options.command
    if command in get_args(Operation):
        async with engine(folder, program, fleet=command != "preview") as runner:
            return await runner.run(command, options.stack, options.config, rest, file=options.file)  # type: ignore[arg-type]
    match command:
        case "start":
            await ensure_running(folder, say)
            say(f"sandbox: running; its log is {folder.log}")
        case "down":
            return await _down(folder, program)
        case "status":
            print(overview(folder))
        case "env":
            print(as_shell(_operator(folder)))
        case "run":
            return _run(folder, rest)
        case "logs":
            await follow_log(folder, options.vm, follow=options.follow)
        case "events":
            await follow_events(folder, follow=options.follow)
    return 0


async def _down(folder: StateFolder, program: Path) -> int:
    """Destroy what is deployed if there is a daemon to do it; in any case leave nothing of the sandbox."""
    began, there_was_one = time.monotonic(), folder.root.exists()
    if folder.running() is not None:
        try:
            async with engine(folder, program, fleet=False) as runner:
                await _destroy_all(runner)
        except SandboxError as error:
            say(f"sandbox: {error}")
    await end_everything(folder, say)
    if there_was_one:
        say(f"sandbox: nothing is left of it ({time.monotonic() - began:.0f} s)")
    return 0


async def _destroy_all(runner: Engine) -> None:
    for stack in runner.stacks():
        if await runner.run("destroy", stack, [], []):
            say(f"sandbox: the stack {stack} keeps the above (protected, or not empty); here it goes with the sandbox")


def _operator(folder: StateFolder) -> dict[str, str]:
    running = folder.running()
    if running is None:
        raise SandboxError("it does not run: `python -m sandbox start`")
    try:
        cli = pulumi_cli.find(say)
    except pulumi_cli.CliError as error:
        raise SandboxError(str(error)) from error
    return variables(folder, folder.settings(), cli, running.provider_port)


def _run(folder: StateFolder, command: Sequence[str]) -> int:
    if not command:
        raise SandboxError("run -- COMMAND ...: no command is given")
    environment = clean_environment() | _operator(folder)
    try:
        os.execvpe(command[0], list(command), environment)  # noqa: S606 - the caller's own command
    except FileNotFoundError:
        raise SandboxError(f"run: there is no program {command[0]}") from None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
