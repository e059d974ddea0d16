"""How much one gateway worker takes on: what it cannot do soon is refused at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from serving.gateway.http import overloaded


class Admission:
    """Images in flight (waiting, decoding or running) and bytes of bodies held, each with its limit.

    A request counts as one image until its body has been read and tells how many it is.
    """

    def __init__(self, max_images: int, max_bytes: int) -> None:
        self.images = 0
        self.bytes = 0
        self._max_images = max_images
        self._max_bytes = max_bytes

    @contextmanager
    def admit(self, length: int) -> Iterator[Admitted]:
        """Hold a place for a request with a body of up to `length` bytes.

        Raises:
            HttpError: 429, no place.
        """
        if self.images >= self._max_images or (self.bytes and self.bytes + length > self._max_bytes):
            raise overloaded()
        place = Admitted(self, length)
        try:
            yield place
        finally:
            place.leave()

    def full_for(self, images: int) -> bool:
        """Whether `images` more are too many; a request alone is never too large."""
        return self.images > 0 and self.images + images > self._max_images


class Admitted:
    """One request's place."""

    def __init__(self, admission: Admission, length: int) -> None:
        self._admission = admission
        self._images = 1
        self._bytes = length
        admission.images += 1
        admission.bytes += length

    def read(self, length: int) -> None:
        """The body turned out to be `length` bytes long."""
        self._admission.bytes += length - self._bytes
        self._bytes = length

    def grow(self, images: int) -> None:
        """The request turned out to hold `images` images.

        Raises:
            HttpError: 429, no place for the others.
        """
        self._admission.images -= self._images
        self._images = 0
        if self._admission.full_for(images):
            raise overloaded()
        self._images = images
        self._admission.images += images

    def leave(self) -> None:
        """The request is over."""
        self._admission.images -= self._images
        self._admission.bytes -= self._bytes
        self._images = self._bytes = 0
