"""Makes the two Python environments that everything else runs in; does nothing when they are up to date.

Runs on a bare Python 3.11 or 3.12 and imports the standard library alone. What a machine lacks is found first and
named with its remedy.

`.venv`          program, model build, client, sandbox, checks (locks/dev.txt)
`.venv-serving`  what the serving container holds: gateway libraries, the real Triton server (locks/sandbox-serving.txt)
"""

from __future__ import annotations

import ctypes
import ctypes.util
import hashlib
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
BOOTSTRAP = REPOSITORY / ".cache" / "bootstrap"
ENVIRONMENTS = {".venv": "locks/dev.txt", ".venv-serving": "locks/sandbox-serving.txt"}
NEEDED_GIB = 8
"""Both environments, the Pulumi CLI with Go's module cache, and a model build (6.5 GiB together when measured)."""


class MissingError(Exception):
    """Something that this machine lacks, with its remedy."""


def check_machine() -> None:
    """Raise MissingError, naming every problem at once."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    problems = []
    if sys.platform != "linux" or platform.machine() != "x86_64":
        problems.append(
            f"needs Linux on x86-64, this is {sys.platform} on {platform.machine()}: TensorFlow, Triton and "
            "Envoy come as wheels for that platform only. Use such a machine or VM."
        )
    if version not in {"3.11", "3.12"}:
        problems.append(f"needs Python 3.11 or 3.12, this is {version}: run `make PYTHON=/path/to/python3.11 ...`.")
    elif not has_shared_libpython():
        problems.append(
            f"Python {version} at {sys.executable} has no shared libpython{version}.so.1.0, which Triton's Python "
            f"backend loads: install it (Debian: `apt-get install libpython{version}`; pyenv: build with "
            "PYTHON_CONFIGURE_OPTS=--enable-shared) or run `make PYTHON=...` with an interpreter that has one."
        )
    if importlib.util.find_spec("ensurepip") is None or importlib.util.find_spec("venv") is None:
        problems.append(
            f"Python's venv module is incomplete: install it (Debian: `apt-get install python{version}-venv`)."
        )
    problems += [
        f"`{tool}` is not on PATH: install it (Debian: `apt-get install {tool}`)."
        for tool in ("bash", "curl", "tar")
        if shutil.which(tool) is None
    ]
    free_gib = shutil.disk_usage(REPOSITORY).free / 2**30
    if not (REPOSITORY / ".venv").exists() and free_gib < NEEDED_GIB:
        problems.append(f"needs {NEEDED_GIB} GiB of free disk in {REPOSITORY}, there are {free_gib:.1f}: make room.")
    if problems:
        raise MissingError("\n".join(f"  - {problem}" for problem in problems))


def has_shared_libpython() -> bool:
    """Whether the shared library of this very interpreter can be loaded."""
    name = f"libpython{sys.version_info.major}.{sys.version_info.minor}.so.1.0"
    folder = sysconfig.get_config_var("LIBDIR") or ""
    for candidate in (str(Path(folder) / name), name):
        try:
            ctypes.CDLL(candidate)
        except OSError:
            continue
        return True
    return False


def state_of(lock: Path) -> str:
    """What an environment must have been made from to be up to date."""
    return hashlib.sha256(lock.read_bytes() + sys.version.encode() + str(REPOSITORY).encode()).hexdigest()


def uv() -> str:
    """Path of the pinned uv, installed into a folder of its own on first use."""
    lock = REPOSITORY / "locks" / "bootstrap.txt"
    program, stamp = BOOTSTRAP / "bin" / "uv", BOOTSTRAP / "made-from"
    if not (stamp.exists() and stamp.read_text() == state_of(lock)):
        shutil.rmtree(BOOTSTRAP, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", str(BOOTSTRAP)], check=True)
        install = [str(BOOTSTRAP / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*install, "--require-hashes", "-r", str(lock)], check=True)
        stamp.write_text(state_of(lock))
    return str(program)


def make_environment(folder: str, lock_name: str) -> None:
    """Make or update one environment so that it holds what its lock names and nothing else."""
    environment, lock = REPOSITORY / folder, REPOSITORY / lock_name
    stamp = environment / "made-from"
    if stamp.exists() and stamp.read_text() == state_of(lock):
        return
    began = time.monotonic()
    print(f"setup: {folder} from {lock_name} ...", flush=True)
    program = uv()
    if not (environment / "bin" / "python").exists() or not stamp.exists():
        shutil.rmtree(environment, ignore_errors=True)
        subprocess.run([program, "venv", "--quiet", "--python", sys.executable, str(environment)], check=True)
    sync = [program, "pip", "sync", "--quiet", "--require-hashes", "--python", str(environment / "bin" / "python")]
    subprocess.run([*sync, str(lock)], check=True)
    stamp.write_text(state_of(lock))
    print(f"setup: {folder} ready ({time.monotonic() - began:.0f} s)", flush=True)


def main() -> int:
    """Exit code 0 when everything is there, 1 with the reason otherwise."""
    os.chdir(REPOSITORY)
    try:
        check_machine()
        for folder, lock in ENVIRONMENTS.items():
            make_environment(folder, lock)
        serving = REPOSITORY / ".venv-serving"
        wheel = [str(serving / "bin" / "python"), "tools/triton_wheel.py", str(serving)]
        subprocess.run(wheel, check=True, stdout=subprocess.DEVNULL)
    except MissingError as error:
        print(f"This machine cannot run it yet:\n{error}", file=sys.stderr)
        return 1
    except subprocess.CalledProcessError as error:
        command = " ".join(str(part) for part in error.cmd)
        print(
            f"setup stopped at `{command}` (exit code {error.returncode}); its own message is above. Package "
            "registries must be reachable; running it again goes on where it stopped.",
            file=sys.stderr,
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
