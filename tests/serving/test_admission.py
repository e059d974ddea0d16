"""How many places a gateway worker has, by a clock that only the test moves."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from serving.gateway.admission import ALWAYS_ADMITTED, Admission, Admitted
from serving.gateway.http import HttpError


class Worker:
    """A worker that takes `seconds` an image, one after another, and is asked for more all the time."""

    def __init__(self, queue_deadline_s: float = 1.0, max_images: int = 1000) -> None:
        self.now = 100.0
        self.admission = Admission(max_images, 10**6, queue_deadline_s, lambda: self.now)
        self._stack = ExitStack()
        self._held: list[tuple[Admitted, ExitStack]] = []

    def close(self) -> None:
        self._stack.close()

    def take(self, patience_s: float = 1e9, images: int = 1) -> Admitted:
        """A request that is let in and stays.

        Raises:
            HttpError: it is refused.
        """
        stack = self._stack.enter_context(ExitStack())
        place = stack.enter_context(self.admission.admit(patience_s))
        place.grow(images)
        self._held.append((place, stack))
        return place

    def fill(self) -> int:
        """Take until one is refused; how many are held then."""
        while True:
            try:
                self.take()
            except HttpError:
                return len(self._held)

    def answer(self, seconds: float) -> None:
        """The oldest one is answered, so much later."""
        self.now += seconds
        place, stack = self._held.pop(0)
        place.answered()
        stack.close()

    def work(self, requests: int, seconds: float) -> None:
        for _ in range(requests):
            self.fill()
            self.answer(seconds)


@pytest.fixture
def worker() -> Iterator[Worker]:
    made = Worker()
    yield made
    made.close()


def test_places_follow_the_pace_and_the_queue_deadline(worker: Worker) -> None:
    worker.work(2000, 0.01)
    held = worker.fill()
    assert 0.5 <= held * 0.01 <= 1.0, "places for most of the queue deadline, and for no more"
    worker.work(2000, 0.005)
    assert worker.fill() == pytest.approx(2 * held, rel=0.1)
    worker.work(2000, 0.02)
    assert worker.fill() == pytest.approx(held / 2, rel=0.1)


def test_a_refusal_says_when_to_come_back(worker: Worker) -> None:
    worker.work(300, 0.5)
    with pytest.raises(HttpError) as caught:
        worker.take()
    assert caught.value.status == 429
    wait_s = worker.admission.wait_s(worker.admission.images)
    assert dict(caught.value.headers)[b"retry-after"] == str(-int(-wait_s // 1)).encode() != b"1"


def test_a_few_are_always_let_in(worker: Worker) -> None:
    worker.work(1100, 5.0)
    assert worker.fill() == ALWAYS_ADMITTED


def test_who_has_less_time_is_refused_earlier(worker: Worker) -> None:
    worker.work(2000, 0.01)
    while worker.admission.images > 40:
        worker.answer(0.01)
    worker.take(patience_s=0.9)
    with pytest.raises(HttpError, match=r"longer than 0\.2 s"):
        worker.take(patience_s=0.3)


def test_idle_time_is_not_taken_for_slowness(worker: Worker) -> None:
    worker.work(2000, 0.01)
    held = worker.fill()
    while worker._held:
        worker.answer(0.01)
    for _ in range(20):
        worker.now += 60.0
        worker.take()
        worker.answer(0.01)
    assert worker.fill() == pytest.approx(held, rel=0.1)


def test_one_long_pause_does_not_close_the_door(worker: Worker) -> None:
    worker.work(2000, 0.01)
    worker.fill()
    worker.answer(300.0)
    worker.work(500, 0.01)
    assert worker.fill() * 0.01 > 0.5


def test_what_was_not_answered_tells_nothing_of_the_pace(worker: Worker) -> None:
    worker.work(2000, 0.01)
    held = worker.fill()
    for _ in range(held // 2):
        _, stack = worker._held.pop(0)
        stack.close()
    assert worker.fill() == pytest.approx(held, rel=0.1)


def test_the_images_of_a_batch_count_each() -> None:
    worker = Worker(max_images=100)
    worker.take(images=60)
    with pytest.raises(HttpError):
        worker.take(images=41)
    worker.take(images=40)
    worker.close()
    assert worker.admission.images == 0


def test_a_batch_alone_is_never_too_large() -> None:
    worker = Worker(max_images=8)
    worker.take(images=32)
    with pytest.raises(HttpError):
        worker.take()
    worker.close()


def test_bodies_are_held_to_their_limit_as_they_arrive() -> None:
    admission = Admission(10, 1000)
    with admission.admit() as first, admission.admit() as second:
        first.hold(600)
        second.hold(300)
        second.hold(400)
        with pytest.raises(HttpError) as caught:
            second.hold(401)
        assert caught.value.status == 429
    assert admission.bytes == 0
