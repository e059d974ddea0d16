"""Tables: drawn on a terminal, plain aligned lines in a pipe or a log."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TextIO

import rich.box
import rich.console
import rich.table
import rich.text


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of text under a title; cells of a column named in `right` are numbers."""

    title: str
    columns: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    right: frozenset[str] = frozenset()


def show(table: Table, out: TextIO | None = None) -> None:
    """Write the table to `out` (standard output where None)."""
    out = out or sys.stdout
    if out.isatty():
        _draw(table, out)
    else:
        out.write(plain(table))


def plain(table: Table) -> str:
    """The table as aligned lines, without colour or frame."""
    grid = [table.columns, *table.rows]
    widths = [max(len(row[index]) for row in grid) for index in range(len(table.columns))]
    lines = [table.title]
    for row in grid:
        cells = (
            cell.rjust(width) if column in table.right else cell.ljust(width)
            for cell, width, column in zip(row, widths, table.columns, strict=True)
        )
        lines.append("  " + "  ".join(cells).rstrip())
    return "\n".join(lines) + "\n"


def _draw(table: Table, out: TextIO) -> None:
    drawn = rich.table.Table(box=rich.box.SIMPLE_HEAD)
    for column in table.columns:
        drawn.add_column(column, justify="right" if column in table.right else "left", overflow="fold")
    for row in table.rows:
        # Text, not str: a label or an error in square brackets is not markup.
        drawn.add_row(*(rich.text.Text(cell) for cell in row))
    console = rich.console.Console(file=out)
    console.print(rich.text.Text(table.title, style="bold"), soft_wrap=True)
    console.print(drawn)
