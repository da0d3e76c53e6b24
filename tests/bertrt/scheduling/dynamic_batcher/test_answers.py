"""The batcher's answers equal the runtime's, whatever an input is merged with."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bertrt

TEXTS = [
    "the cat sat on the mat",
    "plants create oxygen and sugar from light through a process known as photosynthesis",
    "a good film",
    "john smith works in new york",
    "it is",
    "the dog and the cat and the cat and the dog sat on the mat by the river in paris",
]


def close_to(expected: Any) -> Any:
    """Return `expected` with every float compared within 1e-5."""
    if isinstance(expected, dict):
        return {name: close_to(value) for name, value in expected.items()}
    if isinstance(expected, list):
        return [close_to(value) for value in expected]
    return pytest.approx(expected, abs=1e-5) if isinstance(expected, float) else expected


# Class names, and calls with different options and lengths, each as (inputs, options).
HEADS: list[tuple[str, list[tuple[tuple[Any, ...], dict[str, Any]]]]] = [
    (
        "BertForSequenceClassification",
        [
            *(((text,), {}) for text in TEXTS),
            (("a bad film",), {"top_k": None}),
            (("a bad film", "it is good"), {"top_k": 2, "function_to_apply": "sigmoid"}),
            (({"text": "the sun"},), {}),
            ((["the sun"],), {}),
            (("the sun is light",), {"candidate_labels": ["film", "science", "light"]}),
        ],
    ),
    (
        "BertForMaskedLM",
        [
            (("the [MASK] sat",), {}),
            (("the [MASK] sat on the [MASK] and the dog",), {"top_k": 2}),
            (("paris is the [MASK]",), {"targets": ["city", "cat"]}),
        ],
    ),
    (
        "BertForTokenClassification",
        [
            ((TEXTS[3],), {}),
            ((TEXTS[3],), {"aggregation_strategy": "simple"}),
            ((" ".join(TEXTS),), {"aggregation_strategy": "first", "stride": 8, "max_length": 32}),
            ((["john", "smith"],), {"is_split_into_words": True}),
        ],
    ),
    (
        "BertForQuestionAnswering",
        [
            ((), {"question": "who works", "context": " ".join(TEXTS * 3), "max_seq_len": 40}),
            ((), {"question": "what", "context": "a cat", "top_k": 3}),
            (({"question": "where is paris", "context": TEXTS[5]},), {}),
        ],
    ),
    (
        "BertForMultipleChoice",
        [(("the cat",), {"choices": ["sat", "on the mat by the river", "is"]}) for _ in range(3)],
    ),
    ("BertForNextSentencePrediction", [((text, "it is good"), {}) for text in TEXTS]),
    (
        "BertForPreTraining",
        [(("the [MASK] sat",), {"top_k": 1}), (("the [MASK]", "it is"), {}), (("the sun",), {})],
    ),
    (
        "BertLMHeadModel",
        [
            (("the cat",), {"next_tokens": 3}),
            (("the dog is",), {"next_tokens": 2}),
            (("the cat",), {"max_new_tokens": 4, "do_sample": False}),
            (("the dog",), {"max_new_tokens": 4, "seed": 1, "num_return_sequences": 2}),
        ],
    ),
    ("BertModel", [((text,), {}) for text in TEXTS]),
]


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize(("class_name", "calls"), HEADS, ids=[name for name, _ in HEADS])
def test_every_head_answers_as_the_runtime_does(
    make_artifact: Callable[..., Path], class_name: str, calls: Any, workers: int
) -> None:
    with bertrt.load(make_artifact(class_name), threads=workers) as rt:
        expected = [close_to(rt(*inputs, **options)) for inputs, options in calls]
        with rt.batcher(workers=workers) as batcher:
            futures = [batcher.submit(*inputs, **options) for inputs, options in calls * 3]
            answers = [future.result(60) for future in futures]
            assert batcher(*calls[0][0], **calls[0][1]) == expected[0]
    assert answers == expected * 3


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"pooling": "cls"},
        {"pooling": "max", "normalize": False},
        {"pooling": "pooler", "dimensions": 7},
    ],
)
def test_vectors_equal_those_of_embed(
    load_artifact: Callable[..., Any], options: dict[str, Any]
) -> None:
    rt = load_artifact("BertModel")
    expected = rt.embed(TEXTS, **options)
    with rt.batcher() as batcher:
        futures = [batcher.submit_embed(text, **options) for text in TEXTS]
        for future, vector in zip(futures, expected, strict=True):
            answer = future.result(60)
            assert answer.base is None  # a view would keep the whole batch in memory
            np.testing.assert_allclose(answer, vector, atol=1e-5)
        np.testing.assert_allclose(batcher.embed([TEXTS[0]], **options), expected[:1], atol=1e-5)
        np.testing.assert_allclose(
            asyncio.run(batcher.aembed(TEXTS[1], **options)), expected[1], atol=1e-5
        )
    np.testing.assert_allclose(asyncio.run(rt.aembed(TEXTS[1], **options)), expected[1], atol=1e-5)


def test_waiting_requests_are_merged_and_an_idle_batcher_answers_at_once(
    rt: Any, batches: Any
) -> None:
    with rt.batcher() as batcher:
        for text in ("a cat", "it is", "a film"):
            batcher(text)
        assert batches.lengths == [[4], [4], [4]]
        first = batches.pause(batcher)
        futures = [batcher.submit("a cat") for _ in range(5)]
        futures += [batcher.submit(TEXTS[5])]
        assert not any(future.done() for future in (first, *futures))
        batches.resume()
        assert len({str(future.result(60)) for future in futures[:5]}) == 1
    assert batches.lengths[4:] == [[4] * 5, [22]]


def test_batches_keep_to_max_batch_tokens(rt: Any, batches: Any) -> None:
    with rt.batcher(max_batch_tokens=12) as batcher:
        batches.pause(batcher)
        for _ in range(4):
            batcher.submit("a cat")
        batches.resume()
    assert batches.lengths[1:] == [[4] * 3, [4]]


def test_many_threads(rt: Any) -> None:
    expected = [close_to(rt(text)) for text in TEXTS]
    with rt.batcher() as batcher, ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda i: batcher(TEXTS[i % 6]), range(600)))
    assert answers == expected * 100


def test_asyncio_on_several_loops(rt: Any) -> None:
    expected = [close_to(rt(text)) for text in TEXTS]

    async def answer_all() -> list[Any]:
        return await asyncio.gather(*(rt.acall(text) for text in TEXTS * 20))

    with ThreadPoolExecutor(3) as pool:
        for answers in pool.map(lambda _: asyncio.run(answer_all()), range(3)):
            assert answers == expected * 20
