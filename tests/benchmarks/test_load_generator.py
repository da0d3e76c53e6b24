"""The load generator: latencies count from the arrival, on a clock that the test controls."""

import asyncio

import numpy as np
import pytest

from benchmarks.harness.load_generator import (
    has_batcher,
    measure_capacity,
    poisson_arrivals,
    serve_live,
    serve_one_by_one,
)


class Clock:
    """A clock that advances only through sleep and work."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        assert seconds > 0
        self.now += seconds


class Slow:
    """Takes a fixed time for each call, and answers a text with the number in it."""

    def __init__(self, clock, seconds):
        self.clock, self.seconds, self.calls = clock, seconds, []

    def answer(self, texts):
        self.calls.append(list(texts))
        self.clock.now += self.seconds
        return np.array([[float(text)] for text in texts], np.float32)


def serve(seconds, arrivals, texts=("0", "1", "2")):
    clock = Clock()
    model = Slow(clock, seconds)
    return model, serve_one_by_one(
        model, list(texts), np.array(arrivals), clock=clock, sleep=clock.sleep
    )


def test_an_idle_server_answers_at_once():
    model, served = serve(0.5, [1.0, 2.0, 3.0, 4.0])
    np.testing.assert_allclose(served["latencies"], 0.5)
    assert served["seconds"] == pytest.approx(4.5)
    assert model.calls == [["0"], ["1"], ["2"], ["0"]]
    np.testing.assert_array_equal(served["answers"], [[0], [1], [2], [0]])
    assert served["turned_away"] == []


def test_latency_includes_waiting_in_the_queue():
    # The answers are ready at 1, 2, 3 and 6.
    _, served = serve(1.0, [0.0, 0.25, 0.5, 5.0])
    np.testing.assert_allclose(served["latencies"], [1.0, 1.75, 2.5, 1.0])


def test_a_stall_delays_all_requests_behind_it():
    """A closed loop would show one slow request out of five (coordinated omission)."""
    clock = Clock()
    model = Slow(clock, 0.1)
    served = serve_one_by_one(
        model, ["7"], np.arange(5.0), clock=clock, sleep=lambda s: setattr(clock, "now", 104.5)
    )
    assert (served["latencies"] > 0.5).sum() >= 3


def test_latencies_of_a_deterministic_server_agree_with_queueing_theory():
    """M/D/1: the mean wait is rho / (2 (1 - rho)) service times."""
    arrivals = poisson_arrivals(rate=7.0, count=20_000, seed=1)
    _, served = serve(0.1, arrivals, texts=["1"])
    wait = served["latencies"].mean() - 0.1
    assert wait == pytest.approx(0.1 * 0.7 / (2 * 0.3), rel=0.1)


def test_poisson_arrivals_are_independent_and_seeded():
    arrivals = poisson_arrivals(rate=50.0, count=20_000, seed=3)
    gaps = np.diff(arrivals)
    assert (gaps >= 0).all()
    assert gaps.mean() == pytest.approx(1 / 50, rel=0.03)
    # Gaps are exponential (deviation equals mean) and uncorrelated.
    assert gaps.std() == pytest.approx(gaps.mean(), rel=0.03)
    assert abs(np.corrcoef(gaps[:-1], gaps[1:])[0, 1]) < 0.03
    # The rate is constant: variance and mean of the counts per second agree.
    counts = np.bincount(arrivals.astype(int))[:-1]
    assert counts.var() == pytest.approx(counts.mean(), rel=0.2)
    np.testing.assert_array_equal(arrivals[:100], poisson_arrivals(50.0, 100, 3))
    assert poisson_arrivals(50.0, 100, 4)[0] != arrivals[0]


def test_capacity_takes_whole_passes_over_the_texts():
    clock = Clock()
    model = Slow(clock, 0.25)
    assert measure_capacity(model, ["1", "2", "3"], seconds=1.0, clock=clock) == pytest.approx(4.0)
    assert [text for [text] in model.calls] == ["1", "2", "3", "1", "2", "3"]


class Batcher:
    """Answers waiting requests together; turns requests away while `limit` wait."""

    def __init__(self, limit=1000):
        self.limit, self.waiting = limit, 0

    async def live_answer(self, text):
        if self.waiting == self.limit:
            raise OverflowError("full")
        self.waiting += 1
        await asyncio.sleep(0.02)
        self.waiting -= 1
        return np.array([float(text)], np.float32)


def test_a_live_batcher_gets_requests_while_others_wait():
    served = serve_live(Batcher(), ["0", "1", "2"], np.array([0.0, 0.001, 0.002, 0.003, 0.004]))
    np.testing.assert_array_equal(served["answers"], [[0], [1], [2], [0], [1]])
    assert (served["latencies"] >= 0.015).all()
    # One after the other, five times 20 ms would be 100 ms.
    assert served["seconds"] < 0.09
    assert served["turned_away"] == []


def test_requests_turned_away_by_a_full_queue_are_counted_and_omitted():
    served = serve_live(Batcher(limit=2), ["0", "1", "2"], np.zeros(5))
    assert served["turned_away"] == [2, 3, 4]
    assert len(served["latencies"]) == 2
    np.testing.assert_array_equal(served["answers"], [[0], [1]])


def test_errors_other_than_a_full_queue_are_raised():
    class Broken:
        async def live_answer(self, text):
            raise RuntimeError("no such text")

    with pytest.raises(RuntimeError, match="no such text"):
        serve_live(Broken(), ["0"], np.zeros(2))


def test_models_with_a_live_batcher_are_recognized():
    assert has_batcher(Batcher())
    assert not has_batcher(Slow(Clock(), 1.0))
