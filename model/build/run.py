"""A build that ends in a published artifact, and that tells storage how far it is: what runs on a builder VM."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Final

from artifact import repository
from artifact.errors import ArtifactError, ArtifactUnavailableError
from artifact.key import artifact_key
from artifact.recipe import BuildRequest
from artifact.repository import Published
from artifact.run import RunState, RunStatus, run_file
from artifact.uri import ArtifactUri
from model.build.folder import building
from model.build.pipeline import LOG, build
from model.build.progress import Reporter
from model.errors import BuildError

STAGE_SECONDS: Final = {
    "source": 10.0,
    "export": 3.0,
    "optimise": 2.0,
    "calibrate": 6.0,
    "quantise": 2.0,
    "evaluate": 44.0,
    "speed": 11.0,
    "plan": 0.1,
    "archive": 3.0,
    "publish": 3.0,
}
"""Stages in order, with what each took for the built-in EfficientNet-Lite0 (2 cores with AVX-512 VNNI, 2026-11-24).

Only their proportions are used.
"""
STATUS_INTERVAL_S: Final = 5.0
"""Between two messages of one stage."""
PATIENCE_S: Final = 600.0
"""New IAM bindings take minutes to work: until then it is no verdict that storage refuses an artifact."""
_FIRST_MESSAGE: Final = 1
"""startup/builder.sh has written message 0."""
_PUBLISH: Final = "publish"


class RunReporter:
    """Passes all on to another reporter, and leaves messages beside the artifact for whoever waits for it."""

    def __init__(
        self, uri: ArtifactUri, run: str, reporter: Reporter, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._uri, self._run, self._reporter, self._clock = uri, run, reporter, clock
        self._numbers = count(_FIRST_MESSAGE)
        self._began = clock()
        self._written = float("-inf")
        self._stage, self._percent = next(iter(STAGE_SECONDS)), 0.0
        self._complained = False

    def stage(self, name: str, fraction: float) -> None:
        """A stage is `fraction` (0 to 1) done."""
        self._reporter.stage(name, fraction)
        moved = name != self._stage
        self._stage, self._percent = name, percent_of(name, fraction)
        if moved or self._clock() - self._written >= STATUS_INTERVAL_S:
            elapsed = self._clock() - self._began
            self._write("running", seconds_left=seconds_left(self._percent, elapsed))

    def line(self, text: str) -> None:
        """Something worth keeping has been found out."""
        self._reporter.line(text)

    def succeeded(self) -> None:
        """The artifact is published."""
        self._percent = 100.0
        self._write("succeeded", seconds_left=0.0)

    def failed(self, error: str, folder: Path) -> None:
        """The run ends without an artifact; what it left in `folder` is uploaded first."""
        try:
            repository.publish_run(folder, self._uri, self._run)
        except ArtifactUnavailableError as problem:
            self._reporter.line(f"the log cannot be uploaded: {problem}")
        log = f"{self._uri}{run_file(self._run, LOG)}" if (folder / LOG).is_file() else ""
        self._write("failed", error=" ".join(error.split()), log=log)

    def _write(self, state: RunState, *, seconds_left: float | None = None, error: str = "", log: str = "") -> None:
        status = RunStatus(
            run=self._run,
            state=state,
            stage=self._stage,
            percent=self._percent,
            seconds_left=seconds_left,
            error=error,
            log=log,
        )
        self._written = self._clock()
        try:
            repository.write_status(self._uri, next(self._numbers), status)
        except ArtifactUnavailableError as problem:
            # Progress is a courtesy: a build must not fail for it.
            if not self._complained:
                self._reporter.line(f"progress cannot be told: {problem}")
            self._complained = True


def percent_of(stage: str, fraction: float) -> float:
    """How much of a run is done when `fraction` (0 to 1) of a stage is, by STAGE_SECONDS."""
    names = list(STAGE_SECONDS)
    before = sum(STAGE_SECONDS[name] for name in names[: names.index(stage)])
    done = before + STAGE_SECONDS[stage] * min(1.0, fraction)
    return round(100 * done / sum(STAGE_SECONDS.values()), 1)


def seconds_left(percent: float, elapsed_s: float) -> float | None:
    """Estimate from what has passed; None before a twentieth is done."""
    return round(elapsed_s * (100 - percent) / percent, 1) if percent >= 5 else None


def artifact_address(text: str, key: str) -> ArtifactUri:
    """Where the artifact `key` is published: `gs://bucket[/prefix]`, or its own address there.

    Raises:
        BuildError: the address of another artifact.
        ValueError: no Cloud Storage address.
    """
    try:
        uri = ArtifactUri.parse(text)
    except ValueError:
        return ArtifactUri.under(text, key)
    if uri.key != key:
        raise BuildError(
            f"{uri} is not where this build belongs: its key is {key}; code or settings differ from those that the "
            "address was made from"
        )
    return uri


def build_and_publish(
    request: BuildRequest,
    repository_folder: Path,
    out: Path,
    *,
    address: str,
    run: str,
    reporter: Reporter,
    cache: Path | None = None,
) -> Published:
    """Build an artifact and publish it, unless it is published already; equal builds may race.

    Results of stages are kept in `cache`, as `build` says.

    Raises:
        BuildError, ArtifactError, ValueError: as `build` and `artifact.repository.publish`; told to storage as well.
    """
    key = artifact_key(request.inputs(repository_folder))
    uri = artifact_address(address, key)
    standing = repository.read_manifest(uri)
    if standing is not None:
        return Published(uri, standing, created=False)
    telling = RunReporter(uri, run, reporter)
    try:
        build(request, repository_folder, out, telling, run=run, cache=cache, patience_s=PATIENCE_S)
        telling.stage(_PUBLISH, 0.0)
        published = _publish(out, uri, reporter)
    except (BuildError, ArtifactError, ValueError) as error:
        telling.failed(str(error), building(out))
        raise
    except Exception as error:
        # Whoever waits for the artifact sees neither this console nor this traceback.
        telling.failed(f"{type(error).__name__}: {error}", building(out))
        raise
    telling.succeeded()
    return published


def _publish(folder: Path, uri: ArtifactUri, reporter: Reporter) -> Published:
    deadline, pause = time.monotonic() + PATIENCE_S, 1.0
    while True:
        try:
            return repository.publish(folder, str(uri).removesuffix(f"/models/{uri.key}/"))
        except ArtifactUnavailableError as error:
            if time.monotonic() + pause > deadline:
                raise
            reporter.line(f"cannot publish yet ({error}); trying again in {pause:.0f} s")
            time.sleep(pause)
            pause = min(20.0, 2 * pause)
