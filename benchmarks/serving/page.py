"""A report for people: one HTML file with tables and drawings in it."""

from __future__ import annotations

import html
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from matplotlib.figure import Figure

from model.report.page import document_page, table

OUT: Final = Path(__file__).resolve().parents[1] / "out"
"""Where reports and figures are written."""


@dataclass(frozen=True, slots=True)
class Plot:
    """Lines over one axis, one panel a quantity."""

    title: str
    across: str
    """Label of the common axis, with its unit."""
    panels: Mapping[str, Mapping[str, tuple[Sequence[float], Sequence[float]]]]
    """Label of each panel's own axis -> name of each line -> its points."""

    def svg(self) -> str:
        """The drawing."""
        figure = Figure(figsize=(9, 2.6 * len(self.panels)), layout="constrained")
        axes = figure.subplots(len(self.panels), 1, sharex=True, squeeze=False)
        for axis, (label, lines) in zip(axes[:, 0], self.panels.items(), strict=True):
            for name, (x, y) in lines.items():
                axis.plot(x, y, label=name, marker="." if len(x) < 50 else "", linewidth=1)
            axis.set_ylabel(label)
            axis.set_ylim(bottom=0)
            axis.grid(alpha=0.3)
            axis.legend(fontsize="small")
        axes[-1, 0].set_xlabel(self.across)
        figure.suptitle(self.title)
        text = io.StringIO()
        figure.savefig(text, format="svg")
        return text.getvalue().partition("<svg")[2].join(["<svg", ""])


def write(name: str, title: str, facts: Mapping[str, Any], plots: Sequence[Plot]) -> Path:
    """Write OUT/`name`.html with a table of facts and the plots; return its path."""
    rows = [(html.escape(key), html.escape(str(value))) for key, value in facts.items()]
    path = OUT / f"{name}.html"
    path.parent.mkdir(exist_ok=True)
    path.write_text(document_page(title, [table(("", ""), rows), *(plot.svg() for plot in plots)]), encoding="utf-8")
    return path
