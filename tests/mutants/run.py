"""`make mutants`: apply each named fault to a copy of the tree; the test that it names must fail.

A fault that survives means a test that cannot fail. `make mutants ARGS=word` runs those with the word in their name.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import psutil

from tests.mutants.faults import FAULTS, Fault

REPOSITORY = Path(__file__).resolve().parent.parent.parent
SHARED = (".venv", ".venv-serving", ".cache")
PYTEST = ("-x", "-q", "-p", "no:cacheprovider", "--no-header")
LIMIT_S = 600
TIMED_OUT = 124


def copy_tree(target: Path) -> None:
    """Copy every tracked file, and link the environments."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=REPOSITORY, check=True, capture_output=True, text=True
    ).stdout
    for name in filter(None, listed.split("\0")):
        source = REPOSITORY / name
        if source.exists():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target / name)
    for name in SHARED:
        if (REPOSITORY / name).exists():
            (target / name).symlink_to(REPOSITORY / name)


def run_tests(tree: Path, tests: list[str]) -> tuple[int, str]:
    """Exit code and output of pytest in a tree."""
    python = REPOSITORY / ".venv" / "bin" / "python"
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        done = subprocess.run(
            [str(python), "-m", "pytest", *PYTEST, f"--basetemp={tree / 'scratch'}", *tests],
            cwd=tree,
            env=environment,
            check=False,
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
        )
    except subprocess.TimeoutExpired:
        return TIMED_OUT, f"no end within {LIMIT_S} s"
    finally:
        end_leftovers(tree)
    return done.returncode, done.stdout + done.stderr


def end_leftovers(tree: Path) -> None:
    """End what a fault kept from ending: every process that was started with a path in the tree."""
    for process in psutil.process_iter(["cmdline"]):
        if any(f"{tree}/" in word for word in process.info["cmdline"] or ()):
            with suppress(psutil.NoSuchProcess):
                process.kill()


def caught(fault: Fault) -> tuple[bool, str]:
    """Whether the fault's test fails once the fault is in, and what it said."""
    with tempfile.TemporaryDirectory(prefix="mutant-") as folder:
        tree = Path(folder)
        copy_tree(tree)
        path = tree / fault.file
        path.write_text(fault.apply(path.read_text()))
        code, output = run_tests(tree, [fault.test])
    # 1: tests ran and some failed. Any other code (nothing collected, bad usage, no end) is no proof.
    return code == 1, output


def main(arguments: list[str]) -> int:
    """Exit code 0 when every chosen fault was caught."""
    chosen = [fault for fault in FAULTS if not arguments or any(word in fault.name for word in arguments)]
    if not chosen:
        names = "\n".join(f"  {fault.name}" for fault in FAULTS)
        print(f"error: no fault's name holds {' or '.join(map(repr, arguments))}; there are:\n{names}", file=sys.stderr)
        return 2
    tests = sorted({fault.test for fault in chosen})
    print(f"{len(chosen)} faults, caught by {len(tests)} tests; first the tests without any fault ...", flush=True)
    with tempfile.TemporaryDirectory(prefix="mutant-") as folder:
        copy_tree(Path(folder))
        code, output = run_tests(Path(folder), tests)
    if code:
        print(f"{output}\nThe named tests fail without any fault: mend them first.", file=sys.stderr)
        return 1
    survivors = 0
    began = time.monotonic()
    with ThreadPoolExecutor(2) as pool:
        for fault, (was_caught, output) in zip(chosen, pool.map(caught, chosen), strict=True):
            survivors += not was_caught
            verdict = "caught  " if was_caught else "SURVIVED"
            print(f"{verdict} {fault.name} ({fault.file}) by {fault.test}", flush=True)
            if not was_caught:
                print(output[-2000:])
    print(f"{len(chosen) - survivors} caught, {survivors} survived in {time.monotonic() - began:.0f} s")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
