"""tools/triton_wheel.py: Triton laid out in an environment, or a reason why not."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.serving.stand_ins import command
from tools.triton_wheel import LayoutError, lay_out


def environment(folder: Path, *, shared: bool = True, wheel: bool = True, stub: str = "3.11") -> Path:
    """An environment whose Python tells of itself what a test wants."""
    package = folder / "lib" / "site-packages" / "pytriton"
    server = package / "tritonserver"
    (server / "backends" / "python").mkdir(parents=True)
    (server / "backends" / "python" / "libtriton_python.so").touch()
    (server / "python_backend_stubs" / stub).mkdir(parents=True)
    (server / "python_backend_stubs" / stub / "triton_python_backend_stub").touch()
    (server / "bin").mkdir()
    command(server / "bin", "tritonserver", 'echo "$LD_LIBRARY_PATH"; printf "%s\\n" "$@"')
    (folder / "libpython3.11.so.1.0").touch()
    facts = {
        "version": "3.11",
        "executable": "python",
        "wheel": str(package) if wheel else None,
        "shared": shared,
        "libdir": str(folder),
        "multiarch": None,
        "library": "libpython3.11.so.1.0",
    }
    command(folder / "bin", "python", f"echo '{json.dumps(facts)}'")
    return folder


def test_the_wrapper_finds_backends_caches_and_libpython(tmp_path: Path) -> None:
    venv = environment(tmp_path)
    wrapper = lay_out(venv)
    assert wrapper == venv / "bin" / "tritonserver"
    result = subprocess.run([wrapper, "--grpc-port=1"], capture_output=True, text=True, check=True, env={})
    output = result.stdout.splitlines()
    assert output[0].split(":") == [str(venv), str(venv / "lib" / "site-packages" / "nvidia_pytriton.libs")]
    backends = venv / "triton" / "backends"
    assert output[1] == f"--backend-directory={backends}"
    assert output[2].startswith("--cache-directory=")
    assert output[3] == "--grpc-port=1"
    assert (backends / "python" / "triton_python_backend_stub").resolve().parent.name == "3.11"
    assert (backends / "python" / "libtriton_python.so").exists()


def test_a_second_run_changes_nothing(tmp_path: Path) -> None:
    venv = environment(tmp_path)
    wrapper = lay_out(venv)
    before = {path: path.lstat().st_mtime_ns for path in (wrapper, *(venv / "triton").rglob("*"))}
    lay_out(venv)
    assert {path: path.lstat().st_mtime_ns for path in before} == before


def test_a_python_without_shared_libpython_is_refused_with_remedies(tmp_path: Path) -> None:
    with pytest.raises(LayoutError, match=r"no shared libpython.*apt-get install libpython3\.11.*--enable-shared"):
        lay_out(environment(tmp_path, shared=False))


def test_a_missing_library_file_is_refused_too(tmp_path: Path) -> None:
    venv = environment(tmp_path)
    (venv / "libpython3.11.so.1.0").unlink()
    with pytest.raises(LayoutError, match="no shared libpython"):
        lay_out(venv)


def test_a_missing_wheel_or_stub_is_named(tmp_path: Path) -> None:
    with pytest.raises(LayoutError, match=r"no nvidia-pytriton: install locks/sandbox-serving\.txt"):
        lay_out(environment(tmp_path / "a", wheel=False))
    with pytest.raises(LayoutError, match=r"no Python backend stub for Python 3\.11, only for 3\.8"):
        lay_out(environment(tmp_path / "b", stub="3.8"))
    with pytest.raises(LayoutError, match="does not exist: create the environment"):
        lay_out(tmp_path / "c")


def test_the_command_line_tells_an_error_without_a_traceback(tmp_path: Path) -> None:
    script = Path(__file__).parents[2] / "tools" / "triton_wheel.py"
    result = subprocess.run([sys.executable, script, tmp_path], capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert result.stderr.startswith("error: ")
    assert "Traceback" not in result.stderr
