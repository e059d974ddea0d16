"""Which files a stage runs: a change in one of them makes its cached results worthless, a change elsewhere does not."""

from __future__ import annotations

import ast
import hashlib
from functools import cache
from pathlib import Path
from typing import Final

_PACKAGES: Final = ("artifact", "contract", "model")
"""Code of this repository that the build may import."""


def code_of(module: str, repository: Path) -> tuple[Path, ...]:
    """Files that `module` imports directly or through others, and its own, relative to `repository`; sorted.

    It is the text that is read: imports inside functions count as well, those for type checkers alone do not.
    """
    found: dict[str, Path] = {}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        path = _file_of(name, repository)
        if name in found or path is None:
            continue
        found[name] = path.relative_to(repository)
        waiting += _imported(path.read_text(encoding="utf-8"))
    return tuple(sorted(found.values()))


def digest_of(paths: tuple[Path, ...], repository: Path) -> str:
    """SHA-256 over path and content of files relative to `repository`."""
    digest = hashlib.sha256()
    for path in paths:
        content = (repository / path).read_bytes()
        digest.update(f"{path.as_posix()}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()


def _file_of(module: str, repository: Path) -> Path | None:
    if module.partition(".")[0] not in _PACKAGES:
        return None
    base = repository / module.replace(".", "/")
    return next((path for path in (base.with_suffix(".py"), base / "__init__.py") if path.is_file()), None)


@cache
def _imported(text: str) -> tuple[str, ...]:
    """Modules that a file's text imports when it runs, at once or in a function."""
    found: list[str] = []
    waiting: list[ast.AST] = [ast.parse(text)]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            found += (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            # `from package import module` names a file of its own.
            found += (node.module, *(f"{node.module}.{name.name}" for name in node.names))
        elif not (isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"):
            waiting += ast.iter_child_nodes(node)
    return tuple(found)
