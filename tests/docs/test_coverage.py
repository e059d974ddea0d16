"""The page of what the sandbox covers cannot leave anything out, nor tell of what there is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from docs import coverage_reference

NETWORK = "gcp:compute/network:Network"


def test_a_type_without_a_note_stops_the_generator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    notes = coverage_reference.NOTES.read_text().replace(f'[types."{NETWORK}"]', '[types."gcp:compute/new:New"]')
    monkeypatch.setattr(coverage_reference, "NOTES", tmp_path / "notes.toml")
    (tmp_path / "notes.toml").write_text(notes)
    with pytest.raises(ValueError, match="the sandbox does not model gcp:compute/new:New"):
        coverage_reference.types()
    (tmp_path / "notes.toml").write_text(notes.partition("[types")[0] + "[types]\n")
    with pytest.raises(ValueError, match=f"no word on what is checked of .*{NETWORK}"):
        coverage_reference.types()


def test_calls_of_every_api_are_found() -> None:
    page = coverage_reference.calls()
    for call in (
        "GET /compute/v1/projects/{project}/zones/{zone}/instances/{name}",
        "POST /v3/projects/{project}/timeSeries",
        "PUT /upload/storage/v1/b/{bucket}/o",
        "GET /storage/v1/b",
    ):
        assert f"| `{call}` |" in page
    assert "PATCH" not in page
