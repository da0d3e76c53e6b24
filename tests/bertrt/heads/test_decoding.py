"""The decoding loop, with a fake graph that records its inputs."""

from typing import Any

import numpy as np
import pytest

from bertrt.heads.decoding import generate

V = 50


class CountingGraph:
    """A fake graph that predicts the last token plus 1; with a cache it gets new tokens only."""

    def __init__(self, *, cached: bool) -> None:
        self.cached = cached
        self.calls: list[dict[str, np.ndarray]] = []

    def __call__(self, **inputs: np.ndarray) -> dict[str, np.ndarray]:
        self.calls.append(inputs)
        ids = inputs["input_ids"]
        outputs: dict[str, Any] = {"logits": np.eye(V, dtype=np.float32)[(ids + 1) % V]}
        if self.cached:
            new = ids[:, None, :, None].astype(np.float32)
            past = inputs.get("past_key_values.0.key", new[:, :, :0])
            outputs["present.0.key"] = np.concatenate([past, new], axis=2)
        return outputs


def greedy(scores: np.ndarray, ids: np.ndarray, active: Any) -> np.ndarray:
    tokens: np.ndarray = scores.argmax(axis=1)
    return tokens


@pytest.mark.parametrize("cached", [True, False])
def test_each_prompt_ends_at_its_own_stop_token(cached: bool) -> None:
    run = CountingGraph(cached=cached)
    prompts = np.array([[9, 3], [9, 1], [9, 30], [9, 5]])
    answer = generate(run, prompts, max_new_tokens=4, stop_tokens=(4, 6, 99), choose=greedy)
    assert answer == [[4], [2, 3, 4], [31, 32, 33, 34], [6]]
    assert [len(inputs["input_ids"]) for inputs in run.calls] == [4, 2, 2, 1]


def test_with_a_cache_only_new_tokens_run() -> None:
    run = CountingGraph(cached=True)
    generate(
        run, np.array([[7, 8, 9], [1, 2, 3]]), max_new_tokens=3, stop_tokens=(10,), choose=greedy
    )
    first, second, third = run.calls
    assert first["input_ids"].tolist() == [[7, 8, 9], [1, 2, 3]]
    assert set(first) == {"input_ids", "attention_mask"}
    assert second["input_ids"].tolist() == [[4]]
    assert second["past_key_values.0.key"].ravel().tolist() == [1, 2, 3]
    assert third["input_ids"].tolist() == [[5]]
    assert third["past_key_values.0.key"].ravel().tolist() == [1, 2, 3, 4]
    assert third["attention_mask"].tolist() == [[1, 1, 1, 1, 1]]


def test_a_token_that_positions_do_not_count_needs_all_tokens() -> None:
    """A text with it runs without the cache from there on, and so do those in its batch."""
    run = CountingGraph(cached=True)
    options: dict[str, Any] = {"max_new_tokens": 4, "stop_tokens": (6,), "choose": greedy}
    answer = generate(run, np.array([[1, 2], [9, 3]]), uncounted_token=4, **options)
    assert answer == [[3, 4, 5, 6], [4, 5, 6]]
    assert [inputs["input_ids"].tolist() for inputs in run.calls] == [
        [[1, 2], [9, 3]],
        [[1, 2, 3], [9, 3, 4]],
        [[1, 2, 3, 4], [9, 3, 4, 5]],
        [[1, 2, 3, 4, 5]],
    ]
    assert not any("past_key_values.0.key" in inputs for inputs in run.calls)


def test_without_a_cache_all_tokens_run() -> None:
    run = CountingGraph(cached=False)
    generate(run, np.array([[7, 8]]), max_new_tokens=3, stop_tokens=(), choose=greedy)
    assert [inputs["input_ids"].tolist()[0] for inputs in run.calls] == [
        [7, 8],
        [7, 8, 9],
        [7, 8, 9, 10],
    ]


def test_choose_gets_the_indices_of_unfinished_prompts() -> None:
    seen = []

    def choose(scores: np.ndarray, ids: np.ndarray, active: Any) -> np.ndarray:
        seen.append((ids.tolist(), list(active)))
        return greedy(scores, ids, active)

    generate(
        CountingGraph(cached=True),
        np.array([[3], [7]]),
        max_new_tokens=2,
        stop_tokens=(4,),
        choose=choose,
    )
    assert seen == [([[3], [7]], [0, 1]), ([[7, 8]], [1])]
