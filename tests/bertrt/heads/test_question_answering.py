"""question-answering: the answers of transformers 4.57's pipeline, and what is refused.

transformers 5 has no such pipeline, so most answers are golden ones, made with 4.57 by
tests/golden/make_question_answering.py. With 4.57 installed they are compared with its own.
"""

import importlib.util
import json
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bertrt
from bertrt.errors import InputError
from bertrt.heads.spans import best_spans, probabilities

Agree = Callable[[Any, Any], None]
NAME = "BertForQuestionAnswering"
QUESTION, CONTEXT = "who lives in london", "Mary lives in London, by the river."
SCRIPT = Path(__file__).parents[2] / "golden" / "make_question_answering.py"
GOLDEN = json.loads(SCRIPT.with_name("question_answering.json").read_text(encoding="utf-8"))

needs_pipeline = pytest.mark.skipif(
    int(version("transformers").split(".")[0]) >= 5,
    reason="transformers 5 has no question-answering pipeline",
)


@pytest.fixture(scope="module")
def rt(load_artifact: Callable[..., Any]) -> Any:
    return load_artifact(NAME)


@pytest.fixture(scope="module")
def golden_rt(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The checkpoint that the golden answers are of, exported."""
    from bertrt.export import export

    spec = importlib.util.spec_from_file_location(SCRIPT.stem, SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    folder = tmp_path_factory.mktemp("golden")
    script.write_checkpoint(folder)
    export(folder, folder / "out")
    with bertrt.load(folder / "out") as opened:
        yield opened


@pytest.mark.parametrize(
    "case",
    GOLDEN["cases"],
    ids=lambda case: f"{case['context']}, {case['question']} {case['options'] or ''}",
)
def test_golden(golden_rt: Any, agree: Agree, case: dict[str, Any]) -> None:
    context = GOLDEN["contexts"][case["context"]]
    agree(golden_rt(question=case["question"], context=context, **case["options"]), case["answer"])


def test_golden_covers_the_options() -> None:
    cases = GOLDEN["cases"]
    assert len(cases) >= 40
    used = {name for case in cases for name in case["options"]}
    assert used == {
        "top_k",
        "doc_stride",
        "max_answer_len",
        "max_seq_len",
        "handle_impossible_answer",
        "align_to_words",
    }
    lists = [case["answer"] for case in cases if isinstance(case["answer"], list)]
    assert any(answer["answer"] == "" for answers in lists for answer in answers)


@needs_pipeline
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"top_k": 3},
        {"top_k": 12, "align_to_words": False},
        {"top_k": 4, "handle_impossible_answer": True},
        {"top_k": 2, "max_answer_len": 1},
        {"top_k": 4, "max_seq_len": 30, "doc_stride": 7},
        {"max_question_len": 1},
    ],
    ids=str,
)
def test_every_text(
    rt: Any,
    pipeline_of: Callable[..., Any],
    agree: Agree,
    texts: list[str],
    options: dict[str, Any],
) -> None:
    pipe = pipeline_of("question-answering", NAME)
    # With three answers asked of four tokens, 4.57 fails in NumPy.
    contexts = [text for text in texts if text.strip()] + [" ".join(texts)]
    for question in ("what", "who is [CLS] in 中国?"):
        expected = [pipe(question=question, context=text, **options) for text in contexts]
        agree(rt(question=[question] * len(contexts), context=contexts, **options), expected)
        agree([rt(question, text, **options) for text in contexts], expected)


def test_every_text_is_answered_with_a_part_of_it(rt: Any, texts: list[str]) -> None:
    texts = [text for text in texts if text]
    found = rt(question=["who"] * len(texts), context=texts, top_k=3)
    for text, answers in zip(texts, found, strict=True):
        for answer in answers if isinstance(answers, list) else [answers]:
            assert answer["answer"] == text[answer["start"] : answer["end"]]
            assert 0 <= answer["score"] <= 1.0001


def test_windows_are_those_of_transformers(
    rt: Any, make_checkpoint: Callable[..., Path], texts: list[str]
) -> None:
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(make_checkpoint(NAME))
    head = rt._calls.head
    for given, length, stride in [
        ({}, 64, 32),
        ({"max_seq_len": 20}, 20, 10),
        ({"max_seq_len": 31, "doc_stride": 0}, 31, 0),
        ({"doc_stride": 56}, 64, 56),
    ]:
        for context in [*texts[:5], "   \n", " ".join(texts)]:
            parts, _ = head.read_inputs("who is it", context or "a")
            windows = head.prepare(parts[0], head.parse_options(given)).encodings
            expected = tokenizer(
                "who is it",
                context or "a",
                truncation="only_second",
                max_length=length,
                stride=stride,
                return_overflowing_tokens=True,
                return_offsets_mapping=True,
            )
            assert [one.ids for one in windows] == expected["input_ids"]
            assert [one.type_ids for one in windows] == expected["token_type_ids"]
            assert [one.offsets for one in windows] == expected["offset_mapping"]
            for i, one in enumerate(windows):
                assert one.sequence_ids == expected.sequence_ids(i)


def test_forms_of_input(rt: Any) -> None:
    one = {"question": QUESTION, "context": CONTEXT}
    other = {"question": "where", "context": "the cat sat on the mat"}
    alone, second = rt(**one), rt(**other)
    assert alone != second
    assert rt(one) == rt(QUESTION, CONTEXT) == alone
    assert rt([one]) == rt(question=[QUESTION], context=CONTEXT) == [alone]
    assert rt([one, other, one]) == [alone, second, alone]
    both = {name: [one[name], other[name]] for name in one}
    assert rt(**both) == [alone, second]
    assert rt(question=[QUESTION, "where"], context=CONTEXT)[0] == alone
    assert list(rt(iter([one, other]))) == [alone, second]
    assert json.loads(json.dumps(alone)) == alone


def test_one_answer_is_no_list_and_more_are(rt: Any) -> None:
    assert isinstance(rt(QUESTION, CONTEXT, top_k=1), dict)
    answers = rt(QUESTION, CONTEXT, top_k=3)
    assert len(answers) == 3
    assert [one["score"] for one in answers] == sorted((a["score"] for a in answers), reverse=True)


def test_a_long_question_is_answered_when_the_context_fits(rt: Any) -> None:
    question = "a " * 50
    assert rt(question, "b c")["answer"] in "b c"
    assert rt(question, "b " * 40, doc_stride=2)["answer"]
    with pytest.raises(InputError, match=r"room for 11 tokens .* of 64, and doc_stride is 32"):
        rt(question, "b " * 40)
    with pytest.raises(InputError, match="room for 0 tokens"):
        rt("a " * 61, "b")
    with pytest.raises(InputError, match="room for 0 tokens"):
        rt("a " * 100, "b")


def test_a_context_without_tokens_has_no_answer(rt: Any) -> None:
    nothing = {"score": 0.0, "start": 0, "end": 0, "answer": ""}
    assert rt(QUESTION, " ") == nothing
    assert rt("what", "\t\n", top_k=3) == nothing  # 4.57 fails in NumPy


def test_probabilities() -> None:
    rng = np.random.default_rng(0)
    start, end = rng.normal(0, 5, (2, 7)).astype(np.float32)
    allowed = np.array([True, False, False, True, True, True, False])
    starts, ends, null = probabilities(start, end, allowed)
    assert starts.dtype == ends.dtype == np.float32
    exact = np.exp(start[allowed].astype(np.float64))
    exact /= exact.sum()
    np.testing.assert_allclose(starts[allowed][1:], exact[1:], rtol=1e-5)
    assert not starts[~allowed].any()
    assert starts[0] == ends[0] == 0
    exact_end = np.exp(end[allowed].astype(np.float64))
    assert null == pytest.approx(exact[0] * exact_end[0] / exact_end.sum(), rel=1e-5)


@pytest.mark.parametrize("count", [1, 3, 24, 25, 60])
@pytest.mark.parametrize("longest", [1, 2, 15])
def test_best_spans(count: int, longest: int) -> None:
    rng = np.random.default_rng(1)
    starts, ends = rng.random((2, 5)).astype(np.float32)
    allowed = np.array([True, False, True, True, True])
    possible = [
        (s, e, starts[s] * ends[e]) for s in range(5) for e in range(s, min(5, s + longest))
    ]
    best = sorted(possible, key=lambda span: -span[2])[:count]
    expected = [span for span in best if allowed[span[0]] and allowed[span[1]]]
    found = [span for span in best_spans(starts, ends, allowed, count, longest) if span[2] > 0]
    assert [span[:2] for span in found] == [span[:2] for span in expected]
    np.testing.assert_allclose([s[2] for s in found], [s[2] for s in expected], rtol=1e-6)


@pytest.mark.parametrize(
    ("args", "options", "message"),
    [
        ((), {}, "got 0 inputs and no question"),
        ((), {"question": QUESTION}, "got 0 inputs and question: give"),
        ((CONTEXT,), {"question": QUESTION}, "got 1 inputs and question: give"),
        ((QUESTION,), {}, "an input is str"),
        ((QUESTION, CONTEXT, CONTEXT), {}, "got 3 inputs"),
        (({"question": QUESTION},), {}, "an input is dict"),
        (([(QUESTION, CONTEXT)],), {}, "an input is tuple"),
        (([],), {}, "list of questions is empty"),
        (([], CONTEXT), {}, "0 questions and 0 contexts"),
        (([QUESTION], [CONTEXT, CONTEXT]), {}, "1 questions and 2 contexts"),
        ((QUESTION, [CONTEXT]), {}, r"context is \['Mary"),
        ((QUESTION, None), {}, "context is None"),
        ((5, CONTEXT), {}, "question is 5"),
        (("", CONTEXT), {}, "question is empty"),
        ((QUESTION, ""), {}, "context is empty"),
        ((["a", ""], CONTEXT), {}, "question is empty"),
        ((QUESTION, "\ud800"), {}, "lone surrogate"),
        (("\ud800", CONTEXT), {}, "lone surrogate"),
        ((QUESTION, CONTEXT), {"top_k": 0}, "top_k is 0"),
        ((QUESTION, CONTEXT), {"max_answer_len": 0}, "max_answer_len is 0"),
        ((QUESTION, CONTEXT), {"max_answer_len": 1.5}, "max_answer_len is 1.5"),
        ((QUESTION, CONTEXT), {"max_question_len": "64"}, "max_question_len is '64'"),
        ((QUESTION, CONTEXT), {"doc_stride": -1}, "doc_stride is -1"),
        ((QUESTION, CONTEXT), {"doc_stride": 64}, "doc_stride is 64: give less than max_seq_len"),
        ((QUESTION, CONTEXT), {"max_seq_len": 0}, "max_seq_len is 0"),
        ((QUESTION, CONTEXT), {"max_seq_len": 65}, "max_seq_len is 65, .* at most 64"),
        ((QUESTION, CONTEXT), {"max_seq_len": 7}, "room for 0 tokens"),
        ((QUESTION, CONTEXT), {"max_seq_len": 2}, "room for 0 tokens"),
        ((QUESTION, CONTEXT), {"align_to_words": None}, "align_to_words is None"),
        ((QUESTION, CONTEXT), {"handle_impossible_answer": 1}, "handle_impossible_answer is 1"),
        ((QUESTION, CONTEXT), {"truncation": True}, "neither truncation nor max_length"),
        ((QUESTION, CONTEXT), {"max_length": 9}, "neither truncation nor max_length"),
        ((QUESTION, CONTEXT), {"topk": 3}, "did you mean top_k"),
    ],
)
def test_refuses(rt: Any, args: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        rt(*args, **options)
