"""The decoding loop, on a stand-in for the graph that says what it was fed."""

from typing import Any

import numpy as np
import pytest

from bertrt.heads.decoding import generate

V = 50


class Counter:
    """A graph whose next token is the last one plus 1; with a cache it sees new tokens only."""

    def __init__(self, *, cached: bool) -> None:
        self.cached = cached
        self.feeds: list[dict[str, np.ndarray]] = []

    def __call__(self, **feeds: np.ndarray) -> dict[str, np.ndarray]:
        self.feeds.append(feeds)
        ids = feeds["input_ids"]
        outputs: dict[str, Any] = {"logits": np.eye(V, dtype=np.float32)[(ids + 1) % V]}
        if self.cached:
            new = ids[:, None, :, None].astype(np.float32)
            past = feeds.get("past_key_values.0.key", new[:, :, :0])
            outputs["present.0.key"] = np.concatenate([past, new], axis=2)
        return outputs


def best(scores: np.ndarray, ids: np.ndarray, rows: Any) -> np.ndarray:
    tokens: np.ndarray = scores.argmax(axis=1)
    return tokens


@pytest.mark.parametrize("cached", [True, False])
def test_rows_stop_each_at_its_own_end(cached: bool) -> None:
    run = Counter(cached=cached)
    prompts = np.array([[9, 3], [9, 1], [9, 30], [9, 5]])
    answer = generate(run, prompts, steps=4, stop=(4, 6, 99), choose=best)
    assert answer == [[4], [2, 3, 4], [31, 32, 33, 34], [6]]
    assert [len(feeds["input_ids"]) for feeds in run.feeds] == [4, 2, 2, 1]


def test_with_a_cache_only_new_tokens_are_read() -> None:
    run = Counter(cached=True)
    generate(run, np.array([[7, 8, 9], [1, 2, 3]]), steps=3, stop=(10,), choose=best)
    first, second, third = run.feeds
    assert first["input_ids"].tolist() == [[7, 8, 9], [1, 2, 3]]
    assert set(first) == {"input_ids", "attention_mask"}
    assert second["input_ids"].tolist() == [[4]]
    assert second["past_key_values.0.key"].ravel().tolist() == [1, 2, 3]
    assert third["input_ids"].tolist() == [[5]]
    assert third["past_key_values.0.key"].ravel().tolist() == [1, 2, 3, 4]
    assert third["attention_mask"].tolist() == [[1, 1, 1, 1, 1]]


def test_without_a_cache_everything_is_read() -> None:
    run = Counter(cached=False)
    generate(run, np.array([[7, 8]]), steps=3, stop=(), choose=best)
    assert [feeds["input_ids"].tolist()[0] for feeds in run.feeds] == [
        [7, 8],
        [7, 8, 9],
        [7, 8, 9, 10],
    ]


def test_the_chooser_is_told_what_is_left() -> None:
    seen = []

    def choose(scores: np.ndarray, ids: np.ndarray, rows: Any) -> np.ndarray:
        seen.append((ids.tolist(), list(rows)))
        return best(scores, ids, rows)

    generate(Counter(cached=True), np.array([[3], [7]]), steps=2, stop=(4,), choose=choose)
    assert seen == [([[3], [7]], [0, 1]), ([[7, 8]], [1])]
