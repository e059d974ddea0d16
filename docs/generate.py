"""`python -m docs.generate` rewrites the generated parts of the pages; a test fails while a page differs from them."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from docs import cost_reference, coverage_reference, limits_reference, settings_reference, tune_reference

FOLDER = Path(__file__).resolve().parent


@dataclass(frozen=True, slots=True)
class Page:
    """A page with parts between `<!-- begin NAME -->` and `<!-- end NAME -->`, and what writes each part."""

    path: Path
    parts: Mapping[str, Callable[[], str]]

    def rewritten(self) -> str:
        """The page with its parts renewed.

        Raises:
            ValueError: a part's marks are not in the page.
        """
        text = self.path.read_text()
        for name, write in self.parts.items():
            begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
            found = re.search(rf"{re.escape(begin)}.*?{re.escape(end)}", text, re.DOTALL)
            if found is None:
                raise ValueError(f"{self.path.name} has no part {name}")
            text = text.replace(found[0], f"{begin}\n\n{write()}\n{end}")
        return text


PAGES = (
    Page(FOLDER / "configure.md", {"settings": settings_reference.tables}),
    Page(FOLDER / "cost.md", {"stacks": cost_reference.tables}),
    Page(FOLDER / "deploy.md", {"first deployment": cost_reference.first_deployment}),
    Page(FOLDER / "tune.md", {"measured": tune_reference.measured, "sizes": tune_reference.sizes}),
    Page(FOLDER / "under-stress.md", {"limits": limits_reference.table}),
    Page(FOLDER / "sandbox-coverage.md", {"types": coverage_reference.types, "calls": coverage_reference.calls}),
)


def main() -> int:
    """Rewrite every page."""
    for page in PAGES:
        page.path.write_text(page.rewritten())
    return 0


if __name__ == "__main__":
    sys.exit(main())
