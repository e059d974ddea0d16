"""When the build gate goes on, starts the builder VM again, or gives up - on a clock that only sleeping moves."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from artifact.errors import ArtifactError, ArtifactUnavailableError
from artifact.run import RunStatus
from artifact.uri import ArtifactUri
from components.builder_wait import BuildError, BuilderVm, PassingError, Wait, await_artifact

URI = ArtifactUri.parse("gs://models/models/0123456789abcdef0123/")
VM = BuilderVm("my-project", "us-central1-a", "dev-builder-0123456789abcdef0123")
FIRST, SECOND = "20261124T100000Z-00000a", "20261124T110000Z-00000b"


@dataclass(frozen=True)
class Moment:
    """What storage and Compute Engine say from some second on."""

    vm: str = "RUNNING"
    published: bool = False
    status: RunStatus | None = None
    trouble: Exception | None = None


@dataclass
class Script:
    """A site that follows a script; a start of the VM begins another one."""

    moments: dict[float, Moment]
    after_start: dict[float, Moment] = field(default_factory=dict)
    time: float = 0.0
    starts: list[float] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    said_on_console: str = "startup-script: builder.sh: powering off\n"

    @property
    def now(self) -> Moment:
        script, began = (self.after_start, self.starts[-1]) if self.starts else (self.moments, 0.0)
        moment = next(moment for at, moment in reversed(script.items()) if at <= self.time - began)
        if moment.trouble:
            raise moment.trouble
        return moment

    def is_published(self) -> bool:
        return self.now.published

    def newest_status(self) -> RunStatus | None:
        return self.now.status

    def vm_status(self) -> str:
        return self.now.vm

    def start_vm(self) -> None:
        self.starts.append(self.time)

    def console(self) -> str:
        return self.said_on_console

    def _sleep(self, seconds: float) -> None:
        assert seconds > 0, "waiting must not spin"
        self.time += seconds

    def wait(self, *, made_now: bool = False, deadline_s: float = 600, vm: BuilderVm | None = VM) -> None:
        await_artifact(
            Wait(
                site=self,
                uri=URI,
                vm=vm,
                made_now=made_now,
                deadline_s=deadline_s,
                say=self.said.append,
                now=lambda: self.time,
                sleep=self._sleep,
            )
        )

    def error(self, **options: Any) -> str:
        with pytest.raises(BuildError) as raised:
            self.wait(**options)
        return str(raised.value)


def running(stage: str, percent: float, left: float | None = None, run: str = FIRST) -> Moment:
    return Moment(status=RunStatus(run=run, state="running", stage=stage, percent=percent, seconds_left=left))


def failed(error: str, run: str = FIRST, vm: str = "TERMINATED") -> Moment:
    log = f"{URI}runs/{run}/log.txt"
    return Moment(vm, status=RunStatus(run=run, state="failed", stage="evaluate", percent=40, error=error, log=log))


DONE = Moment(vm="TERMINATED", published=True)
OFF = Moment(vm="TERMINATED")


def test_a_published_artifact_is_not_waited_for() -> None:
    site = Script({0: DONE})
    site.wait()
    assert (site.time, site.starts) == (0, [])


def test_progress_is_told_with_stage_percent_and_time_left() -> None:
    site = Script({0: Moment("PROVISIONING"), 5: running("source", 2), 20: running("evaluate", 41.6, 150), 60: DONE})
    site.wait(made_now=True)
    assert [line[9:] for line in site.said] == [
        f"the builder VM {VM.name} is PROVISIONING",
        "model build: source, 2 % done",
        "model build: evaluate, 42 % done, about 2 min left",
        f"the model is built: {URI}",
    ]
    assert site.starts == []


def test_a_stage_that_takes_long_is_told_of_twice_a_minute() -> None:
    moments = {float(second): running("evaluate", 10 + second / 10) for second in range(0, 300, 3)}
    site = Script({**moments, 300: DONE})
    site.wait(made_now=True, deadline_s=1000)
    assert 9 <= len(site.said) <= 11


def test_a_stopped_builder_is_started_once_and_takes_up_its_work() -> None:
    site = Script({0: OFF}, {0: Moment("PROVISIONING"), 9: running("source", 3), 30: DONE})
    site.wait()
    assert site.starts == [0]
    assert "starting it again" in site.said[0]


def test_what_an_earlier_run_died_of_is_no_news() -> None:
    """Somebody has corrected the cause: the builder is started, and its old words are not repeated."""
    site = Script(
        {0: failed("no disk")}, {0: failed("no disk", vm="STAGING"), 9: running("source", 3, run=SECOND), 30: DONE}
    )
    site.wait()
    assert site.starts == [0]
    assert not [line for line in site.said if "no disk" in line]


def test_a_builder_that_dies_at_once_is_not_blamed_for_what_an_earlier_run_died_of() -> None:
    site = Script({0: failed("no disk")}, {0: failed("no disk", vm="RUNNING"), 9: failed("no disk")})
    error = site.error()
    assert "has stopped before it was done" in error
    assert "no disk" not in error


def test_a_failure_is_told_in_the_builds_own_words_with_log_console_and_remedy() -> None:
    site = Script({0: running("evaluate", 40), 9: failed("the int8 graph is too far from the original: agreement 0.7")})
    site.said_on_console = "".join(f"line {number}\n\n" for number in range(50))
    error = site.error(made_now=True)
    assert error.splitlines()[0] == "the model build failed: the int8 graph is too far from the original: agreement 0.7"
    assert f"{URI}runs/{FIRST}/log.txt" in error
    assert "line 49" in error
    assert "line 34" not in error, "only the tail of the console"
    assert "`pulumi up` again" in error
    assert site.starts == [], "the same build would fail again"


def test_a_build_that_another_program_began_and_that_fails_now_is_not_repeated() -> None:
    site = Script({0: running("evaluate", 40), 9: failed("no disk")})
    assert "no disk" in site.error()
    assert site.starts == []


def test_a_builder_that_dies_without_a_word_is_started_once_more_and_then_given_up() -> None:
    site = Script({0: running("evaluate", 40), 9: Moment("TERMINATED", status=running("evaluate", 40).status)})
    site.after_start = {
        0: running("source", 1, run=SECOND),
        9: Moment("TERMINATED", status=running("source", 1, run=SECOND).status),
    }
    error = site.error()
    assert site.starts == [9]
    assert f"{VM.name} has stopped before it was done" in error
    assert "powering off" in error


def test_a_builder_that_never_comes_to_a_word_is_started_once_and_then_given_up() -> None:
    site = Script({0: OFF}, {0: Moment(), 30: OFF})
    assert f"{VM.name} has stopped before it was done" in site.error()
    assert site.starts == [0]


def test_a_builder_that_this_run_has_made_and_that_dies_without_a_word_is_started_once_more() -> None:
    site = Script({0: running("source", 4), 9: Moment("TERMINATED", status=running("source", 4).status)})
    site.after_start = {0: running("source", 1, run=SECOND), 30: DONE}
    site.wait(made_now=True)
    assert site.starts == [9]


def test_a_builder_that_fails_after_its_second_start_is_given_up_with_its_new_words() -> None:
    site = Script({0: failed("no disk")}, {0: running("source", 3, run=SECOND), 9: failed("no memory", run=SECOND)})
    error = site.error()
    assert "no memory" in error
    assert "no disk" not in error
    assert len(site.starts) == 1


def test_a_builder_that_publishes_and_powers_off_between_two_looks_has_not_failed() -> None:
    class Late(Script):
        def is_published(self) -> bool:
            published = super().is_published()
            self.time += 3
            return published

    site = Late({0: running("publish", 99), 2: DONE})
    site.wait(made_now=True)
    assert site.starts == []


def test_a_deleted_builder_is_named() -> None:
    error = Script({0: Moment(vm="")}).error()
    assert VM.name in error
    assert "pulumi refresh" in error


def test_the_deadline_names_where_the_build_stands_and_what_to_do() -> None:
    site = Script({0: running("calibrate", 27.4)})
    error = site.error(made_now=True, deadline_s=60)
    assert site.time == 60
    assert "after 60 s, at stage calibrate, 27 % done" in error
    assert "model.builder.deadlineS" in error
    assert "powering off" in error, "the console"


def test_what_does_not_answer_is_asked_again() -> None:
    for trouble in (PassingError("503"), ArtifactUnavailableError("503")):
        site = Script({0: Moment(trouble=trouble), 12: DONE})
        site.wait()
        assert "503" in site.said[0]


def test_what_never_answers_is_named_at_the_deadline() -> None:
    error = Script({0: Moment(trouble=PassingError("compute did not answer"))}).error(deadline_s=30)
    assert "compute did not answer" in error


def test_an_invalid_manifest_ends_the_wait_at_once() -> None:
    site = Script({0: Moment(trouble=ArtifactError("manifest.json is not valid"))})
    with pytest.raises(ArtifactError, match="not valid"):
        site.wait()
    assert site.time == 0


def test_a_ready_artifact_is_there_or_is_missed_at_once() -> None:
    Script({0: Moment(published=True)}).wait(vm=None)
    assert f"there is no artifact at {URI}" in Script({0: Moment()}).error(vm=None)
