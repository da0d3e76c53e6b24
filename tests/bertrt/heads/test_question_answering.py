"""question-answering, compared with transformers 4.57's pipeline, and its errors.

transformers 5 has no such pipeline, so most answers are golden ones, made with 4.57 by
tests/golden/make_question_answering.py. If 4.57 is installed, answers are compared with its own.
"""

import importlib.util
import json
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

import bertrt
from bertrt.errors import InputError

Agree = Callable[[Any, Any], None]
NAME = "BertForQuestionAnswering"
QUESTION, CONTEXT = "who lives in london", "Mary lives in London, by the river."
SCRIPT = Path(__file__).parents[2] / "golden" / "make_question_answering.py"
GOLDEN = {
    tokenizer: json.loads(SCRIPT.with_name(f"{name}.json").read_text(encoding="utf-8"))
    for tokenizer, name in (
        ("WordPiece", "question_answering"),
        ("byte-level", "question_answering_byte_level"),
    )
}

needs_pipeline = pytest.mark.skipif(
    importlib.util.find_spec("transformers") is None
    or int(version("transformers").split(".")[0]) >= 5,
    reason="transformers is missing, or 5, which has no question-answering pipeline",
)


@pytest.fixture(scope="module")
def rt(load_artifact: Callable[..., Any]) -> Any:
    return load_artifact(NAME)


@pytest.fixture(scope="module")
def golden_rt(made_once: Callable[..., Path]) -> Iterator[Callable[[str], Any]]:
    """A factory: a tokenizer to an artifact of the checkpoint that gave the golden answers."""
    opened: dict[str, Any] = {}

    def load(tokenizer: str) -> Any:
        if tokenizer not in opened:
            folder = made_once(
                "golden", (NAME, tokenizer), lambda folder: _export_golden(folder, tokenizer)
            )
            opened[tokenizer] = bertrt.load(folder / "out")
        return opened[tokenizer]

    yield load
    for runtime in opened.values():
        runtime.close()


def _export_golden(folder: Path, tokenizer: str) -> None:
    from bertrt.export import export

    spec = importlib.util.spec_from_file_location(SCRIPT.stem, SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    folder.mkdir()
    script.write_checkpoint(folder, tokenizer)
    export(folder, folder / "out")


@pytest.mark.parametrize(
    ("tokenizer", "case"),
    [(tokenizer, case) for tokenizer, golden in GOLDEN.items() for case in golden["cases"]],
    ids=lambda value: (
        value
        if isinstance(value, str)
        else f"{value['context']}, {value['question']} {value['options'] or ''}"
    ),
)
def test_golden(
    golden_rt: Callable[[str], Any], agree: Agree, tokenizer: str, case: dict[str, Any]
) -> None:
    context, rt = GOLDEN[tokenizer]["contexts"][case["context"]], golden_rt(tokenizer)
    agree(rt(question=case["question"], context=context, **case["options"]), case["answer"])


def test_golden_covers_the_options() -> None:
    cases = GOLDEN["WordPiece"]["cases"]
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
    # 4.57 fails in NumPy with three answers in four tokens.
    contexts = [text for text in texts if text.strip()] + [" ".join(texts)]
    for question in ("what", "who is [CLS] in 中国?"):
        expected = [pipe(question=question, context=text, **options) for text in contexts]
        agree(rt(question=[question] * len(contexts), context=contexts, **options), expected)
        agree([rt(question, text, **options) for text in contexts], expected)


def test_answers_are_parts_of_the_context(rt: Any, texts: list[str]) -> None:
    texts = [text for text in texts if text]
    answers_by_text = rt(question=["who"] * len(texts), context=texts, top_k=3)
    for text, answers in zip(texts, answers_by_text, strict=True):
        for answer in answers if isinstance(answers, list) else [answers]:
            assert answer["answer"] == text[answer["start"] : answer["end"]]
            assert 0 <= answer["score"] <= 1.0001


def test_windows_equal_those_of_transformers(
    rt: Any, make_checkpoint: Callable[..., Path], texts: list[str]
) -> None:
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(make_checkpoint(NAME))
    head = rt._calls.head
    for options, length, stride in [
        ({}, 64, 32),
        ({"max_seq_len": 20}, 20, 10),
        ({"max_seq_len": 31, "doc_stride": 0}, 31, 0),
        ({"doc_stride": 56}, 64, 56),
    ]:
        for context in [*texts[:5], "   \n", " ".join(texts)]:
            inputs, _ = head.read_inputs("who is it", context or "a")
            windows = head.prepare(inputs[0], head.parse_options(options)).encodings
            expected = tokenizer(
                "who is it",
                context or "a",
                truncation="only_second",
                max_length=length,
                stride=stride,
                return_overflowing_tokens=True,
                return_offsets_mapping=True,
            )
            assert [window.ids for window in windows] == expected["input_ids"]
            assert [window.type_ids for window in windows] == expected["token_type_ids"]
            assert [window.offsets for window in windows] == expected["offset_mapping"]
            for i, window in enumerate(windows):
                assert window.sequence_ids == expected.sequence_ids(i)


def test_forms_of_input(rt: Any) -> None:
    first = {"question": QUESTION, "context": CONTEXT}
    second = {"question": "where", "context": "the cat sat on the mat"}
    first_answer, second_answer = rt(**first), rt(**second)
    assert first_answer != second_answer
    assert rt(first) == rt(QUESTION, CONTEXT) == first_answer
    assert rt([first]) == rt(question=[QUESTION], context=CONTEXT) == [first_answer]
    assert rt([first, second, first]) == [first_answer, second_answer, first_answer]
    both = {name: [first[name], second[name]] for name in first}
    assert rt(**both) == [first_answer, second_answer]
    assert rt(question=[QUESTION, "where"], context=CONTEXT)[0] == first_answer
    assert list(rt(iter([first, second]))) == [first_answer, second_answer]
    assert json.loads(json.dumps(first_answer)) == first_answer


def test_one_answer_is_a_dict_and_several_are_a_list(rt: Any) -> None:
    assert isinstance(rt(QUESTION, CONTEXT, top_k=1), dict)
    answers = rt(QUESTION, CONTEXT, top_k=3)
    assert len(answers) == 3
    scores = [answer["score"] for answer in answers]
    assert scores == sorted(scores, reverse=True)


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
        ((QUESTION, CONTEXT), {"truncation": True}, "does not take truncation:"),
        ((QUESTION, CONTEXT), {"max_length": 9}, "does not take max_length:"),
        ((QUESTION, CONTEXT), {"truncation_side": "left"}, "does not take truncation_side:"),
        ((QUESTION, CONTEXT), {"topk": 3}, "did you mean top_k"),
    ],
)
def test_refuses(rt: Any, args: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        rt(*args, **options)


def test_all_windows_have_one_token_type(load_artifact: Callable[..., Any]) -> None:
    """A model with one token type answers about a context of several windows."""
    rt = load_artifact("BertForQuestionAnswering", type_vocab_size=1)
    options = {"max_seq_len": 24, "doc_stride": 4}
    answer = rt(question="who is mary ?", context="the cat sat in paris . " * 20, **options)
    assert 0 <= answer["start"] < answer["end"]
