"""A list of inputs that is one request gets the answers of the runtime, whatever runs beside it."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bertrt
from bertrt import Answered, InputError, TokenIds

TEXTS = [
    "the cat sat on the mat",
    "plants create oxygen and sugar from light through a process known as photosynthesis",
    "a good film",
    "john smith works in new york",
    "it is",
    "the dog and the cat and the cat and the dog sat on the mat by the river in paris",
]
LONG = " ".join(TEXTS * 3)


def close_to(expected: Any) -> Any:
    """Return `expected` with every float compared within 1e-5."""
    if isinstance(expected, dict):
        return {name: close_to(value) for name, value in expected.items()}
    if isinstance(expected, list):
        return [close_to(value) for value in expected]
    return pytest.approx(expected, abs=1e-5) if isinstance(expected, float) else expected


QUESTIONS = [
    {"question": "who works", "context": LONG},
    {"question": "what", "context": "a cat"},
]
CHOICES = [{"prompt": "the cat", "choices": ["sat", "is"]}, {"prompt": "a", "choices": ["film"]}]
PAIRS = [(text, other) for text in TEXTS[:3] for other in ("a cat", LONG)]

# Class names, and lists with their options.
HEADS: dict[str, list[tuple[list[Any], dict[str, Any]]]] = {
    "BertForSequenceClassification": [
        (TEXTS, {}),
        ([*TEXTS, ("a bad film", "it is"), {"text": "the sun"}], {"top_k": None}),
        (["the sun"], {}),
        (TEXTS[:3], {"candidate_labels": ["film", "science"], "multi_label": True}),
        ([LONG, "a cat"], {"truncation": True}),
    ],
    "BertForMaskedLM": [
        (["the [MASK] sat", "the [MASK] sat on the [MASK] and"], {"top_k": 2}),
        (["paris is the [MASK]"], {"targets": ["city", "cat"]}),
    ],
    "BertForTokenClassification": [
        (TEXTS, {}),
        ([LONG, "a cat"], {"aggregation_strategy": "first", "stride": 8, "max_length": 32}),
        ([["john", "smith"], ["it", "is"]], {"is_split_into_words": True}),
        (["john", "smith"], {"is_split_into_words": True}),
    ],
    "BertForQuestionAnswering": [
        (QUESTIONS, {"max_seq_len": 40, "doc_stride": 4}),
        (QUESTIONS[1:], {"top_k": 3}),
    ],
    "BertForMultipleChoice": [(CHOICES, {}), (["a", "the dog"], {"choices": ["sat", "is"]})],
    "BertForNextSentencePrediction": [([(text, "it is good") for text in TEXTS], {})],
    "BertForPreTraining": [(["the [MASK] sat", ("the [MASK]", "it is"), "the sun"], {})],
    "BertLMHeadModel": [
        (["the cat", "the dog is"], {"next_tokens": 3}),
        (["the cat", "a dog", "it"], {"max_new_tokens": 4, "do_sample": False}),
        (["the cat", "a dog"], {"max_new_tokens": 4, "seed": 1, "num_return_sequences": 2}),
    ],
    "BertModel": [(TEXTS, {}), (TEXTS[:1], {})],
}


@pytest.mark.parametrize("class_name", HEADS)
def test_every_head_answers_lists_as_the_runtime_does(
    make_artifact: Callable[..., Path], class_name: str
) -> None:
    calls = HEADS[class_name]

    async def ask(batcher: Any) -> list[Answered]:
        many = [batcher.amany("call", inputs, **options) for inputs, options in calls * 3]
        return await asyncio.gather(*many)

    with bertrt.load(make_artifact(class_name), threads=2) as rt:
        expected = [close_to(rt(inputs, **options)) for inputs, options in calls]
        with rt.batcher() as batcher, ThreadPoolExecutor(1) as pool:
            awaited = pool.submit(lambda: asyncio.run(ask(batcher)))
            futures = [batcher.submit_many("call", i, **options) for i, options in calls * 3]
            answers = [future.result(60).answers for future in futures]
            assert [answered.answers for answered in awaited.result(60)] == expected * 3
    assert answers == expected * 3


RANGES = np.array([[-1.0] * 32, [1.0] * 32], np.float32)
IDS = [TokenIds([2, 7, 8, 3]), TokenIds([9])]


@pytest.mark.parametrize(
    ("inputs", "options"),
    [
        (TEXTS, {}),
        (TEXTS[:1], {"pooling": "cls"}),
        (TEXTS, {"pooling": ["max", "pooler"], "normalize": False, "dimensions": 7}),
        (TEXTS, {"prompt": "the cat and "}),
        ([*TEXTS, *IDS], {"prompt": "the cat and "}),
        (IDS, {"pooling": "mean"}),
        ([("the cat", "the dog"), *TEXTS], {"precision": "int8"}),
        (TEXTS, {"precision": "uint8", "ranges": RANGES}),
        (TEXTS, {"precision": "binary"}),
        ([LONG, *TEXTS], {"truncation": True}),
    ],
)
def test_vectors_of_a_list_equal_those_of_embed(
    load_artifact: Callable[..., Any], inputs: list[Any], options: dict[str, Any]
) -> None:
    rt = load_artifact("BertModel")
    expected = rt.embed(inputs, **options)
    with rt.batcher() as batcher:
        # Others in the same batches must not matter, nor their ranges.
        others = [batcher.submit_many("embed", TEXTS[::-1], precision="int8") for _ in range(3)]
        futures = [batcher.submit_many("embed", inputs, **options) for _ in range(3)]
        answers = [future.result(60).answers for future in futures]
        answers += [asyncio.run(batcher.amany("embed", inputs, **options)).answers]
        assert all(other.result(60).answers.dtype == np.int8 for other in others)
    # Another batch may round a sum otherwise, and so a byte, or a bit of a number next to zero.
    atol = 1e-5 if expected.dtype == np.float32 else 1
    for vectors in answers:
        assert (vectors.dtype, vectors.shape) == (expected.dtype, expected.shape)
        if options.get("precision") == "binary":
            differing = np.unpackbits((vectors ^ expected).view(np.uint8)).sum()
            assert differing <= 2
        else:
            np.testing.assert_allclose(
                vectors.astype(np.float64), expected.astype(np.float64), atol=atol
            )


def test_token_ids_have_the_vector_of_their_text(load_artifact: Callable[..., Any]) -> None:
    rt = load_artifact("BertModel")
    texts = TEXTS[:3]
    ids = [TokenIds(rt.tokenizer.encode(text).ids) for text in texts]
    expected = rt.embed(texts)
    np.testing.assert_allclose(rt.embed(ids), expected, atol=1e-6)
    np.testing.assert_allclose(rt.embed([texts[0], *ids[1:]]), expected, atol=1e-6)
    np.testing.assert_allclose(rt.embed(ids[1]), expected[1], atol=1e-5)
    np.testing.assert_allclose(list(rt.embed(iter(ids))), expected, atol=1e-5)
    # What follows the limit is cut, without a [SEP].
    cut = rt.embed(TokenIds([2, *[7] * 100]), truncation=True)
    np.testing.assert_allclose(cut, rt.embed(TokenIds([2, *[7] * 63])), atol=1e-5)
    with rt.batcher() as batcher:
        np.testing.assert_allclose(batcher.embed(ids[0]), expected[0], atol=1e-5)


@pytest.mark.parametrize("labels", [1, 3])
def test_scores_of_a_list_equal_those_of_score(
    load_artifact: Callable[..., Any], labels: int
) -> None:
    rt = load_artifact("BertForSequenceClassification", num_labels=labels)
    expected = rt.score(PAIRS)
    with rt.batcher() as batcher:
        answered = batcher.submit_many("score", PAIRS).result(60)
        assert (answered.answers.dtype, answered.answers.shape) == (np.float32, expected.shape)
        np.testing.assert_allclose(answered.answers, expected, atol=1e-5)
        assert answered.truncated == 3
        empty = batcher.submit_many("score", []).result(60)
        assert (empty.answers.shape, empty.tokens) == (rt.score([]).shape, 0)
        one = rt.score(PAIRS[0])
        for score in (
            batcher.score(PAIRS[0]),
            batcher.submit_score(PAIRS[0]).result(60),
            asyncio.run(batcher.ascore(PAIRS[0])),
        ):
            assert type(score) is type(one)
            np.testing.assert_allclose(score, one, atol=1e-5)


def test_what_a_request_took_is_told(load_artifact: Callable[..., Any]) -> None:
    rt = load_artifact("BertModel")
    inputs = [*TEXTS, LONG]
    lengths = [len(rt.tokenizer.encode(text, truncation=True)) for text in inputs]
    with rt.batcher() as batcher:
        answered = batcher.submit_many("embed", inputs, truncation=True).result(60)
        assert (answered.tokens, answered.truncated) == (sum(lengths), 1)
        assert answered.tokenization > 0
        assert answered.queue >= 0
        assert answered.inference > 0
        empty = batcher.submit_many("embed", [TokenIds([7] * 5)]).result(60)
        assert (empty.tokens, empty.truncated) == (5, 0)


def test_windows_labels_and_prompts_count_as_tokens(load_artifact: Callable[..., Any]) -> None:
    classifier = load_artifact("BertForSequenceClassification")
    encode = classifier.tokenizer.encode
    with classifier.batcher() as batcher:
        options = {"candidate_labels": ["film", "cat"], "hypothesis_template": "it is {}"}
        answered = batcher.submit_many("call", ["a cat", "it"], **options).result(60)
        pairs = [(text, f"it is {x}") for text in ("a cat", "it") for x in ("film", "cat")]
        assert answered.tokens == sum(len(encode(*pair)) for pair in pairs)
    generator = load_artifact("BertLMHeadModel")
    with generator.batcher() as batcher:
        answered = batcher.submit_many("call", ["the cat", "it"], max_new_tokens=2).result(60)
        assert answered.tokens == 4 + 3


def test_wrong_lists_are_refused(rt: Any, batches: Any) -> None:
    with rt.batcher(max_waiting=4, max_waiting_tokens=50) as batcher:
        for method, inputs, options, message in [
            ("call", [], {}, "list of texts is empty"),
            ("call", "a cat", {}, "inputs is 'a cat': give a list"),
            ("call", ["a cat", 3], {}, "an input is int"),
            ("call", ["a cat"], {"topk": 1}, "did you mean top_k"),
            ("call", ["a cat"], {"deadline": "soon"}, "deadline is 'soon'"),
            ("call", ["a cat", " ".join(["cat"] * 90)], {}, "the limit is 64"),
            ("embed", ["a cat"], {}, "embed needs an artifact for feature-extraction"),
            ("score", [("a", "b"), "c"], {}, "give"),
            (
                "rank",
                ["a cat"],
                {},
                "method is 'rank': use call, embed, embed_sparse, embed_tokens, maxsim, score",
            ),
            ("call", ["a cat"] * 5, {}, "has 5 texts, and this batcher holds 4"),
            ("call", [TEXTS[5]] * 3, {}, "has 66 tokens, and this batcher holds 50"),
            ("call", ["a", "b"], {"candidate_labels": ["c", "d", "e"]}, "has 6 texts"),
        ]:
            with pytest.raises(InputError, match=message):
                batcher.submit_many(method, inputs, **options)
            with pytest.raises(InputError, match=message):
                asyncio.run(batcher.amany(method, inputs, **options))
        assert (batcher.load.waiting_texts, batcher.load.waiting_tokens) == (0, 0)
    assert batches.lengths == []


def test_options_that_were_seen_before_are_still_checked(
    make_artifact: Callable[..., Path],
) -> None:
    """Parsed options are kept; True equals 1, and only one of them is an option."""
    with bertrt.load(make_artifact("BertModel"), threads=1) as rt, rt.batcher() as batcher:
        texts = TEXTS[:2]
        for options in ({"normalize": True}, {"normalize": False}, {"dimensions": 3}):
            for _ in range(2):
                answered = batcher.submit_many("embed", texts, **options).result()
                np.testing.assert_allclose(answered.answers, rt.embed(texts, **options), atol=1e-5)
        for wrong in ({"normalize": 1}, {"dimensions": 3.0}, {"pooling": [["mean"]]}):
            for _ in range(2):
                with pytest.raises(InputError):
                    batcher.submit_many("embed", texts, **wrong)
        # Another order, a list, and more kinds of options than are kept.
        ordered = [
            batcher.submit_many("embed", texts, **dict(pairs)).result().answers
            for options in [(("normalize", False), ("dimensions", 3))]
            for pairs in (options, options[::-1])
        ]
        np.testing.assert_allclose(ordered[0], ordered[1], atol=1e-5)
        pooled = batcher.submit_many("embed", texts, pooling=["mean", "max"]).result().answers
        np.testing.assert_allclose(pooled, rt.embed(texts, pooling=["mean", "max"]), atol=1e-5)
        for number in range(200):
            prompt = f"{number}: "
            answered = batcher.submit_many("embed", texts, prompt=prompt).result()
        np.testing.assert_allclose(answered.answers, rt.embed(texts, prompt=prompt), atol=1e-5)
