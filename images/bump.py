"""Renews the stock images that a stack's file names, exactly."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from client.errors import ClientError
from client.google import Json
from images.bake import origin
from images.compute import Compute
from images.names import ImageName
from images.roles import ROLES, Role, shown
from images.stack_file import StackFile


@dataclass(frozen=True, slots=True)
class Renewal:
    """A stock image and the newest of its family."""

    old: ImageName
    new: ImageName

    @property
    def is_newest(self) -> bool:
        """Whether there is nothing to change."""
        return self.old == self.new


def bump(path: Path, compute: Compute, stack: str) -> Iterator[str]:
    """Write the newest image of each stock image's family into a stack's file; lines to tell. Raises ClientError."""
    file = StackFile.read(path)
    named = [(role, text) for role in ROLES.values() if isinstance(text := file.value(role.image), str)]
    if not named:
        wanted = ", ".join(shown(role.image) for role in ROLES.values())
        raise ClientError(f"{path} names no image", f"Add one of {wanted}.")
    fresh = file
    for role, text in named:
        image = ImageName.parse(text)
        if not image.is_stock:
            yield from _about_baked(role, image, compute, stack)
            continue
        renewal = newest(image, compute)
        if renewal.is_newest:
            yield f"{shown(role.image)}: {image.name} is the newest of its family"
            continue
        yield from (f"{shown(role.image)}", f"  {image.path}", f"  -> {renewal.new.path}")
        fresh = fresh.changed(role.image, renewal.new.path)
    if fresh != file:
        fresh.write()
        yield f"{path.name} is written: look at the plan before you deploy it"
    else:
        yield f"{path.name} stays as it is"


def newest(image: ImageName, compute: Compute) -> Renewal:
    """The newest image of the family of a stock image (or of a family). Raises ClientError."""
    family = family_of(image, compute.image(image))
    found = compute.image(family)
    if found is None:
        raise ClientError(
            f"{family.path} has no image that is not deprecated",
            "Name another: `gcloud compute images list --project " + family.project + "`.",
        )
    new = ImageName.parse(str(found["selfLink"]))
    # A family's head may be rolled back; going back is a person's decision.
    if image.family_by_name is not None and new.family_by_name == image.family_by_name and new.name < image.name:
        new = image
    return Renewal(image, new)


def family_of(image: ImageName, found: Json | None) -> ImageName:
    """The family that Compute Engine tells of an image, or its name if the image is gone. Raises ClientError."""
    told = (found or {}).get("family")
    if isinstance(told, str) and told:
        return ImageName(image.project, told, is_family=True)
    if image.family_by_name is not None:
        return image.family_by_name
    what = "belongs to no family" if found else "is not there, and its name tells no family"
    raise ClientError(f"{image.path} {what}", "Name another image in the stack's file.")


def _about_baked(role: Role, image: ImageName, compute: Compute, stack: str) -> Iterator[str]:
    """An image of one's own is not renewed but baked again."""
    found = compute.image(image)
    base = origin(found) if found else None
    command = f"python -m images bake --role {role.name} --stack {stack}"
    if base is None:
        yield f"{shown(role.image)}: {image.name} is no stock image: `{command}` bakes one"
        return
    renewal = newest(ImageName.parse(base), compute)
    if renewal.is_newest:
        yield f"{shown(role.image)}: {image.name} was baked from the newest stock image, {renewal.old.name}"
        return
    yield f"{shown(role.image)}: {image.name} was baked from {renewal.old.name}; there is {renewal.new.name}"
    yield f"  bake again: {command} --base {renewal.new.path}"
