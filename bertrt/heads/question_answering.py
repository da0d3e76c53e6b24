"""`question-answering` (BertForQuestionAnswering): the part of a context that answers a question.

Follows the QuestionAnsweringPipeline of transformers 4.57, the last version that has one. A
context of any length is read in windows, and probabilities are over each window separately.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bertrt.checks import check_flag, check_top_k, check_whole
from bertrt.errors import InputError, shorten
from bertrt.heads.base import Head, Options, Prepared
from bertrt.heads.request import Answer, SampleOutputs
from bertrt.heads.spans import best_spans, span_probabilities
from bertrt.tokenizer import Encoding

__all__ = ["QuestionAnswering", "QuestionAnsweringOptions", "answer_tokens"]


@dataclass(frozen=True, kw_only=True)
class QuestionAnsweringOptions(Options):
    """Options of question-answering.

    Attributes:
        top_k: the maximum number of answers.
        doc_stride: how many tokens consecutive windows share; when None 128, or half the window
            if that is less.
        max_answer_len: the maximum length of an answer in tokens.
        max_seq_len: the length of a window in tokens, including the question and special tokens;
            when None 384, or the model's length if that is less.
        max_question_len: without effect, as with transformers' fast tokenizers, which never
            truncate the question.
        handle_impossible_answer: whether the empty answer may be returned.
        align_to_words: whether to extend an answer to whole words.
    """

    top_k: int = 1
    doc_stride: int | None = None
    max_answer_len: int = 15
    max_seq_len: int | None = None
    max_question_len: int = 64
    handle_impossible_answer: bool = False
    align_to_words: bool = True

    def __post_init__(self) -> None:
        for name, default in (
            ("truncation", False),
            ("max_length", None),
            ("truncation_side", None),
        ):
            if getattr(self, name) is not default:
                raise InputError(
                    f"question-answering does not take {name}: it reads a context of any length in "
                    "windows of max_seq_len tokens"
                )
        check_top_k(self.top_k)
        check_whole("max_answer_len", self.max_answer_len, least=1)
        check_whole("max_question_len", self.max_question_len, least=1)
        if self.doc_stride is not None:
            check_whole("doc_stride", self.doc_stride, least=0)
        if self.max_seq_len is not None:
            check_whole("max_seq_len", self.max_seq_len, least=1)
        check_flag("handle_impossible_answer", self.handle_impossible_answer)
        check_flag("align_to_words", self.align_to_words)


@dataclass(frozen=True)
class Question:
    """A question, and the context to find its answer in."""

    question: str
    context: str


class QuestionAnswering(Head):
    """Finds the part of a context that answers a question.

    Input: a question and its context, strings that are not empty.
    Answer: `{"score", "start", "end", "answer"}`, or a list of them, best first, unless there is
    exactly one. `start` and `end` are positions of characters in the context.
    """

    task = "question-answering"
    options_class = QuestionAnsweringOptions
    input_names = ("question", "context")

    def read_inputs(self, *args: Any, **named: Any) -> tuple[list[Question], bool]:
        """Parse `question="Q", context="C"`, `"Q", "C"`, or `{"question": "Q", "context": "C"}`.

        Several questions: a list of such dicts, or a list of questions with one context or a list
        of as many contexts.
        """
        if len(args) == 2 and not named:
            named = {"question": args[0], "context": args[1]}
        elif len(args) == 1 and not named:
            if not isinstance(args[0], list):
                return [_parse_dict(args[0])], True
            if not args[0]:
                raise InputError("the list of questions is empty: give at least one")
            return [_parse_dict(value) for value in args[0]], False
        elif args or len(named) != 2:
            raise InputError(
                f"{self.task} got {len(args)} inputs and {' and '.join(named) or 'no question'}: "
                "give question=… and context=…"
            )
        questions, contexts = named["question"], named["context"]
        if not isinstance(questions, list):
            return [_make_question(questions, contexts)], True
        if not isinstance(contexts, list):
            contexts = [contexts] * len(questions)
        if not questions or len(questions) != len(contexts):
            raise InputError(
                f"there are {len(questions)} questions and {len(contexts)} contexts: give as many "
                "of each, or one context"
            )
        return [_make_question(*pair) for pair in zip(questions, contexts, strict=True)], False

    def prepare(self, input: Question, options: QuestionAnsweringOptions) -> Prepared:
        """Encode the question with each window of the context."""
        limit = self.tokenizer.max_length
        length = min(limit, 384) if options.max_seq_len is None else options.max_seq_len
        stride = min(length // 2, 128) if options.doc_stride is None else options.doc_stride
        if length > limit:
            raise InputError(
                f"max_seq_len is {length}, but this model reads at most {limit} tokens: lower it"
            )
        if stride >= length:
            raise InputError(
                f"doc_stride is {stride}: give less than max_seq_len, which is {length}"
            )
        question = self.tokenizer.encode_whole(input.question, special_tokens=False)
        room = length - len(question) - self.tokenizer.num_special_tokens_to_add(pair=True)
        if room > 0:
            # With a stride of `room` or more, windows would not advance; one may be enough though.
            first = self.tokenizer.encode(
                input.question,
                input.context,
                truncation="only_second",
                max_length=length,
                stride=min(stride, room - 1),
            )
            if room > stride or not first.overflowing:
                return Prepared([first, *first.overflowing], input.context, windows=True)
        raise InputError(
            f"the question leaves room for {max(room, 0)} tokens of the context in a window of "
            f"{length}, and doc_stride is {stride}: shorten the question, or give a smaller "
            "doc_stride or a larger max_seq_len"
        )

    def finish(
        self,
        prepared: Prepared,
        samples: Sequence[SampleOutputs],
        options: QuestionAnsweringOptions,
    ) -> Answer:
        """Return the best answers of all windows.

        The scores of answers that are equal, but for upper and lower case, are added up.
        """
        context: str = prepared.context
        # Several spans may become the same answer when they are aligned to words.
        count = 2 * options.top_k + 10 if options.align_to_words else options.top_k
        answers: dict[str, dict[str, Any]] = {}
        null_score = float("inf")
        cls_id = self.tokenizer.facts.special_ids["cls"]
        for window, sample in zip(prepared.encodings, samples, strict=True):
            allowed = answer_tokens(window, cls_id)
            starts, ends, window_null_score = span_probabilities(
                sample["start_logits"], sample["end_logits"], allowed
            )
            null_score = min(null_score, window_null_score)
            for first, last, score in best_spans(
                starts, ends, allowed, count, options.max_answer_len
            ):
                start, end = _characters(window, first, last, options.align_to_words)
                text = context[start:end]
                if text.lower() in answers:
                    answers[text.lower()]["score"] += score
                else:
                    answers[text.lower()] = _answer(score, start, end, text)
        candidates = list(answers.values())
        if options.handle_impossible_answer:
            candidates.append(_answer(null_score, 0, 0, ""))
        candidates.sort(key=lambda answer: answer["score"], reverse=True)
        best = candidates[: options.top_k]
        return best[0] if len(best) == 1 else best


def answer_tokens(window: Encoding, cls_id: int | None) -> np.ndarray:
    """Return which tokens an answer may consist of, bool [S]: the context's, and any first one."""
    return np.array(
        [
            sequence == 1 or id == cls_id
            for id, sequence in zip(window.ids, window.sequence_ids, strict=True)
        ]
    )


def _characters(window: Encoding, first: int, last: int, align: bool) -> tuple[int, int]:
    """Return where a span of tokens starts and ends in the context, in characters.

    `align` extends it to whole words.
    """
    if align:
        words = [window.token_to_word(token) for token in (first, last)]
        ranges = [None if word is None else window.word_to_chars(word, 1) for word in words]
        if ranges[0] and ranges[1]:
            return ranges[0][0], ranges[1][1]
    return window.offsets[first][0], window.offsets[last][1]


def _answer(score: float, start: int, end: int, answer: str) -> dict[str, Any]:
    return {"score": score, "start": start, "end": end, "answer": answer}


def _parse_dict(value: Any) -> Question:
    if isinstance(value, dict) and set(value) == {"question", "context"}:
        return _make_question(value["question"], value["context"])
    raise InputError(
        f"an input is {type(value).__name__} ({shorten(value)}): give question=… and context=…, "
        "or {'question': …, 'context': …}"
    )


def _make_question(question: Any, context: Any) -> Question:
    for name, value in (("question", question), ("context", context)):
        if not isinstance(value, str):
            raise InputError(f"{name} is {shorten(value)}: give a string")
        if not value:
            raise InputError(f"{name} is empty: give some text")
    return Question(question, context)
