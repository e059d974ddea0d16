"""Make `tritonserver` of the nvidia-pytriton wheel usable from a virtual environment's PATH, as in NVIDIA's container.

The wheel ships the real server for its own launcher: backend, per-version Python stubs and caches lie apart, and the
stub cannot find the interpreter's shared library by itself.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

_PROBE = """
import json, pathlib, sys, sysconfig
try:
    import pytriton
    wheel = str(pathlib.Path(pytriton.__file__).parent)
except ModuleNotFoundError:
    wheel = None
get = sysconfig.get_config_var
print(json.dumps({
    "version": "%d.%d" % sys.version_info[:2], "executable": sys.executable, "wheel": wheel,
    "shared": bool(get("Py_ENABLE_SHARED")), "libdir": get("LIBDIR"), "multiarch": get("MULTIARCH"),
    "library": get("INSTSONAME"),
}))
"""


class LayoutError(Exception):
    """The environment cannot run Triton; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class Interpreter:
    """What an environment's Python says of itself."""

    version: str
    library_folder: Path
    """Folder of its libpython, which Triton's stub process links to."""
    wheel: Path
    """Folder of the installed package `pytriton`."""


def interpreter_of(venv: Path) -> Interpreter:
    """Ask the environment's Python.

    Raises:
        LayoutError: no such environment, no nvidia-pytriton in it, or a Python without a shared libpython.
    """
    python = venv / "bin" / "python"
    if not python.exists():
        raise LayoutError(f"{python} does not exist: create the environment and install locks/sandbox-serving.txt")
    answer = subprocess.run([python, "-c", _PROBE], check=True, capture_output=True, text=True)
    facts = json.loads(answer.stdout)
    if facts["wheel"] is None:
        raise LayoutError(f"{venv} has no nvidia-pytriton: install locks/sandbox-serving.txt into it")
    folders = [Path(facts["libdir"]), Path(facts["libdir"]) / (facts["multiarch"] or "")]
    folder = next((f for f in folders if facts["shared"] and (f / facts["library"]).is_file()), None)
    if folder is None:
        version = facts["version"]
        raise LayoutError(
            f"Python {version} of {venv} has no shared libpython, which Triton's Python backend links to. "
            f"Install it (Debian, Ubuntu: apt-get install libpython{version}; "
            f"pyenv: PYTHON_CONFIGURE_OPTS=--enable-shared pyenv install {version}; uv: uv python install {version}) "
            "and create the environment again with that Python."
        )
    return Interpreter(version=facts["version"], library_folder=folder, wheel=Path(facts["wheel"]))


def lay_out(venv: Path) -> Path:
    """Write `bin/tritonserver` and `triton/backends/` into `venv`; path of the former. A second run changes nothing.

    Raises:
        LayoutError: see `interpreter_of`; also when the wheel has no stub for this Python version.
    """
    venv = venv.absolute()
    found = interpreter_of(venv)
    server = found.wheel / "tritonserver"
    stub = server / "python_backend_stubs" / found.version / "triton_python_backend_stub"
    if not stub.is_file():
        versions = ", ".join(sorted(p.name for p in stub.parents[1].iterdir()))
        raise LayoutError(f"nvidia-pytriton has no Python backend stub for Python {found.version}, only for {versions}")
    backend = venv / "triton" / "backends" / "python"
    backend.mkdir(parents=True, exist_ok=True)
    for source in (*(server / "backends" / "python").iterdir(), stub):
        _link(backend / source.name, source)
    libraries = f"{found.library_folder}:{found.wheel.parent / 'nvidia_pytriton.libs'}"
    wrapper = venv / "bin" / "tritonserver"
    _write(
        wrapper,
        "#!/bin/sh\n"
        f"export LD_LIBRARY_PATH={shlex.quote(libraries)}${{LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}}\n"
        f"exec {shlex.quote(str(server / 'bin' / 'tritonserver'))}"
        f" --backend-directory={shlex.quote(str(backend.parent))}"
        f" --cache-directory={shlex.quote(str(server / 'caches'))}"
        ' "$@"\n',
    )
    return wrapper


def _link(link: Path, target: Path) -> None:
    relative = os.path.relpath(target, link.parent)
    if link.is_symlink() and str(link.readlink()) == relative:
        return
    link.unlink(missing_ok=True)
    link.symlink_to(relative)


def _write(path: Path, text: str) -> None:
    if path.is_file() and path.read_text() == text:
        return
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    fresh.write_text(text)
    fresh.chmod(0o755)
    fresh.replace(path)


def main() -> int:
    """Command line: the environment's folder."""
    parser = argparse.ArgumentParser(prog="triton_wheel.py", description=__doc__)
    parser.add_argument("venv", type=Path, help="environment made from locks/sandbox-serving.txt")
    try:
        print(lay_out(parser.parse_args().venv))
    except LayoutError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
