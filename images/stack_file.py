"""Reads a stack's file, and changes single values in its text: comments, order and quoting of the rest stay."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from client.errors import ClientError
from images.roles import Path as Keys
from images.roles import shown

_REST_OF_LINE = re.compile(r"(?P<space>[ \t]*)(?P<comment>#[^\n]*)?(?=\n|\Z)")
_NEEDS_QUOTES = re.compile(r"[^A-Za-z0-9_./:@+-]|^[^A-Za-z0-9/]|: |:$")

OWN_COMMENTS: Final = ("unverified:", "baked from", "holds", "pinned")
"""Beginnings of comments behind a value that these commands write, and so may replace."""


@dataclass(frozen=True, slots=True)
class StackFile:
    """`Pulumi.<stack>.yaml` as text."""

    path: Path
    text: str

    @classmethod
    def read(cls, path: Path) -> StackFile:
        """Read a file.

        Raises:
            ClientError: there is none, or it is not YAML with an object `config`.
        """
        try:
            found = cls(path, path.read_bytes().decode())
        except FileNotFoundError:
            known = ", ".join(sorted(one.name for one in path.parent.glob("Pulumi.*.yaml")))
            raise ClientError(f"{path} is missing", f"Name a stack that has a file: {known or 'none has'}.") from None
        except (OSError, UnicodeDecodeError) as error:
            raise ClientError(f"{path} cannot be read: {error}", "Correct the file.") from error
        found.config()
        return found

    def config(self) -> dict[str, Any]:
        """The object `config`. Raises ClientError."""
        try:
            document = yaml.safe_load(self.text)
        except yaml.YAMLError as error:
            raise ClientError(f"{self.path} is not YAML: {' '.join(str(error).split())}", "Correct it.") from error
        config = document.get("config") if isinstance(document, dict) else None
        if not isinstance(config, dict):
            raise ClientError(f"{self.path} has no object `config`", "Compare it with Pulumi.dev.yaml.")
        return config

    def value(self, keys: Iterable[str | int]) -> Any:  # noqa: ANN401 - a stack's file holds values of any type
        """What stands at `keys` below `config`; None where nothing does."""
        place: Any = self.config()
        for key in keys:
            inside = isinstance(place, dict) or (isinstance(place, list) and isinstance(key, int) and key < len(place))
            place = (place.get(key) if isinstance(place, dict) else place[key]) if inside else None
        return place

    def required(self, keys: tuple[str | int, ...], example: str) -> str:
        """A text that must be there. Raises ClientError."""
        found = self.value(keys)
        if not isinstance(found, str) or not found:
            name = shown(tuple(map(str, keys)))
            raise ClientError(f"{self.path} names no {name}", f"Add it, for example {example}.")
        return found

    def changed(self, keys: Keys, value: str, comment: str = "") -> StackFile:
        """The file with another text at `keys`, and `comment` behind it where it ends its line.

        A comment behind the old value goes if one of these commands wrote it (OWN_COMMENTS); a person's stays. Where
        nothing stands at `keys`, a line is added to the innermost object that does.

        Raises:
            ClientError: what stands there cannot be edited.
        """
        root = yaml.compose(self.text)
        node = _node(root, ("config", *keys))
        if node is None:
            return self._added(keys, value, comment)
        if not isinstance(node, yaml.ScalarNode) or node.style in {"|", ">"}:
            raise ClientError(
                f"{self.path}: {shown(keys)} is not a text on one line, so it cannot be edited in place",
                f"Write `{keys[-1]}: {value}` there by hand.",
            )
        start, end = node.start_mark.index, node.end_mark.index
        rest = _REST_OF_LINE.match(self.text, end)
        behind, after = "", end
        if rest is not None:
            kept = _kept(rest["comment"] or "")
            told = "; ".join(filter(None, (comment, kept)))
            behind, after = f" # {told}" if told else "", rest.end()
        edited = StackFile(self.path, self.text[:start] + _scalar(value) + behind + self.text[after:])
        if not edited._differs_only(self, keys, value):
            raise ClientError(
                f"{self.path}: changing {shown(keys)} in place would change other values too (an anchor or alias?)",
                f"Write `{keys[-1]}: {value}` there by hand.",
            )
        return edited

    def _added(self, keys: Keys, value: str, comment: str) -> StackFile:
        """The file with lines for keys that it lacks, behind a value on one line of the object that they belong to."""
        root = yaml.compose(self.text)
        known = next(depth for depth in range(len(keys), -1, -1) if _node(root, ("config", *keys[:depth])) is not None)
        owner = _node(root, ("config", *keys[:known]))
        in_block = isinstance(owner, yaml.MappingNode) and not owner.flow_style
        lines = [one for _, one in owner.value if _on_one_line(one)] if owner is not None and in_block else []
        if owner is None or not lines:
            raise ClientError(
                f"{self.path} names no {shown(keys)}", f"Write `{keys[-1]}: {value}` there by hand, for once."
            )
        at = self.text.find("\n", lines[-1].end_mark.index) + 1 or len(self.text)
        indent, missing = owner.start_mark.column, keys[known:]
        told = [f"{' ' * (indent + 2 * step)}{key}:" for step, key in enumerate(missing)]
        added = "\n".join(told) + f" {_scalar(value)}" + (f" # {comment}" if comment else "")
        before = self.text[:at] if self.text[:at].endswith("\n") else f"{self.text[:at]}\n"
        edited = StackFile(self.path, f"{before}{added}\n{self.text[at:]}")
        if not edited._differs_only(self, keys, value):
            raise ClientError(f"{self.path} cannot take {shown(keys)}", f"Write `{keys[-1]}: {value}` there by hand.")
        return edited

    def write(self) -> None:
        """Put the text into the file, whole or not at all. Raises ClientError."""
        try:
            with tempfile.NamedTemporaryFile(
                "wb", dir=self.path.parent, prefix=f".{self.path.name}.", delete=False
            ) as fresh:
                fresh.write(self.text.encode())
            partial = Path(fresh.name)
            partial.chmod(self.path.stat().st_mode & 0o7777)
            partial.replace(self.path)
        except OSError as error:
            raise ClientError(f"{self.path} cannot be written: {error.strerror}", "Make it writable.") from error

    def _differs_only(self, old: StackFile, keys: Keys, value: str) -> bool:
        """Whether this file says what `old` says, with `value` at `keys`."""
        try:
            mine = yaml.safe_load(self.text)
        except yaml.YAMLError:
            return False
        wanted = yaml.safe_load(old.text)
        # Through JSON-like copies: an alias would make one object of two places.
        mine, wanted = _unshared(mine), _unshared(wanted)
        place = wanted["config"]
        for key in keys[:-1]:
            place = place.setdefault(key, {})
        place[keys[-1]] = value
        return bool(mine == wanted)


def _node(root: yaml.Node | None, keys: Iterable[str]) -> yaml.Node | None:
    node = root
    for key in keys:
        if not isinstance(node, yaml.MappingNode):
            return None
        node = next((value for name, value in node.value if name.value == key), None)
    return node


def _on_one_line(node: yaml.Node) -> bool:
    """Whether a value ends on the line that it begins on, where another entry may follow."""
    flow = isinstance(node, yaml.ScalarNode) or (isinstance(node, yaml.CollectionNode) and bool(node.flow_style))
    return flow and node.start_mark.line == node.end_mark.line


def _kept(comment: str) -> str:
    """What of a comment behind a value a person wrote."""
    text = comment.lstrip("#").strip()
    if not text.startswith(OWN_COMMENTS):
        return text
    return text.partition("; ")[2]


def _scalar(value: str) -> str:
    return f"'{value}'" if _NEEDS_QUOTES.search(value) else value


def _unshared(value: Any) -> Any:  # noqa: ANN401 - as yaml.safe_load gives it
    if isinstance(value, dict):
        return {key: _unshared(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_unshared(inner) for inner in value]
    return value
