"""Sampling: equal to transformers' logits processors, and tokens that follow the distribution."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from bertrt.heads import sampling
from bertrt.heads.scores import softmax

SHAPES = [(1, 1), (1, 7), (3, 64), (5, 1001)]


def random_scores(shape: tuple[int, int], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 3, shape).astype(np.float32)


@pytest.fixture(scope="module")
def processed() -> Callable[..., np.ndarray]:
    """Apply a logits processor of transformers to scores."""
    torch = pytest.importorskip("torch")
    from transformers.generation import logits_process

    def run(name: str, scores: np.ndarray, ids: np.ndarray | None = None, **args: Any) -> Any:
        processor = getattr(logits_process, name)(**args)
        input_ids = None if ids is None else torch.from_numpy(ids)
        return processor(input_ids, torch.from_numpy(scores.copy())).numpy()

    return run


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("penalty", [0.5, 1.3, 4.0])
def test_penalize_repetition(
    processed: Callable[..., np.ndarray], shape: tuple[int, int], penalty: float
) -> None:
    scores = random_scores(shape)
    ids = np.random.default_rng(1).integers(0, shape[1], (shape[0], 9))
    expected = processed("RepetitionPenaltyLogitsProcessor", scores, ids, penalty=penalty)
    before = scores.copy()
    np.testing.assert_array_equal(sampling.penalize_repetition(scores, ids, penalty), expected)
    np.testing.assert_array_equal(scores, before)


def test_suppress_tokens(processed: Callable[..., np.ndarray]) -> None:
    scores = random_scores((3, 64))
    ids = np.zeros((3, 5), np.int64)
    expected = processed(
        "MinNewTokensLengthLogitsProcessor",
        scores,
        ids,
        prompt_length_to_skip=4,
        min_new_tokens=2,
        eos_token_id=[3, 60],
    )
    answer = sampling.suppress_tokens(scores, [3, 60, 64, 10**6])
    np.testing.assert_array_equal(answer, expected)
    np.testing.assert_array_equal(sampling.suppress_tokens(scores, []), scores)
    assert answer.dtype == np.float32


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("temperature", [1e-6, 0.1, 0.7, 2.5])
def test_apply_temperature(
    processed: Callable[..., np.ndarray], shape: tuple[int, int], temperature: float
) -> None:
    scores = random_scores(shape)
    expected = processed("TemperatureLogitsWarper", scores, temperature=temperature)
    np.testing.assert_allclose(sampling.apply_temperature(scores, temperature), expected, rtol=1e-6)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("k", [1, 2, 50, 5000])
def test_keep_top_k(processed: Callable[..., np.ndarray], shape: tuple[int, int], k: int) -> None:
    scores = np.round(random_scores(shape), 1)  # ties
    expected = processed("TopKLogitsWarper", scores, top_k=k)
    np.testing.assert_array_equal(sampling.keep_top_k(scores, k), expected)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("p", [0.0, 0.1, 0.5, 0.9, 0.999, 1.0])
def test_keep_top_p(processed: Callable[..., np.ndarray], shape: tuple[int, int], p: float) -> None:
    scores = random_scores(shape)
    expected = processed("TopPLogitsWarper", scores, top_p=p)
    answer = sampling.keep_top_p(scores, p)
    np.testing.assert_array_equal(answer, expected)
    assert np.isfinite(answer).any(axis=1).all()


def test_keep_top_p_after_top_k(processed: Callable[..., np.ndarray]) -> None:
    scores = random_scores((4, 300))
    expected = processed(
        "TopPLogitsWarper", processed("TopKLogitsWarper", scores, top_k=9), top_p=0.6
    )
    np.testing.assert_array_equal(
        sampling.keep_top_p(sampling.keep_top_k(scores, 9), 0.6), expected
    )


def test_samples_follow_the_distribution() -> None:
    scores = np.array([[1.0, -np.inf, 0.0, 2.0, -np.inf]], np.float32)
    generator = np.random.default_rng(3)
    count = 20_000
    samples = sampling.sample(np.repeat(scores, count, axis=0), [generator] * count)
    frequency = np.bincount(samples, minlength=5) / count
    # Four standard errors of the most uncertain frequency.
    np.testing.assert_allclose(frequency, softmax(scores[0]), atol=4 * np.sqrt(0.25 / count))
    assert frequency[1] == frequency[4] == 0


@pytest.mark.parametrize("random", [0.0, 0.5, 1 - 2**-53])
def test_tokens_with_probability_0_are_never_sampled(random: float) -> None:
    class Fixed:
        def random(self) -> float:
            return random

    scores = np.full((2, 9), -np.inf, np.float32)
    scores[0, [2, 5, 6]] = 0
    scores[1, 4] = -50
    tokens = sampling.sample(scores, [Fixed(), Fixed()])  # type: ignore[list-item]
    assert tokens[0] in (2, 5, 6)
    assert tokens[1] == 4


def test_samples_are_repeatable_and_independent_of_other_sequences() -> None:
    scores = random_scores((4, 50))
    together = sampling.sample(scores, [np.random.default_rng(i) for i in range(4)])
    assert together.dtype == np.int64
    for i in range(4):
        alone = sampling.sample(scores[i : i + 1], [np.random.default_rng(i)])
        assert alone[0] == together[i]
