from __future__ import annotations

import io

from client.rendering import Table, plain, show

TABLE = Table("Things", ("NAME", "COUNT"), [("[red]", "7"), ("long name", "123")], frozenset({"COUNT"}))


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_pipe_gets_plain_aligned_lines() -> None:
    out = io.StringIO()
    show(TABLE, out)
    assert out.getvalue() == plain(TABLE) == "Things\n  NAME       COUNT\n  [red]          7\n  long name    123\n"


def test_terminal_gets_a_frame_and_text_is_never_markup() -> None:
    out = Terminal()
    show(TABLE, out)
    assert "─" in out.getvalue()
    assert "[red]" in out.getvalue()


def test_table_without_rows_keeps_its_head() -> None:
    assert plain(Table("None", ("NAME",), [])) == "None\n  NAME\n"
