"""`python -m benchmarks.serving`: our VM next to what one would otherwise write, on this machine.

Writes out/serving.json (figures), out/serving-samples.json (every round) and docs/reports/serving.html. It starts and
ends everything itself; `--quick` tries all of it in two minutes, with figures that mean nothing.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final

from artifact.folder import ArtifactFolder
from benchmarks.serving import page, vm
from benchmarks.serving.comparison import contenders, report
from benchmarks.serving.comparison.ceiling import Setting, ceiling
from benchmarks.serving.comparison.cells import Cell, write_cells
from benchmarks.serving.comparison.contenders import GRID, OURS, Contender, PeerSetting
from benchmarks.serving.comparison.measuring import (
    CEILING,
    ComparisonError,
    Sample,
    Samples,
    alone,
    ask,
    in_turns,
    work,
)
from benchmarks.serving.comparison.overhead import Overhead, measure_overhead
from benchmarks.serving.comparison.profile import profile
from benchmarks.serving.photos import artifact_of
from benchmarks.serving.reference import Reference
from benchmarks.weights import weight_bits
from tools import setup

HOST: Final = "127.209.10.1"
FIRST_PORT: Final = 18209
CEILING_CELLS: Final = ("c16", "large", "batch")
CEILING_GRID: Final = tuple(
    Setting(processes, threads, batch) for processes, threads in ((2, 1), (1, 2)) for batch in (1, 4, 8)
)
FED: Final = ("c16", "batch", "large")
"""Cells that say how much processor a GPU's food takes."""
OVERLOAD: Final = page.OUT / "serving-overload.json"
_CODE: Final = ("serving", "benchmarks/serving", "artifact")
"""What a measurement of overload depends on."""


class Progress:
    """Lines with the time since the start."""

    def __init__(self) -> None:
        self.began = time.monotonic()

    def line(self, text: str) -> None:
        """Say what goes on."""
        print(f"[{time.monotonic() - self.began:5.0f} s] {text}", file=sys.stderr, flush=True)


class Bench:
    """One run."""

    def __init__(self, folder: Path, progress: Progress, artifact: Path | None, *, quick: bool) -> None:
        self._folder = folder
        self._say = progress.line
        self._quick = quick
        self._rounds, self._seconds = (2, 0.6) if quick else (5, 2.2)
        self._grid_seconds = 0.4 if quick else 0.8
        self._grid = _one_of_each(GRID) if quick else GRID
        cache = vm.ROOT / ".cache"
        bits = weight_bits()
        self._say(f"the artifact{f' in {artifact}' if artifact else f', with {bits}-bit weights of the CPU graph'}")
        built = cache / f"artifact-{bits}-bit"
        self._artifact = artifact or artifact_of("builtin:efficientnet-lite0", built, bits)
        self._native = cache / "native-efficientnet-lite0"
        if not (self._native / "native.json").exists():
            command = [sys.executable, "-m", "benchmarks.serving.comparison.native", str(self._native)]
            subprocess.run(command, cwd=vm.ROOT, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        setup.make_environment(".venv-peers", "locks/peers.txt")
        self._cells = {cell.name: cell for cell in write_cells(folder, Reference(self._artifact))}
        recipe = json.loads(ArtifactFolder(self._artifact).manifest.inputs["recipe"])
        self._bits = int(recipe["cpuWeightBits"])

    def run(self) -> report.Results:
        """Everything, one after the other."""
        with contenders.ours(self._artifact, HOST, self._folder / "ours.log") as our:
            grid = self._peer_grid()
            loops = self._ceiling_grid()
            samples = self._interleaved(our, grid, loops)
            parts = profile(our, self._cells["c16"], self._seconds)
        return report.Results(
            date=datetime.now(UTC).date().isoformat(),
            machine=vm.machine(),
            bits=self._bits,
            quick=self._quick,
            cells=self._cells,
            samples=samples,
            peer_grid=grid,
            ceiling_grid=loops,
            profile=parts,
            overhead=self._overhead(),
            overload=self._overload(),
        )

    def _peer(self, setting: PeerSetting, port: int) -> Any:  # noqa: ANN401 - a context manager of a Contender
        log = self._folder / f"peer-{port}.log"
        return contenders.peer(setting, self._artifact, self._native, port, log)

    def _peer_grid(self) -> report.PeerGrid:
        grid: report.PeerGrid = {}
        for index, setting in enumerate(self._grid):
            with self._peer(setting, FIRST_PORT + index) as server:
                ask(server, self._cells["c16"], self._grid_seconds)
                for cell in self._cells.values():
                    grid[setting, cell.name] = ask(server, cell, self._grid_seconds)
            rate = grid[setting, "c16"].images_per_s
            self._say(f"grid {index + 1} of {len(self._grid)}: {setting.peer}, {setting}: {rate:.0f} images/s at c16")
        return grid

    def _ceiling_grid(self) -> report.CeilingGrid:
        grid: report.CeilingGrid = {}
        for name in CEILING_CELLS[:2]:
            for setting in CEILING_GRID:
                with ceiling(self._artifact, self._cells[name].photos, setting) as loop:
                    loop.work(0.2)
                    grid[setting, name] = work(loop, self._grid_seconds)
                self._say(f"ceiling, {self._cells[name].said}, {setting}: {grid[setting, name].images_per_s:.0f}/s")
        return grid

    def _interleaved(self, our: Contender, grid: report.PeerGrid, loops: report.CeilingGrid) -> Samples:
        with ExitStack() as stack:
            best = {
                (peer, cell): report.best_setting(grid, peer, cell) for peer in contenders.PEERS for cell in self._cells
            }
            servers: dict[PeerSetting, Contender] = {}
            for index, setting in enumerate(dict.fromkeys(best.values())):
                port = FIRST_PORT + len(GRID) + index
                servers[setting] = stack.enter_context(self._peer(setting, port))
                servers[setting].hold()
                stack.callback(servers[setting].release)
            field: dict[str, dict[str, Callable[[float], Sample]]] = {}
            for name, cell in self._cells.items():
                runs: dict[str, Callable[[float], Sample]] = {OURS: partial(ask, our, cell)}
                for peer in contenders.PEERS:
                    runs[peer] = partial(_ask_alone, servers[best[peer, name]], cell)
                if name in CEILING_CELLS:
                    chosen = report.best_ceiling(loops, "large" if name == "large" else "c16")
                    loop = stack.enter_context(ceiling(self._artifact, cell.photos, chosen))
                    loop.work(0.2)
                    runs[CEILING] = partial(work, loop)
                field[name] = runs
            for cell in self._cells.values():
                ask(our, cell, self._grid_seconds)
            return in_turns(self._cells, field, self._rounds, self._seconds, self._say)

    def _overhead(self) -> Overhead:
        self._say("what the gateway adds to a null model")
        photo = self._cells["c1"].photos[0].read_bytes()
        return measure_overhead(
            self._folder,
            photo,
            {name: self._cells[name] for name in FED},
            rounds=self._rounds,
            requests=100 if self._quick else 400,
            seconds=self._seconds,
        )

    def _overload(self) -> Mapping[str, Any] | None:
        """What `benchmarks.serving.overload` found; it runs again where the code is newer."""
        if not _is_current(OVERLOAD):
            if self._quick:
                return None
            self._say("three times its capacity (benchmarks.serving.overload)")
            command = [sys.executable, "-m", "benchmarks.serving.overload", "--artifact", str(self._artifact)]
            subprocess.run([*command, "--seconds", "8"], cwd=vm.ROOT, check=False, stdout=subprocess.DEVNULL)
        if not OVERLOAD.exists():
            self._say("it failed; its own message is above")
            return None
        found: Mapping[str, Any] = json.loads(OVERLOAD.read_text())
        return found


def _ask_alone(server: Contender, cell: Cell, seconds: float) -> Sample:
    with alone(server):
        return ask(server, cell, seconds)


def _one_of_each(grid: Sequence[PeerSetting]) -> tuple[PeerSetting, ...]:
    """For a quick run: of every peer, two workers with batches."""
    return tuple(setting for setting in grid if (setting.workers, setting.threads, setting.batch) == (2, 1, 8))


def _is_current(path: Path) -> bool:
    if not path.exists():
        return False
    newest = max(file.stat().st_mtime for folder in _CODE for file in (vm.ROOT / folder).rglob("*.py"))
    return path.stat().st_mtime > newest


def main() -> int:
    """Command line: 0 if everything was measured, whether or not the goals were reached."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="try everything for a moment; writes into a folder of its own"
    )
    parser.add_argument("--artifact", type=Path, help="folder of an artifact of it (default: built, if not there)")
    arguments = parser.parse_args()
    artifact = arguments.artifact.resolve() if arguments.artifact else None
    progress = Progress()
    with tempfile.TemporaryDirectory() as folder:
        results = Bench(Path(folder), progress, artifact, quick=arguments.quick).run()
    paths = report.write(results, time.monotonic() - progress.began)
    for sentence in report.sentences(results):
        progress.line(sentence)
    progress.line(f"wrote {', '.join(str(path) for path in paths)}")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (vm.VmError, ComparisonError) as error:
        sys.exit(f"error: {error}")
