"""Rounding with compensation, against the least squares problem that defines it."""

import numpy as np
import pytest

from bertrt.export.quantize.observe import Observed
from bertrt.export.quantize.rounding import round_rows

NONE = np.array([], np.int64)


def inputs(rows: int, columns: int, seed: int = 0) -> np.ndarray:
    """Return correlated inputs [R, K] of unequal widths: a few causes, and some noise."""
    random = np.random.default_rng(seed)
    mixing = np.random.default_rng(99).standard_normal((columns // 4, columns))
    causes = random.standard_normal((rows, columns // 4))
    noise = 0.3 * random.standard_normal((rows, columns))
    return ((causes @ mixing + noise) * np.geomspace(0.1, 10, columns)).astype(np.float32)


def steps_of(columns: int, outputs: int) -> np.ndarray:
    random = np.random.default_rng(1)
    return np.clip(random.standard_normal((columns, outputs)) * 12, -60, 60)


def error_of(answer: np.ndarray, steps: np.ndarray, rows: np.ndarray) -> float:
    """Return the squared error of the product, without its mean, which the bias corrects."""
    error = (rows - rows.mean(axis=0)).astype(np.float64) @ (answer - steps)
    return float(np.square(error).sum())


@pytest.mark.parametrize(("columns", "outputs", "kept"), [(23, 7, 0), (70, 5, 0), (70, 5, 6)])
def test_later_rows_compensate_by_least_squares(columns: int, outputs: int, kept: int) -> None:
    """The definition: after each row, all rows that can still change get the best change."""
    covariance = Observed.of(inputs(500, columns)).covariance.astype(np.float64)
    steps = steps_of(columns, outputs)
    exact = np.arange(3, 3 + kept)
    order = [row for row in np.argsort(-np.diag(covariance)) if row not in exact]
    expected, left = steps.copy(), [*order, *exact]
    for row in order:
        left.remove(row)
        error = expected[row] - np.rint(expected[row])
        expected[row] = np.rint(expected[row])
        change = np.linalg.solve(covariance[np.ix_(left, left)], covariance[left, row])
        expected[left] += np.outer(change, error)
    rounded, rest = round_rows(steps, covariance, exact)
    assert rounded.dtype == np.int8
    assert not rounded[exact].any()
    np.testing.assert_allclose(rest, expected[exact], atol=1e-4)  # float32
    expected[exact] = 0
    np.testing.assert_array_equal(rounded, expected)


@pytest.mark.parametrize("rows", [20, 64, 5000])
def test_other_inputs_improve_too(rows: int) -> None:
    """Also with fewer rows than columns, where the plain covariance would make it worse."""
    steps = steps_of(64, 30)
    others = inputs(2000, 64, seed=5)
    rounded, _ = round_rows(steps, Observed.of(inputs(rows, 64)).covariance, NONE)
    gain = error_of(rounded, steps, others) / error_of(np.rint(steps), steps, others)
    assert gain < (0.35 if rows == 5000 else 0.95)


def test_uncorrelated_inputs() -> None:
    steps = steps_of(30, 9)
    rounded, _ = round_rows(steps, np.diag(np.arange(30.0)), NONE)  # one of them is always 0
    np.testing.assert_array_equal(rounded, np.rint(steps))


def test_an_exact_row_compensates_for_an_equal_input() -> None:
    rows = np.repeat(inputs(400, 8), 2, axis=1)
    steps = steps_of(16, 5)
    covariance = np.cov(rows.T) + 1e-9 * np.eye(16)
    exact = np.arange(0, 16, 2)
    rounded, rest = round_rows(steps, covariance, exact)
    answer = rounded.astype(np.float64)
    answer[exact] = rest
    nearest = np.rint(steps)
    nearest[exact] = steps[exact]
    assert error_of(answer, steps, rows) < 1e-6 * error_of(nearest, steps, rows)


def test_no_pair_exceeds_the_limit() -> None:
    """Pairs of weights are at the limit of 127, and compensation would push them beyond it."""
    random = np.random.default_rng(2)
    steps = random.uniform(0, 63.4, (41, 50)) * random.choice([-1, 1], (41, 50))
    steps[::5] *= 127 / 63.4
    steps[1::5] = 0
    rounded, _ = round_rows(steps, Observed.of(inputs(300, 41)).covariance, NONE)
    pairs = np.zeros((21, 2, 50), np.int64)
    pairs.reshape(42, 50)[:41] = rounded
    assert abs(rounded.astype(int)).max() == 127
    assert pairs.clip(min=0).sum(axis=1).max() <= 128
    assert pairs.clip(max=0).sum(axis=1).min() >= -128


def test_the_covariance_is_numpys_shrunk_towards_its_diagonal() -> None:
    rows = inputs(300, 40) + 1000  # far from 0, where plain sums of squares lose precision
    found = Observed.of(rows).covariance
    expected = np.cov(rows.astype(np.float64).T, bias=True)
    np.testing.assert_allclose(np.diag(found), np.diag(expected), rtol=1e-3)
    other = ~np.eye(40, dtype=bool)
    atol = 1e-3 * float(np.abs(expected).max())
    np.testing.assert_allclose(found[other], expected[other] * 300 / 340, rtol=1e-3, atol=atol)
