"""Lines of Triton's log become events of ours, of their severity."""

from __future__ import annotations

import logging

import pytest

from serving.tritonserver import log_line

LINE = '{severity}1124 18:18:31.359166 14813 instance_state.cc:3254] "{text}"'


@pytest.mark.parametrize(
    ("severity", "text", "level"),
    [
        ("E", "unable to record CUDA graph for default_image_gpu0", logging.ERROR),
        ("E", "Failed to set cuda graph shape for default_image_gpu0trt failed to set binding dimension", logging.INFO),
        ("W", "something odd", logging.WARNING),
        ("I", "something usual", logging.INFO),
    ],
)
def test_a_line_keeps_its_severity_but_for_graphs_that_belong_to_another_profile(
    caplog: pytest.LogCaptureFixture, severity: str, text: str, level: int
) -> None:
    with caplog.at_level(logging.INFO):
        log_line(LINE.format(severity=severity, text=text), on_gpus=True)
    (record,) = caplog.records
    assert record.levelno == level
    assert text in record.message


@pytest.mark.parametrize(("on_gpus", "level"), [(True, logging.ERROR), (False, logging.INFO)])
def test_a_missing_driver_is_an_error_where_there_are_gpus(
    caplog: pytest.LogCaptureFixture, on_gpus: bool, level: int
) -> None:
    with caplog.at_level(logging.INFO):
        log_line(LINE.format(severity="E", text="CudaDriverHelper has not been initialized."), on_gpus=on_gpus)
    (record,) = caplog.records
    assert record.levelno == level
