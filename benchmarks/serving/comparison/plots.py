"""Bars as SVG, in the colours of the page."""

from __future__ import annotations

import io
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure

_COLOURS = ("#1f9d6b", "#8a8f98", "#4c83c3", "#8f6bc1", "#d98324")
_INK, _FAINT = "#010101", "#020202"
"""Drawn in, then replaced by the page's own."""


def bars(groups: Mapping[str, Mapping[str, Sequence[float]]], unit: str, name: str) -> str:
    """Group -> bar -> values: the median of each, and a line from the least to the greatest."""
    names = list(dict.fromkeys(bar for group in groups.values() for bar in group))
    inks = ("text.color", "axes.labelcolor", "xtick.labelcolor", "ytick.labelcolor")
    # Any, as matplotlib types its hundreds of keys one by one.
    style: dict[Any, Any] = {"svg.fonttype": "none", "svg.hashsalt": name, "font.size": 9}
    style |= {"axes.spines.top": False, "axes.spines.right": False, **dict.fromkeys(inks, _INK)}
    with rc_context(style):
        figure = Figure(figsize=(6.6, 1.35 * len(groups) + 0.6), layout="constrained")
        for number, (group, values) in enumerate(groups.items(), 1):
            axes = figure.add_subplot(len(groups), 1, number)
            for place, bar in enumerate(values):
                middle, low, high = statistics.median(values[bar]), min(values[bar]), max(values[bar])
                axes.barh(place, middle, 0.8, color=_COLOURS[names.index(bar) % len(_COLOURS)])
                axes.errorbar(middle, place, xerr=[[middle - low], [high - middle]], color=_INK, capsize=2, lw=1)
            axes.set_yticks(range(len(values)), list(values))
            axes.invert_yaxis()
            axes.set_title(f"{group}, {unit}", loc="left", fontsize=9)
            axes.grid(axis="x", color=_FAINT, alpha=0.4)
            axes.set_axisbelow(True)
        text = io.StringIO()
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    drawn = text.getvalue()
    drawn = drawn[drawn.index("<svg") :].replace('id="', f'id="{name}-').replace("url(#", f"url(#{name}-")
    drawn = drawn.replace('href="#', f'href="#{name}-')
    return drawn.replace(_INK, "var(--ink)").replace(_FAINT, "var(--faint)")
