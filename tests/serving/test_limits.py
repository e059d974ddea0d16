"""Limits that an operator may set: their names, bounds and defaults, and how a VM is told."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from serving.limits import LIMITS, LimitError, of_arguments, of_metadata, with_limits
from serving.settings import Settings, without_fleet


@pytest.fixture
def defaults(tmp_path: Path) -> Settings:
    return without_fleet(tmp_path, "", 8888, tmp_path / "run")


def test_every_limit_is_a_setting_and_takes_its_own_default(defaults: Settings) -> None:
    values = {limit.name: getattr(defaults, limit.name) for limit in LIMITS}
    assert with_limits(defaults, values) == defaults


def test_what_is_set_changes_and_keeps_its_type(defaults: Settings) -> None:
    made = with_limits(defaults, of_arguments(["queue_deadline_s=0.25", "workers=3"]))
    assert made == dataclasses.replace(defaults, queue_deadline_s=0.25, workers=3)
    assert isinstance(made.workers, int)
    assert with_limits(defaults, of_metadata('{"drain_s": 0}')).drain_s == 0.0


@pytest.mark.parametrize(
    ("pair", "text"),
    [
        ("queue_deadline=1", "there is no limit 'queue_deadline'; there are queue_deadline_s, "),
        ("queue_deadline_s", "expected NAME=VALUE"),
        ("queue_deadline_s=soon", "'soon' is not a number from 0.01 to 20.0"),
        ("queue_deadline_s=nan", "'nan' is not a number from"),
        ("queue_deadline_s=0", "'0' is not a number from"),
        ("workers=1.5", "'1.5' is not a whole number from 1 to 256"),
        ("workers=0", "'0' is not a whole number"),
    ],
)
def test_a_wrong_limit_is_refused_with_what_is_allowed(defaults: Settings, pair: str, text: str) -> None:
    with pytest.raises(LimitError) as caught:
        with_limits(defaults, of_arguments([pair]))
    assert text in str(caught.value)


@pytest.mark.parametrize("text", ["{", "[]", '{"drain_s": "0"}', '{"drain_s": true}'])
def test_metadata_must_be_an_object_of_numbers(text: str) -> None:
    with pytest.raises(LimitError):
        of_metadata(text)
