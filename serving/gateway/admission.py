"""How much one gateway worker takes on: what it cannot do soon is refused at once.

The wait that a new request would have is the images held before it times the time that one has taken lately. It is
refused if that is longer than the queue deadline. So the number of places follows the model, the GPUs and the photos,
and no one has to tune it; a constant only bounds memory.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import Final

from serving.gateway.http import HttpError

ALWAYS_ADMITTED: Final = 4
"""Images that a worker holds in any case. With fewer, its parts do not work side by side, and the time that one image
takes says nothing of the rate at which many leave."""
_AIM: Final = 0.75
"""Part of the queue deadline up to which places are given out: the wait is an estimate, and errs."""
_MEMORY_S: Final = 2.0
"""Time constant of the average: some hundred images at the least rates that are served."""


def overloaded(reason: str, retry_after_s: float = 1.0) -> HttpError:
    """429: come back after `retry_after_s`, rounded up to a second as the header wants."""
    header = (b"retry-after", str(max(1, math.ceil(retry_after_s))).encode())
    return HttpError(HTTPStatus.TOO_MANY_REQUESTS, f"{reason}; try again", (header,))


class Pace:
    """Seconds an image, as they leave a busy worker: time passed over images answered, both forgotten alike."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._mark = clock()
        self._seconds = 0.0
        self._images = 0.0

    @property
    def seconds_per_image(self) -> float:
        """Zero until something has been measured."""
        return self._seconds / self._images if self._images else 0.0

    def restart(self) -> None:
        """Time passes without enough work from here on, or did until now."""
        self._mark = self._clock()

    def left(self, images: int, at_most_s: float) -> None:
        """`images` were answered. A pause counts as `at_most_s` at most, or one hang would close the door for long."""
        now = self._clock()
        passed = min(now - self._mark, at_most_s)
        self._mark = now
        kept = math.exp(-passed / _MEMORY_S)
        self._seconds = self._seconds * kept + passed
        self._images = self._images * kept + images


class Admission:
    """Images held (waiting, decoding or running) and bytes of bodies held, each with its limit.

    A request counts as one image from when its body has arrived until that has told how many it is.
    """

    def __init__(
        self,
        max_images: int,
        max_bytes: int,
        queue_deadline_s: float = math.inf,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.images = 0
        self.bytes = 0
        self.queue_deadline_s = queue_deadline_s
        self._max_images = max_images
        self._max_bytes = max_bytes
        self._pace = Pace(clock)

    def wait_s(self, before: int) -> float:
        """How long a request would wait behind `before` images."""
        return before * self._pace.seconds_per_image

    @contextmanager
    def admit(self, patience_s: float = math.inf) -> Iterator[Admitted]:
        """Let a request in whose sender waits `patience_s` at most: first to send its body.

        Raises:
            HttpError: 429, there would be no place for it; it may also come later, from what is yielded.
        """
        place = Admitted(self, _AIM * min(patience_s, self.queue_deadline_s))
        place.check(self.images, 1)
        try:
            yield place
        finally:
            place.leave()

    def refuse_if_full(self, before: int, images: int, patience_s: float) -> None:
        """Refuse `images` more behind `before` of others.

        Raises:
            HttpError: 429, no place. A request alone is never too large.
        """
        if not before:
            return
        wait_s = self.wait_s(before)
        if before + images > self._max_images:
            raise overloaded("this server holds as many requests as it may", wait_s)
        if before >= ALWAYS_ADMITTED and wait_s > patience_s:
            raise overloaded(f"this request would wait {wait_s:.1f} s, longer than {patience_s:.1f} s", wait_s)

    def enter(self, images: int) -> None:
        """`images` more are held."""
        if self.images < ALWAYS_ADMITTED <= self.images + images:
            self._pace.restart()
        self.images += images

    def leave(self, images: int, *, answered: bool) -> None:
        """`images` fewer are held."""
        if answered and self.images >= ALWAYS_ADMITTED:
            self._pace.left(images, self.queue_deadline_s)
        self.images -= images

    def hold(self, more: int) -> None:
        """`more` bytes (or fewer, below zero) of bodies are held.

        Raises:
            HttpError: 429, too many. A body alone is never too long.
        """
        if more > 0 and self.bytes and self.bytes + more > self._max_bytes:
            raise overloaded("this server holds as many bytes of requests as it may")
        self.bytes += more


class Admitted:
    """One request's place."""

    def __init__(self, admission: Admission, patience_s: float) -> None:
        self._admission = admission
        self._patience_s = patience_s
        self._images = 0
        self._bytes = 0
        self._answered = False

    def check(self, before: int, images: int) -> None:
        """Refuse the request if there is no place for its `images` behind `before` others.

        Raises:
            HttpError: 429.
        """
        self._admission.refuse_if_full(before, images, self._patience_s)

    def hold(self, length: int) -> None:
        """`length` bytes of its body have arrived. A slow sender holds no more than these.

        Raises:
            HttpError: 429, too many are held.
        """
        self._admission.hold(length - self._bytes)
        self._bytes = length

    def grow(self, images: int) -> None:
        """The request holds `images` images, as far as is known.

        Raises:
            HttpError: 429, no place for them.
        """
        self.check(self._admission.images - self._images, images)
        self._admission.enter(images - self._images)
        self._images = images

    def answered(self) -> None:
        """The model has answered it, so it tells how fast that goes."""
        self._answered = True

    def leave(self) -> None:
        """The request is over."""
        self._admission.leave(self._images, answered=self._answered)
        self._admission.hold(-self._bytes)
        self._images = self._bytes = 0
