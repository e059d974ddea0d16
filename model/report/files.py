"""Write the files of a report."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from model.report.content import BuildReport, Comparison
from model.report.document import build_document, calls_document, comparison_document, text_of
from model.report.log import log_lines
from model.report.page import build_page, comparison_page

HTML: Final = "report.html"
JSON: Final = "report.json"
LOG: Final = "log.txt"
CALLS: Final = "calls.json"
"""Duration of every single call, which the other files hold medians and percentiles of."""


def write_report(folder: Path, report: BuildReport) -> None:
    """Write report.json and report.html of a build into `folder`, and add the rows of its comparison to log.txt."""
    (folder / JSON).write_text(text_of(build_document(report)), encoding="utf-8")
    (folder / HTML).write_text(build_page(report), encoding="utf-8")
    _append_log(folder, report.comparison)


def write_comparison(folder: Path, comparison: Comparison) -> None:
    """Write report.json, report.html, log.txt and calls.json of a comparison into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CALLS).write_text(text_of(calls_document(comparison)), encoding="utf-8")
    (folder / JSON).write_text(text_of(comparison_document(comparison)), encoding="utf-8")
    (folder / HTML).write_text(comparison_page(comparison), encoding="utf-8")
    (folder / LOG).unlink(missing_ok=True)
    _append_log(folder, comparison)


def _append_log(folder: Path, comparison: Comparison) -> None:
    with (folder / LOG).open("a", encoding="utf-8") as stream:
        stream.writelines(f"{line}\n" for line in log_lines(comparison))
