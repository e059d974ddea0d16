"""What a run leaves in storage while it builds, when it has built, and when it could not."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from google.cloud import storage

from artifact import repository
from artifact.errors import ArtifactUnavailableError
from artifact.recipe import BuildRequest
from artifact.repository import newest_status, publish, read_manifest, write_status
from artifact.run import RunStatus, is_status, new_run, run_file, status_object, valid_run
from artifact.uri import ArtifactUri
from model.build import run as build_run
from model.build.pipeline import ARCHIVE, LOG, STAGES
from model.build.run import STAGE_SECONDS, RunReporter, artifact_address, build_and_publish, percent_of, seconds_left
from model.errors import BuildError
from tests.artifact.conftest import bucket, storage_url
from tests.model.tiny import KEY, write_tiny_artifact

__all__ = ["bucket", "storage_url"]

RUN, LATER = "20261124T100000Z-00000a", "20261124T100001Z-00000a"
REPOSITORY = Path(__file__).resolve().parents[2]


class Heard:
    """A reporter that keeps what it is told."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def stage(self, name: str, fraction: float) -> None:
        """Nothing."""

    def line(self, text: str) -> None:
        """Keep it."""
        self.lines.append(text)


def statuses(uri: ArtifactUri) -> list[RunStatus]:
    """All messages in the order of their names."""
    found = storage.Client(project=None).bucket(uri.bucket).list_blobs(prefix=uri.folder)
    messages = sorted((one for one in found if is_status(one.name.removeprefix(uri.folder))), key=lambda one: one.name)
    return [RunStatus.model_validate_json(one.download_as_bytes()) for one in messages]


# --- Names and figures -----------------------------------------------------------------------------------------------


def test_runs_and_messages_sort_by_age() -> None:
    assert valid_run(new_run())
    assert new_run()[:16] <= new_run()[:16]
    assert status_object(RUN, 9) < status_object(RUN, 10) < status_object(LATER, 1)
    assert is_status(status_object(RUN, 7))
    assert not is_status(run_file(RUN, "report.json"))


@pytest.mark.parametrize("run", ["", "latest", "20261124T100000Z", f"{RUN}/..", RUN.upper()])
def test_other_ids_are_refused(run: str) -> None:
    with pytest.raises(ValueError, match="is no run"):
        valid_run(run)


def test_percent_follows_what_stages_take() -> None:
    ends = [percent_of(stage, 1.0) for stage in STAGE_SECONDS]
    assert ends == sorted(ends)
    assert ends[-1] == 100
    assert percent_of("export", 0) == percent_of("source", 1)
    assert percent_of("evaluate", 0.5) - percent_of("evaluate", 0) == pytest.approx(
        (percent_of("evaluate", 1) - percent_of("evaluate", 0)) / 2, abs=0.2
    )


def test_time_left_is_told_once_there_is_something_to_tell_it_from() -> None:
    assert seconds_left(4.9, 100) is None
    assert seconds_left(25, 60) == 180
    assert seconds_left(100, 60) == 0


def test_every_stage_of_the_pipeline_has_its_share() -> None:
    assert [*(stage.name for stage in STAGES), ARCHIVE, "publish"] == list(STAGE_SECONDS)


def test_the_address_may_be_the_artifacts_own() -> None:
    uri = ArtifactUri.under("gs://bucket/team", KEY)
    assert artifact_address("gs://bucket/team", KEY) == artifact_address(str(uri), KEY) == uri
    with pytest.raises(BuildError, match="its key is 0123456789abcdef0123"):
        artifact_address("gs://bucket/models/ffffffffffffffffffff/", KEY)


# --- Storage ---------------------------------------------------------------------------------------------------------


@pytest.mark.servers
class TestMessages:
    def test_the_newest_message_of_the_newest_run_is_read(self, bucket: str) -> None:
        uri = ArtifactUri.under(f"gs://{bucket}", KEY)
        assert newest_status(uri) is None
        for run, sequence, stage in ((RUN, 0, "boot"), (RUN, 12, "evaluate"), (LATER, 0, "source"), (RUN, 13, "speed")):
            write_status(uri, sequence, RunStatus(run=run, state="running", stage=stage))
        newest = newest_status(uri)
        assert newest is not None
        assert (newest.run, newest.stage) == (LATER, "source")

    def test_no_message_is_written_twice(self, bucket: str) -> None:
        uri = ArtifactUri.under(f"gs://{bucket}", KEY)
        write_status(uri, 1, RunStatus(run=RUN, state="running", stage="source"))
        with pytest.raises(ArtifactUnavailableError):
            write_status(uri, 1, RunStatus(run=RUN, state="failed", stage="source"))
        assert [status.state for status in statuses(uri)] == ["running"]

    def test_a_stage_is_told_of_at_once_and_its_progress_now_and_then(self, bucket: str) -> None:
        uri, now = ArtifactUri.under(f"gs://{bucket}", KEY), [0.0]
        reporter = RunReporter(uri, RUN, Heard(), clock=lambda: now[0])
        for second in range(21):
            now[0] = float(second)
            reporter.stage("evaluate" if second else "export", second / 20)
        reporter.succeeded()
        told = statuses(uri)
        assert [status.stage for status in told][:2] == ["export", "evaluate"]
        assert told[1].percent == percent_of("evaluate", 1 / 20), "at once, not five seconds later"
        assert 5 <= len(told) <= 8
        assert (told[-1].state, told[-1].percent, told[-1].seconds_left) == ("succeeded", 100, 0)
        assert [status.percent for status in told] == sorted(status.percent for status in told)

    def test_a_failure_leaves_its_log_and_one_line(self, bucket: str, tmp_path: Path) -> None:
        uri = ArtifactUri.under(f"gs://{bucket}", KEY)
        (tmp_path / LOG).write_text("all that happened\n")
        reporter = RunReporter(uri, RUN, Heard())
        reporter.stage("evaluate", 0.2)
        reporter.failed("the int8 graph\n  is too far", tmp_path)
        last = statuses(uri)[-1]
        assert (last.state, last.stage, last.error) == ("failed", "evaluate", "the int8 graph is too far")
        assert last.log == f"{uri}runs/{RUN}/log.txt"
        log = storage.Client(project=None).bucket(bucket).blob(uri.object(f"runs/{RUN}/{LOG}"))
        assert log.download_as_bytes() == b"all that happened\n"

    def test_a_build_goes_on_where_progress_cannot_be_told(self) -> None:
        heard = Heard()
        reporter = RunReporter(ArtifactUri.under("gs://no-such-bucket", KEY), RUN, heard, clock=ticking())
        for stage in ("source", "export", "calibrate"):
            reporter.stage(stage, 0.0)
        assert len([line for line in heard.lines if "progress cannot be told" in line]) == 1


def ticking() -> Callable[[], float]:
    """A clock that moves by itself."""
    times = itertools.count()
    return lambda: float(next(times))


# --- A whole run -----------------------------------------------------------------------------------------------------


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """A build that takes no time; the folders that it was asked to fill."""
    folders: list[Path] = []

    def build(request: BuildRequest, _: Path, out: Path, reporter: RunReporter, *, run: str, **how: object) -> None:
        assert how == {"cache": None, "patience_s": build_run.PATIENCE_S}
        folders.append(out)
        reporter.stage("source", 0.0)
        if request.source != BuildRequest().source:
            building = out.parent / f".{out.name}.building"
            building.mkdir(parents=True)
            (building / LOG).write_text("log\n")
            raise BuildError("no such model")
        write_tiny_artifact(out, key=KEY, run=run)

    monkeypatch.setattr(build_run, "build", build)
    monkeypatch.setattr(build_run, "artifact_key", lambda _: KEY)
    return folders


@pytest.mark.servers
@pytest.mark.usefixtures("quick")
class TestRun:
    def test_a_run_ends_with_an_artifact_that_names_it(self, bucket: str, tmp_path: Path, quick: list[Path]) -> None:
        published = go(bucket, tmp_path / "a", RUN)
        assert published.created
        manifest = read_manifest(published.uri)
        assert manifest is not None
        assert manifest.run == RUN
        assert [status.state for status in statuses(published.uri)][-1] == "succeeded"
        assert quick == [tmp_path / "a"]

    def test_a_published_artifact_is_not_built_again(self, bucket: str, tmp_path: Path, quick: list[Path]) -> None:
        first = go(bucket, tmp_path / "a", RUN)
        before = len(statuses(first.uri))
        again = go(bucket, tmp_path / "b", LATER)
        assert not again.created
        assert again.manifest.run == RUN
        assert len(quick) == 1
        assert len(statuses(first.uri)) == before

    def test_racing_builders_end_with_one_artifact_and_both_well(self, bucket: str, tmp_path: Path) -> None:
        results = []
        runs = (RUN, LATER)
        threads = [
            threading.Thread(target=lambda run=run: results.append(go(bucket, tmp_path / run, run))) for run in runs
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(results) == 2
        assert len({result.manifest.run for result in results}) == 1
        told = statuses(results[0].uri)
        assert {status.run for status in told if status.state == "succeeded"} >= {results[0].manifest.run}
        assert not [status for status in told if status.state == "failed"]

    def test_a_failed_run_says_so_and_where_its_log_is(self, bucket: str, tmp_path: Path) -> None:
        with pytest.raises(BuildError, match="no such model"):
            go(bucket, tmp_path / "a", RUN, BuildRequest(source="builtin:smoke"))
        last = statuses(ArtifactUri.under(f"gs://{bucket}", KEY))[-1]
        assert (last.state, last.stage, last.error) == ("failed", "source", "no such model")
        assert last.log.endswith(f"/runs/{RUN}/log.txt")

    def test_what_nobody_foresaw_is_told_as_well(
        self, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def explode(*_: object, **__: object) -> None:
            raise MemoryError("8 GiB")

        monkeypatch.setattr(build_run, "build", explode)
        with pytest.raises(MemoryError):
            go(bucket, tmp_path / "a", RUN)
        assert statuses(ArtifactUri.under(f"gs://{bucket}", KEY))[-1].error == "MemoryError: 8 GiB"

    def test_a_build_that_was_killed_before_it_published_is_published_by_the_next(
        self, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def killed(*_: object) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as context:
            context.setattr(repository, "publish", killed)
            with pytest.raises(KeyboardInterrupt):
                go(bucket, tmp_path / "a", RUN)
        monkeypatch.setattr(build_run, "build", lambda *_, **__: None)
        assert go(bucket, tmp_path / "a", LATER).manifest.run == RUN

    def test_storage_that_refuses_at_first_is_asked_again(
        self, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        refusals = [ArtifactUnavailableError("403")] * 2

        def reluctant(folder: Path, root: str) -> repository.Published:
            if refusals:
                raise refusals.pop()
            return publish(folder, root)

        monkeypatch.setattr(repository, "publish", reluctant)
        monkeypatch.setattr(time, "sleep", lambda _: None)
        assert go(bucket, tmp_path / "a", RUN).created


def go(bucket: str, out: Path, run: str, request: BuildRequest | None = None) -> repository.Published:
    """Build and publish."""
    return build_and_publish(
        request or BuildRequest(), REPOSITORY, out, address=f"gs://{bucket}", run=run, reporter=Heard()
    )
