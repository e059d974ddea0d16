"""The state folder of a sandbox: what lies where, which block of addresses it has, and who runs it."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

from sandbox.machine.processes import ProcessId
from sandbox.settings import SandboxSettings

REPOSITORY: Final = Path(__file__).resolve().parent.parent
"""Where the sandbox's own code lies, and the Pulumi program that it belongs to."""
PROGRAM_VARIABLE: Final = "SANDBOX_PROGRAM"
"""Environment variable that names the folder of another Pulumi program than the repository's."""
STATE_VARIABLE: Final = "SANDBOX_STATE_DIR"
"""Environment variable that names another state folder than `.sandbox` in the repository."""
LOCK_PORT: Final = 8076
"""Bound on the operator's address by the daemon: whoever holds it owns the block on this machine."""
_BLOCKS: Final = range(16, 248)
_TUNABLE: Final[Mapping[str, Callable[[SandboxSettings, Any], SandboxSettings]]] = {
    "timeScale": lambda settings, value: replace(settings, time_scale=float(value)),
    "msPerImage": lambda settings, value: replace(settings, ms_per_image=float(value)),
    "bootDelayS": lambda settings, value: replace(settings, boot_delay_s=float(value)),
    "iamDelayS": lambda settings, value: replace(settings, iam_delay_s=float(value)),
    "quotas": lambda settings, value: replace(
        settings, quotas={**settings.quotas, **{metric: int(limit) for metric, limit in value.items()}}
    ),
    "stockouts": lambda settings, value: replace(
        settings, stockouts={gpu: frozenset(_list_of_text(zones)) for gpu, zones in value.items()}
    ),
}
"""What `sandbox.json` may set, by its JSON value; TypeError, ValueError or AttributeError for one of another shape."""


def chosen_program() -> Path:
    """Folder of the Pulumi program that the sandbox runs."""
    return Path(os.environ.get(PROGRAM_VARIABLE) or REPOSITORY).resolve()


class SandboxError(Exception):
    """Something that the person at the keyboard must do something about; the message says what."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """What a daemon tells about itself once all its parts have started."""

    pid: int
    start_ticks: int
    provider_port: int
    version: str
    """Digest of the code that it runs."""

    @property
    def process(self) -> ProcessId:
        """The daemon's process."""
        return ProcessId(self.pid, self.start_ticks)


@dataclass(frozen=True, slots=True)
class StateFolder:
    """Paths below one state folder."""

    root: Path

    @classmethod
    def chosen(cls) -> StateFolder:
        """The folder that SANDBOX_STATE_DIR names, or `.sandbox` in the repository."""
        return cls(Path(os.environ.get(STATE_VARIABLE) or REPOSITORY / ".sandbox").resolve())

    @property
    def store(self) -> Path:
        """Durable records."""
        return self.root / "store.sqlite"

    @property
    def log(self) -> Path:
        """What the daemon prints."""
        return self.root / "daemon.log"

    @property
    def daemon(self) -> Path:
        """`Running` of the daemon."""
        return self.root / "daemon.json"

    @property
    def daemon_lock(self) -> Path:
        """Held by the daemon as long as it lives."""
        return self.root / "daemon.lock"

    @property
    def backend(self) -> Path:
        """Pulumi's state."""
        return self.root / "pulumi"

    @property
    def pulumi_home(self) -> Path:
        """PULUMI_HOME."""
        return self.root / "pulumi-home"

    @property
    def config(self) -> Path:
        """Copies of the stacks' configuration."""
        return self.root / "config"

    def running(self) -> Running | None:
        """The daemon, if one lives and is ready."""
        try:
            found = Running(**json.loads(self.daemon.read_text()))
        except (FileNotFoundError, ValueError, TypeError):
            return None
        return found if found.process.alive else None

    def announce(self, running: Running) -> None:
        """Write daemon.json, atomically."""
        scratch = self.daemon.with_suffix(".partial")
        scratch.write_text(json.dumps(asdict(running)))
        scratch.replace(self.daemon)

    def settings(self) -> SandboxSettings:
        """Settings of this sandbox: its block is chosen at the first call and stays.

        `sandbox.json` in the folder may set dials (docs/sandbox.md). Raises SandboxError.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        settings = SandboxSettings(state=self.root, block=self._block())
        for key, value in self._dials().items():
            if key not in _TUNABLE:
                raise SandboxError(f"{self._dial_file}: no setting {key}; it has {', '.join(_TUNABLE)}")
            try:
                settings = _TUNABLE[key](settings, value)
            except (TypeError, ValueError, AttributeError):
                raise SandboxError(
                    f"{self._dial_file}: {key} cannot be {json.dumps(value)}; docs/sandbox.md shows what it takes"
                ) from None
        return settings

    @property
    def _dial_file(self) -> Path:
        return self.root / "sandbox.json"

    def _dials(self) -> dict[str, Any]:
        try:
            found = json.loads(self._dial_file.read_text())
        except FileNotFoundError:
            return {}
        except ValueError as error:
            raise SandboxError(f"{self._dial_file} is not JSON: {error}") from None
        if not isinstance(found, dict):
            raise SandboxError(f"{self._dial_file} must hold an object of settings")
        return found

    def _block(self) -> int:
        file = self.root / "block"
        with suppress(FileNotFoundError, ValueError):
            return int(file.read_text())
        start = int(hashlib.sha256(str(self.root).encode()).hexdigest(), 16) % len(_BLOCKS)
        for step in range(len(_BLOCKS)):
            block = _BLOCKS[(start + step) % len(_BLOCKS)]
            with suppress(OSError), lock_port(block):
                file.write_text(str(block))
                return block
        raise SandboxError(
            f"every block of loopback addresses 127.{_BLOCKS[0]}-{_BLOCKS[-1]}.x.x is in use: end a sandbox"
        )


def _list_of_text(value: object) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise TypeError
    return value


@contextmanager
def lock_port(block: int) -> Iterator[socket.socket]:
    """Hold a block of addresses against every other sandbox on this machine. Raises OSError if it is held."""
    with socket.socket() as holder:
        holder.bind((f"127.{block}.0.1", LOCK_PORT))
        holder.listen()
        yield holder


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold a lock file. Raises BlockingIOError if another process holds it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield


@contextmanager
def waiting_lock(path: Path) -> Iterator[None]:
    """Hold a lock file, after whoever holds it now."""
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def code_version() -> str:
    """Digest of the sandbox's own code: a daemon of other code is restarted."""
    digest = hashlib.sha256()
    package = Path(__file__).parent
    for path in sorted(package.rglob("*")):
        if path.suffix in {".py", ".json"}:
            digest.update(path.relative_to(package).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]
