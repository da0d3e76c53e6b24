"""Admission: a request fits, does not fit now, or never will."""

import pickle

import pytest

from bertrt.errors import BusyError, DeadlineError, TooLargeError
from bertrt.scheduling.admission import Admission
from bertrt.scheduling.batcher_load import Speed


@pytest.mark.parametrize(
    ("texts", "tokens", "error", "message"),
    [
        (7, 60, None, ""),
        (0, 0, None, ""),
        (8, 1, BusyError, r"3 texts are waiting and the request has 8.*holds 10.*max_waiting$"),
        (1, 61, BusyError, r"40 tokens are waiting.* has 61.*holds 100.*max_waiting_tokens$"),
        (10, 1, BusyError, "3 texts are waiting"),
        (11, 1, TooLargeError, r"has 11 texts, and this batcher holds 10.*larger max_waiting$"),
        (1, 101, TooLargeError, r"has 101 tokens.*holds 100.*larger max_waiting_tokens$"),
    ],
)
def test_what_fits(texts: int, tokens: int, error: type | None, message: str) -> None:
    admission = Admission(10, 100)
    admission.enter(3, 40)
    if error is None:
        admission.check(texts, tokens, 0.0)
    else:
        with pytest.raises(error, match=message):
            admission.check(texts, tokens, 0.0)
    assert (admission.texts, admission.tokens) == (3, 40)  # a check changes nothing


@pytest.mark.parametrize(
    ("waiting", "speed", "seconds"),
    [(500, 250.0, 2.0), (500, 1e6, 0.05), (500, 0.1, 60.0), (500, 0.0, 1.0), (0, 250.0, 0.05)],
)
def test_when_to_ask_again(waiting: int, speed: float, seconds: float) -> None:
    admission = Admission(1, 1000)
    admission.enter(1, waiting)
    with pytest.raises(BusyError) as caught:
        admission.check(1, 1, speed)
    assert caught.value.retry_after == seconds


def test_what_left_makes_room() -> None:
    admission = Admission(2, 100)
    admission.enter(3, 100)
    assert admission.is_full
    admission.leave(1, 50)
    assert not admission.is_full
    admission.check(0, 50, 0.0)


def test_speed_is_that_of_all_workers_and_of_recent_batches() -> None:
    speed = Speed(2)
    assert speed.tokens_per_second == 0.0
    speed.add(100, 0.5)
    assert speed.tokens_per_second == pytest.approx(400)
    for _ in range(200):
        speed.add(50, 0.5)
    assert speed.tokens_per_second == pytest.approx(200, rel=1e-3)


def test_errors_keep_when_to_ask_again() -> None:
    copy = pickle.loads(pickle.dumps(BusyError("full", retry_after=2.5)))
    assert (str(copy), copy.retry_after) == ("full", 2.5)
    assert isinstance(DeadlineError("late"), BusyError)
    assert DeadlineError("late").retry_after == 1.0
