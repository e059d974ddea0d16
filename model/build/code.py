"""Which files a stage runs: a change in one of them makes its cached results worthless, a change elsewhere does not."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_PACKAGES: Final = ("artifact", "contract", "model")
"""Code of this repository that the build may import."""


def code_of(module: str, repository: Path) -> tuple[Path, ...]:
    """Files that `module` imports directly or through others, and its own, relative to `repository`; sorted.

    Imports inside functions and under TYPE_CHECKING count as well: it is the text that is read.
    """
    found: dict[str, Path] = {}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        path = _file_of(name, repository)
        if name in found or path is None:
            continue
        found[name] = path.relative_to(repository)
        waiting += _imported(path)
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


def _imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
            # `from package import module` names a file of its own.
            yield from (f"{node.module}.{name.name}" for name in node.names)
