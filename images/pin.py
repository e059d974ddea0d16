"""Writes what a container's tag names now, its digest, into a stack's file."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator
from pathlib import Path

from client.errors import ClientError
from images.names import ImageName
from images.registry import Found, Reference, look_up
from images.roles import ROLES, shown
from images.stack_file import StackFile


def pin(path: Path, today: dt.date, ask: Callable[[Reference], Found] = look_up) -> Iterator[str]:
    """Pin every container that a stack's file names; lines to tell. Raises ClientError."""
    file = StackFile.read(path)
    named = [(role, text) for role in ROLES.values() if isinstance(text := file.value(role.container), str)]
    if not named:
        wanted = ", ".join(shown(role.container) for role in ROLES.values())
        raise ClientError(f"{path} names no container", f"Add one of {wanted}.")
    fresh = file
    for role, text in named:
        reference = Reference.parse(text)
        if not reference.tag:
            yield f"{shown(role.container)}: named by digest alone, which no tag renews; it stays"
            continue
        found = ask(reference)
        told = ", ".join(f"{product} {version}" for product, version in found.versions.items())
        if found.digest == reference.digest:
            yield f"{shown(role.container)}: the tag still names {found.digest} ({told or 'it tells no version'})"
            continue
        comment = f"holds {told} (its own word, {today})" if told else f"pinned {today}; it tells no version"
        pinned = reference.pinned(found.digest)
        yield from (shown(role.container), f"  {text}", f"  -> {pinned}", f"  {comment}")
        fresh = fresh.changed(role.container, pinned, comment)
        image = file.value(role.image)
        if isinstance(image, str) and ImageName.parse(image).is_baked:
            yield f"  {shown(role.image)} was baked with the other name: bake it again"
    if fresh != file:
        fresh.write()
        yield f"{path.name} is written: look at the plan before you deploy it"
    else:
        yield f"{path.name} stays as it is"
