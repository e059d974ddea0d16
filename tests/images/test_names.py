from __future__ import annotations

import datetime as dt
import re
import time
from collections.abc import Iterator

import pytest

from client.errors import ClientError
from images.names import DEFAULT_FAMILY, ImageName, baked_name, recipe_digest
from tests.images.fleets import settings

STOCK = "projects/ubuntu-os-accelerator-images/global/images/ubuntu-accelerator-2404-amd64-with-nvidia-580-v20260820"
BASE = ImageName.parse(STOCK)
AT = dt.datetime(2026, 11, 24, 17, 10, 20, tzinfo=dt.timezone(dt.timedelta(hours=1)))


@pytest.mark.parametrize(
    "text",
    [
        STOCK,
        f"https://www.googleapis.com/compute/v1/{STOCK}",
        f"https://compute.googleapis.com/compute/v1/{STOCK}",
    ],
)
def test_names_and_links_are_one(text: str) -> None:
    assert ImageName.parse(text).path == STOCK


@pytest.mark.parametrize(
    "text", ["", "ubuntu", "projects/p/zones/z/images/x", f"{STOCK}/more", "https://evil/" + STOCK]
)
def test_other_texts_are_no_images(text: str) -> None:
    with pytest.raises(ClientError, match="exact image name"):
        ImageName.parse(text)


def test_families_are_told_apart_from_images() -> None:
    family = BASE.family_by_name
    assert family is not None
    assert (family.path, family.is_family, BASE.is_family) == (DEFAULT_FAMILY, True, False)
    assert ImageName.parse(DEFAULT_FAMILY) == family
    assert ImageName("p", "debian-12").family_by_name is None


@pytest.fixture(params=["UTC", "Asia/Kolkata"])
def place(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Somewhere with a clock of its own."""
    monkeypatch.setenv("TZ", request.param)
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("place")
def test_a_baked_name_is_an_exact_image_that_settings_take() -> None:
    digest = recipe_digest(base=BASE, container="c", install=b"i", lock=b"l")
    name = baked_name("serving", AT, digest)
    assert name == f"tensorrt-fleet-serving-20261124-161020-{digest}"
    assert len(baked_name("builder", AT, digest)) <= 63
    image = ImageName("my-project", name)
    assert (image.is_baked, image.is_stock) == (True, False)
    assert (BASE.is_baked, BASE.is_stock) == (False, True)
    assert settings(image=image.path).image == image.path


def test_the_digest_changes_with_everything_that_goes_in() -> None:
    parts = {"base": BASE, "container": "c", "install": b"i", "lock": b"l"}
    others = {"base": ImageName("p", "x"), "container": "d", "install": b"j", "lock": b"m"}
    digests = {recipe_digest(**(parts | {name: other})) for name, other in others.items()}  # type: ignore[arg-type]
    plain = recipe_digest(base=BASE, container="c", install=b"i", lock=b"l")
    assert len(digests | {plain}) == 5
    assert re.fullmatch("[0-9a-f]{8}", plain)
    assert recipe_digest(base=BASE, container="c", install=b"il", lock=b"") != plain
