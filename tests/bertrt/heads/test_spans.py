"""The most likely spans, compared with float64 and with a search of all spans."""

import numpy as np
import pytest

from bertrt.heads.spans import best_spans, span_probabilities


def test_span_probabilities() -> None:
    rng = np.random.default_rng(0)
    start, end = rng.normal(0, 5, (2, 7)).astype(np.float32)
    allowed = np.array([True, False, False, True, True, True, False])
    starts, ends, null_score = span_probabilities(start, end, allowed)
    assert starts.dtype == ends.dtype == np.float32
    exact = np.exp(start[allowed].astype(np.float64))
    exact /= exact.sum()
    np.testing.assert_allclose(starts[allowed][1:], exact[1:], rtol=1e-5)
    assert not starts[~allowed].any()
    assert starts[0] == ends[0] == 0
    exact_end = np.exp(end[allowed].astype(np.float64))
    assert null_score == pytest.approx(exact[0] * exact_end[0] / exact_end.sum(), rel=1e-5)


@pytest.mark.parametrize("count", [1, 3, 24, 25, 60])
@pytest.mark.parametrize("max_length", [1, 2, 15])
def test_best_spans(count: int, max_length: int) -> None:
    rng = np.random.default_rng(1)
    starts, ends = rng.random((2, 5)).astype(np.float32)
    allowed = np.array([True, False, True, True, True])
    possible = [
        (s, e, starts[s] * ends[e]) for s in range(5) for e in range(s, min(5, s + max_length))
    ]
    best = sorted(possible, key=lambda span: -span[2])[:count]
    expected = [span for span in best if allowed[span[0]] and allowed[span[1]]]
    answer = [span for span in best_spans(starts, ends, allowed, count, max_length) if span[2] > 0]
    assert [span[:2] for span in answer] == [span[:2] for span in expected]
    np.testing.assert_allclose([s[2] for s in answer], [s[2] for s in expected], rtol=1e-6)
