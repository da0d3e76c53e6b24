"""Softmax, sigmoid and top_k."""

import numpy as np
import pytest

from bertrt.heads.scores import sigmoid, softmax, top_k


def test_softmax() -> None:
    logits = np.array([[0.0, np.log(3), -np.inf], [1e4, 1e4, -1e4]], np.float32)
    scores = softmax(logits)
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, [[0.25, 0.75, 0], [0.5, 0.5, 0]], atol=1e-7)


def test_sigmoid_does_not_overflow() -> None:
    logits = np.array([-1e4, -90.0, 0.0, 90.0, 1e4], np.float32)
    scores = sigmoid(logits)  # an overflow would be a warning, which pytest turns into an error
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, [0, 0, 0.5, 1, 1], atol=1e-7)


def test_top_k_is_a_stable_sort() -> None:
    random = np.random.default_rng(0)
    for size in (1, 2, 17, 300):
        scores = random.integers(0, 9, size).astype(np.float32)
        order = np.argsort(-scores, kind="stable")
        for count in (1, 2, 5, size, size + 3):
            np.testing.assert_array_equal(top_k(scores, count), order[:count])
        np.testing.assert_array_equal(top_k(scores), order)


@pytest.mark.parametrize("k", [1, 2, 3, None])
def test_top_k_of_nan_has_as_many_scores(k: int | None) -> None:
    assert len(top_k(np.full(3, np.nan, np.float32), k)) == (k or 3)
