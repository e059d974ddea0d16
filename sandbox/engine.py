"""Runs the real Pulumi engine against the sandbox, with a backend, home and configuration of its own."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from sandbox.folder import SandboxError, StateFolder, exclusive
from sandbox.lifecycle import ensure_running
from sandbox.network.addresses import Addresses
from sandbox.operator import clean_environment, variables
from sandbox.provider.cloud import NoBuckets
from sandbox.provider.server import ProviderServer
from sandbox.recovery import leftovers, mend_checkpoint, note_owned, of_stack, read_checkpoint, remove, stacks_folder
from sandbox.settings import SandboxSettings
from sandbox.stacks import StackConfig, project_name, write_copy
from sandbox.store import Store
from tools import pulumi_cli

Operation = Literal["preview", "up", "refresh", "destroy"]

_UNATTENDED: Final = ("--yes", "--skip-preview")
_SWALLOWED: Final = (signal.SIGINT, signal.SIGQUIT)
"""Signals of the terminal, which the engine gets as well and acts on."""


def say(line: str) -> None:
    """Tell the person something; standard output belongs to the engine."""
    print(line, file=sys.stderr, flush=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """The CLI in the operator's environment."""

    folder: StateFolder
    settings: SandboxSettings
    program: Path
    cli: Path
    provider_port: int

    @property
    def environment(self) -> dict[str, str]:
        """The operator's."""
        return clean_environment() | variables(self.folder, self.settings, self.cli, self.provider_port)

    async def run(
        self, operation: Operation, stack: str, overrides: Sequence[str], arguments: Sequence[str], *, file: str = ""
    ) -> int:
        """Run one operation on a stack, with its settings from `file` of the program; the engine's exit code.

        Raises SandboxError.
        """
        config = write_copy(self.folder, self.program, stack, self.settings.project, overrides, file=file)
        if config.replaced_project:
            say(f"sandbox: gcp:project is {self.settings.project} here, not {config.replaced_project}")
        with self._only_run(stack):
            await self._select(config)
            if operation != "preview":
                await self._recover(config)
            command = [
                operation,
                "--stack",
                stack,
                "--config-file",
                str(config.file),
                *(() if operation == "preview" else _UNATTENDED),
            ]
            code = await self._pulumi([*command, *arguments])
            with self._store() as store:
                note_owned(store, self.folder.backend)
            return code

    def stacks(self) -> list[str]:
        """Stacks of the program that hold resources here."""
        found = stacks_folder(self.folder.backend, project_name(self.program)).glob("*.json")
        return sorted(path.stem for path in found if read_checkpoint(path).resources)

    @contextlib.contextmanager
    def _only_run(self, stack: str) -> Iterator[None]:
        try:
            with exclusive(self.folder.root / f"engine-{stack}.lock"):
                yield
        except BlockingIOError as error:
            raise SandboxError(f"another run on the stack {stack} is under way in this sandbox: wait for it") from error

    async def _select(self, config: StackConfig) -> None:
        """Make the stack if there is none; among the copies, for `init` writes beside the Pulumi.yaml that it finds."""
        self.folder.backend.mkdir(parents=True, exist_ok=True)
        if mend_checkpoint(self._checkpoint(config)):
            say(f"sandbox: the checkpoint of {config.stack} was torn; what was saved before it is back")
        if self._checkpoint(config).exists():
            return
        await self._captured(["-C", str(self.folder.config), "stack", "init", config.stack, "--no-select"])

    def _checkpoint(self, config: StackConfig) -> Path:
        return stacks_folder(self.folder.backend, config.project) / f"{config.stack}.json"

    async def _recover(self, config: StackConfig) -> None:
        """Take over from a run that was killed: its lock, and resources that it was creating when it died."""
        locks = self.folder.backend / ".pulumi" / "locks" / "organization" / config.project / config.stack
        if locks.is_dir() and any(locks.iterdir()):
            say(f"sandbox: an earlier run on {config.stack} was killed; taking over its lock")
            await self._captured(["cancel", "--yes", "--stack", config.stack])
        pending = read_checkpoint(self._checkpoint(config)).pending
        with self._store() as store:
            note_owned(store, self.folder.backend)
            left = of_stack(leftovers(store), config.project, config.stack)
        if left:
            say(f"sandbox: an earlier run on {config.stack} was killed; removing what it made: {len(left)}")
            await remove(left, self.provider_port)
        if pending:
            # The flag asks for a refresh, and a refresh is what the operations that were under way need.
            command = ["refresh", "--yes", "--skip-preview", "--clear-pending-creates"]
            await self._captured([*command, "--stack", config.stack, "--config-file", str(config.file)])

    @contextlib.contextmanager
    def _store(self) -> Iterator[Store]:
        store = Store(self.folder.store)
        try:
            yield store
        finally:
            store.close()

    async def _pulumi(self, arguments: Sequence[str]) -> int:
        process = await asyncio.create_subprocess_exec(
            self.cli, *arguments, "--non-interactive", cwd=self.program, env=self.environment
        )
        return await _wait(process)

    async def _captured(self, arguments: Sequence[str]) -> str:
        """Output of a command that must succeed."""
        process = await asyncio.create_subprocess_exec(
            self.cli,
            *arguments,
            "--non-interactive",
            cwd=self.program,
            env=self.environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        output, errors = await process.communicate()
        if process.returncode:
            text = (errors.decode() + output.decode()).strip()
            raise SandboxError(f"`pulumi {' '.join(arguments)}` failed:\n{text}")
        return output.decode()


async def _wait(process: asyncio.subprocess.Process) -> int:
    loop = asyncio.get_running_loop()
    for number in _SWALLOWED:
        loop.add_signal_handler(number, lambda: None)
    loop.add_signal_handler(signal.SIGTERM, process.send_signal, signal.SIGINT)
    try:
        return await process.wait()
    finally:
        for number in (*_SWALLOWED, signal.SIGTERM):
            loop.remove_signal_handler(number)


@asynccontextmanager
async def engine(folder: StateFolder, program: Path, *, fleet: bool) -> AsyncIterator[Engine]:
    """The engine with a provider to attach to.

    With `fleet` the daemon runs, started if need be; without it a plan is enough, and where no daemon runs this process
    serves the provider for as long as the engine needs it. Raises SandboxError.
    """
    try:
        cli = pulumi_cli.find(say)
    except pulumi_cli.CliError as error:
        raise SandboxError(str(error)) from error
    running = await ensure_running(folder, say) if fleet else folder.running()
    settings = folder.settings()
    if running is not None:
        yield Engine(folder=folder, settings=settings, program=program, cli=cli, provider_port=running.provider_port)
        return
    store = Store(folder.store)
    provider = ProviderServer(settings, store, Addresses(settings, store), NoBuckets(), program=program)
    await provider.start()
    try:
        yield Engine(folder=folder, settings=settings, program=program, cli=cli, provider_port=provider.port)
    finally:
        await provider.stop()
        store.close()
