"""The correctness check: rounding passes, wrong answers do not, each precision has its bound."""

import numpy as np
import pytest

from benchmarks.harness.correctness import BOUNDS, check


def answers(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(7, 33)).astype(np.float32)


def test_equal_answers_have_no_error() -> None:
    verdict = check(answers(), answers(), "float32")
    assert verdict.wrong is None
    assert verdict.error == {
        "max_abs": 0.0,
        "relative": 0.0,
        "worst_cosine": pytest.approx(1.0),
        "argmax_agreement": 1.0,
    }


@pytest.mark.parametrize(("precision", "noise"), [("float32", 1e-5), ("bfloat16", 5e-3)])
def test_rounding_errors_pass(precision: str, noise: float) -> None:
    noisy = answers() * (1 + noise * np.sign(answers(1)))
    assert check(noisy, answers(), precision).wrong is None


@pytest.mark.parametrize("precision", BOUNDS)
def test_unrelated_answers_fail_in_every_precision(precision: str) -> None:
    verdict = check(answers(1), answers(), precision)
    assert verdict.wrong is not None
    assert verdict.error["worst_cosine"] < 0.8


def test_an_int8_error_fails_for_float32() -> None:
    noisy = answers() + 0.05 * answers(1)
    assert check(noisy, answers(), "int8").wrong is None
    assert "float32 has to reach" in (check(noisy, answers(), "float32").wrong or "")


def test_one_wrong_answer_among_correct_ones_fails() -> None:
    mixed = answers()
    mixed[3] = mixed[4]
    verdict = check(mixed, answers(), "int8")
    assert verdict.wrong is not None
    assert verdict.error["argmax_agreement"] == pytest.approx(6 / 7)


def test_scaled_answers_fail_although_their_cosine_is_one() -> None:
    verdict = check(2 * answers(), answers(), "float32")
    assert verdict.error["worst_cosine"] == pytest.approx(1.0)
    assert "away from the reference" in (verdict.wrong or "")


def test_another_shape_fails_and_is_not_broadcast() -> None:
    verdict = check(answers()[:1], answers(), "float32")
    assert verdict.wrong == "the answers' shape is (1, 33) and not (7, 33)"
    assert verdict.error == {}


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_fail(value: float) -> None:
    broken = answers()
    broken[0, 0] = value
    assert "not finite" in (check(broken, answers(), "int8").wrong or "")


def test_a_large_mean_hides_nothing_from_a_centered_check() -> None:
    expected, wrong = answers() + 100, answers(1) + 100
    assert check(wrong, expected, "int8").wrong is None
    verdict = check(wrong, expected, "int8", centered=True)
    assert verdict.wrong is not None
    assert verdict.error["worst_cosine"] < 0.8
    assert check(expected, expected, "float32", centered=True).wrong is None


def test_another_mean_fails_a_centered_check() -> None:
    verdict = check(answers() + 1, answers(), "float32", centered=True)
    assert verdict.wrong is not None
    assert verdict.error["max_abs"] == pytest.approx(1)
