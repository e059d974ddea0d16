"""The chain of a build's stages: each is reused from the cache where nothing that it depends on has changed."""

from __future__ import annotations

import importlib
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, cast

from artifact.folder import ArtifactFolder
from artifact.key import ArtifactInputs, artifact_key
from artifact.recipe import BuildRequest
from artifact.run import new_run
from model.build.cache import Cached, DamagedError, StageCache
from model.build.folder import finished, install, make_folder, work_folder
from model.build.machine import peak_memory_gib, tool_versions
from model.build.material import Material, material
from model.build.progress import Journal, Reporter, native_output_to
from model.build.stage import Stage, StageWork, fields_of
from model.errors import BuildError
from model.source.calibration import PhotoFiles, TensorRows, calibration_set
from model.source.models import SourceModel

LOG: Final = "log.txt"
LIBRARIES_LOG: Final = "libraries.log"
"""What TensorFlow and ONNX Runtime wrote to standard error."""
ARCHIVE: Final = "archive"
"""The last stage: it writes the artifact itself, and is never reused. A finished artifact is."""
_LONGEST: Final = 400
"""Characters of an error that nobody foresaw: some libraries' go on for pages, and log.txt has it all."""

STAGES: Final = (
    Stage("source", (), ("source", "interface", "calibration")),
    Stage("export", ("source",)),
    Stage("optimise", ("source", "export"), ("calibration",)),
    Stage("calibrate", ("source", "optimise"), ("calibration", "recipe.equalise")),
    Stage(
        "quantise",
        ("source", "optimise", "calibrate"),
        ("calibration", "recipe.method", "recipe.cpu_weight_bits", "recipe.bias_correction"),
    ),
    Stage("evaluate", ("source", "optimise", "calibrate", "quantise"), ("calibration", "recipe.repair")),
    Stage("speed", ("source", "quantise", "evaluate"), ("calibration",)),
    Stage("plan", ("source", "quantise", "evaluate"), ("runtime", "tensorrt", "gpuType")),
)
"""All but the archive, in order."""


@dataclass(frozen=True, slots=True)
class Built:
    """A finished artifact, and whether this call made it."""

    folder: ArtifactFolder
    created: bool


def default_cache(out: Path) -> Path:
    """Where results of stages are kept for the artifact folder `out`: beside it."""
    return out.resolve().parent / ".model-cache"


def build(
    request: BuildRequest,
    repository: Path,
    out: Path,
    reporter: Reporter,
    *,
    run: str = "",
    cache: Path | None = None,
    patience_s: float = 0.0,
) -> Built:
    """Build the artifact that `request` asks for into the folder `out`, unless it is there already.

    `run` is the id that its manifest names; a new one by default. Results of stages are kept in `cache`,
    `default_cache(out)` by default, so that a build that was stopped goes on where it was. What Cloud Storage withholds
    is asked for again for `patience_s`.

    Raises:
        BuildError: a gate failed, a tool is missing, or `out` cannot be used. `out` is then as it was before.
        ValueError: the request names an unknown source or calibration set.
    """
    inputs = request.inputs(repository)
    key = artifact_key(inputs)
    standing = finished(out, key)
    if standing is not None:
        return Built(standing, created=False)
    if request.runtime == "tensorrt":
        from model.plan.target import plan_machine  # noqa: PLC0415 - of no use to other runtimes

        # The plan stage is the last but one: whoever has no GPU should not wait for it to hear so.
        plan_machine(request.tensorrt, request.gpu_type)
    with work_folder(out) as work:
        journal = Journal(work / LOG, reporter)
        journal.line(f"artifact {key}: {request.source}, {request.recipe.canonical(request.runtime)}")
        make_folder(cache or default_cache(out), "--cache")
        kept = StageCache(cache or default_cache(out))
        chain = _Chain(request, inputs, repository, cache=kept, journal=journal, patience_s=patience_s)
        with native_output_to(work / LIBRARIES_LOG):
            try:
                chain.run(work, run or new_run())
            except BuildError as error:
                # Of what a library has said the line has one sentence; the log has it all.
                journal.note(traceback.format_exc() if error.__cause__ else f"failed: {error}")
                raise BuildError(f"{journal.stage_at_work}: {error} (log: {work / LOG})") from error
            except Exception as error:
                # Whoever builds sees one line; the log has it all.
                journal.note(traceback.format_exc())
                what = " ".join(f"{type(error).__name__}: {error}".split())
                raise BuildError(f"{journal.stage_at_work}: {what[:_LONGEST]} (log: {work / LOG})") from error
        journal.line(f"{sum(journal.seconds.values()):.0f} s in all, {peak_memory_gib():.2f} GiB at most")
        install(work, out)
    return Built(ArtifactFolder(out), created=True)


class _Chain:
    """One build's way through the stages."""

    def __init__(
        self,
        request: BuildRequest,
        inputs: ArtifactInputs,
        repository: Path,
        *,
        cache: StageCache,
        journal: Journal,
        patience_s: float,
    ) -> None:
        self._patience_s = patience_s
        self._request, self._inputs, self._repository = request, inputs, repository
        self._cache, self._journal = cache, journal
        self._tools = tool_versions()
        self._digests: dict[str, str] = {}
        self._folders: dict[str, Path] = {}
        self._reused: set[str] = set()
        self._calibration: PhotoFiles | TensorRows | None = None

    def run(self, out: Path, run: str) -> None:
        """Everything, the artifact and its report in `out` in the end."""
        with self._cache.in_use(), TemporaryDirectory(dir=self._cache.scratch("calibration")) as downloads:
            self._downloads = Path(downloads)
            for stage in STAGES:
                self._pass(stage)
            self._archive(out, run)
        self._cache.prune()

    def _pass(self, stage: Stage) -> None:
        fields = fields_of(self._request, self._inputs)
        digest = stage.digest(fields, self._digests, self._tools, self._repository)
        cached = self._find(stage.name, digest)
        if cached is None:
            cached = self._make(stage, digest)
        else:
            self._reused.add(stage.name)
            self._journal.reused(stage.name, cached.entry.seconds, cached.entry.made, cached.entry.lines)
        self._digests[stage.name], self._folders[stage.name] = digest, cached.folder

    def _find(self, stage: str, digest: str) -> Cached | None:
        try:
            return self._cache.find(stage, digest)
        except DamagedError as damage:
            self._journal.line(f"{stage:<10} its cached result is damaged ({damage}): it is made again")
            return None

    def _make(self, stage: Stage, digest: str) -> Cached:
        run = cast("Callable[[StageWork], None]", importlib.import_module(stage.module).run)
        with self._cache.fill(stage.name) as folder:
            with self._journal.stage(stage.name) as lines:
                run(self._work(stage.name, folder))
            return self._cache.keep(folder, digest, self._journal.seconds[stage.name], tuple(lines))

    def _archive(self, out: Path, run: str) -> None:
        from model.build.stages import archive  # noqa: PLC0415 - imports what the stages before it need

        with self._journal.stage(ARCHIVE):
            work = self._work(ARCHIVE, out)
            manifest = archive.pack(work, self._inputs, run)
        archive.report(work, manifest, self._journal.seconds, frozenset(self._reused), peak_memory_gib())

    def _work(self, stage: str, folder: Path) -> StageWork:
        return StageWork(
            request=self._request,
            repository=self._repository,
            folder=folder,
            earlier=self._folders,
            scratch=self._cache.scratch(stage),
            material=self._material,
            patience_s=self._patience_s,
            line=self._journal.line,
            fraction=self._journal.fraction,
        )

    def _material(self, source: SourceModel) -> Material:
        if self._calibration is None:
            self._calibration = calibration_set(self._request.calibration, source, self._downloads, self._patience_s)
        return material(self._calibration, self._request.calibration, source)
