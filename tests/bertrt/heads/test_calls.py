"""Calls: their options are parsed once, and one input becomes a request for the batcher."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bertrt.artifact.manifest import EmbeddingFacts, TokenizerFacts
from bertrt.artifact.model_config import ModelConfig
from bertrt.errors import InputError
from bertrt.heads.base import TextPair, TokenIds
from bertrt.heads.calls import BoundCall, Call, CallParser
from bertrt.heads.feature_extraction import EmbedOptions
from bertrt.heads.request import HeadRequest
from bertrt.heads.zero_shot_classification import ZeroShotClassification
from bertrt.tokenizer import Encoding, Tokenizer

LABELS = {"contradiction": 0, "neutral": 1, "entailment": 2}
CONFIG = ModelConfig.from_json(
    {"hidden_size": 4, "label2id": LABELS, "id2label": {i: name for name, i in LABELS.items()}}
)
LOGITS = np.array([1.0, 3.0, 2.0], np.float32)
PROBABILITIES = np.exp(LOGITS) / np.exp(LOGITS).sum()
BEST = {"label": "neutral", "score": pytest.approx(PROBABILITIES[1], abs=1e-6)}


@pytest.fixture(scope="module")
def tokenizer(make_checkpoint: Callable[..., Path]) -> Tokenizer:
    folder = make_checkpoint("BertForSequenceClassification")
    roles = {"pad": 0, "unk": 1, "cls": 2, "sep": 3, "mask": 4}
    return Tokenizer(
        (folder / "tokenizer.json").read_text(encoding="utf-8"),
        TokenizerFacts(64, "right", "right", roles, (), False, golden=()),
    )


@pytest.fixture
def parser(tokenizer: Tokenizer) -> CallParser:
    return CallParser("text-classification", tokenizer, CONFIG, ["logits"])


def build_request(call: Call, runner: Any, *inputs: Any) -> HeadRequest:
    """One input's request; its `finish` gives the call's answer."""
    bound = BoundCall.read_one(call, *inputs)
    (request,) = bound.requests(runner)
    return replace(request, finish=lambda samples: bound.answer([request.finish(samples)]))


class FakeRunner:
    """Yields given outputs, times the id of each text's first word, in reverse order."""

    def __init__(self, **outputs: np.ndarray) -> None:
        self.outputs = outputs
        self.options: dict[str, Any] = {}

    def run_encodings(
        self, encodings: Sequence[Encoding], **options: Any
    ) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
        self.options = options
        for index in reversed(range(len(encodings))):
            first = np.float32(encodings[index].ids[1])
            yield index, {name: value * first for name, value in self.outputs.items()}

    def run(self, **arrays: Any) -> Any:
        raise AssertionError("this head runs encodings")


def test_a_call_is_parsed_once_and_reads_inputs_later(parser: CallParser) -> None:
    call = parser.parse({"top_k": 1, "function_to_apply": "none"})
    items, single = call.read("a cat")
    assert (items[0].text, single) == ("a cat", True)
    items, single = call.read(["a cat", "it is"])
    assert ([item.text for item in items], single) == (["a cat", "it is"], False)
    runner = FakeRunner(logits=LOGITS)
    answers = call.answer(items, runner)
    firsts = [build_request(call, runner, text).encodings[0].ids[1] for text in ("a cat", "it is")]
    assert answers == [[{"label": "neutral", "score": 3.0 * first}] for first in firsts]
    assert firsts[0] != firsts[1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"topk": 1}, "text-classification has no option 'topk': did you mean top_k"),
        ({"top_k": 0}, "top_k is 0"),
        ({"question": "who"}, "no option 'question'"),
    ],
)
def test_wrong_options_are_refused_before_inputs_are_read(
    parser: CallParser, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        parser.parse(options)


def test_candidate_labels_make_a_call_of_a_classifier_zero_shot(parser: CallParser) -> None:
    call: Any = parser.parse({"candidate_labels": ["film", "food"]})
    assert isinstance(call.head, ZeroShotClassification)
    assert call.named == {"candidate_labels": ["film", "food"]}
    assert not isinstance(parser.head, ZeroShotClassification)
    request = build_request(call, FakeRunner(), "a cat")
    assert len(request.encodings) == 2  # one for each label


def test_candidate_labels_are_no_option_of_another_head(tokenizer: Tokenizer) -> None:
    parser = CallParser("fill-mask", tokenizer, CONFIG, ["logits"])
    with pytest.raises(InputError, match="no option 'candidate_labels'"):
        parser.parse({"candidate_labels": ["film", "food"]})


def test_inputs_may_be_keyword_arguments(tokenizer: Tokenizer) -> None:
    parser = CallParser("question-answering", tokenizer, CONFIG, ["start_logits", "end_logits"])
    call: Any = parser.parse({"question": "who", "context": "mary lives in paris", "top_k": 3})
    assert call.options.top_k == 3
    items, single = call.read()
    assert (len(items), single) == (1, True)
    assert "who" in repr(items[0])
    with pytest.raises(InputError, match="no option 'contxt'"):
        parser.parse({"question": "who", "contxt": "mary"})


def test_a_request_of_one_input(parser: CallParser) -> None:
    request = build_request(parser.parse({}), FakeRunner(), "a cat")
    assert [len(encoding.ids) for encoding in request.encodings] == [4]
    assert (request.outputs, request.tokens) == (None, "all")
    # transformers' pipeline puts the answer to a single text in a list.
    assert request.finish([{"logits": LOGITS}]) == [BEST]


def test_a_list_of_one_input_has_a_list_of_one_answer(parser: CallParser) -> None:
    request = build_request(parser.parse({"top_k": 1}), FakeRunner(), ["a cat"])
    assert request.finish([{"logits": LOGITS}]) == [[BEST]]
    request = build_request(parser.parse({}), FakeRunner(), {"text": "a cat"})
    assert request.finish([{"logits": LOGITS}]) == BEST


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ((["a cat", "it is"],), "a batcher answers one input at a time, but got a list of 2"),
        (([],), "list of texts is empty"),
        ((3,), "an input is int"),
        ((), "got 0 inputs"),
        ((" ".join(["cat"] * 90),), "the limit is 64"),
    ],
)
def test_a_request_of_anything_else_is_refused(
    parser: CallParser, inputs: tuple[Any, ...], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        build_request(parser.parse({}), FakeRunner(), *inputs)


HIDDEN = np.arange(12, dtype=np.float32).reshape(3, 4)


@pytest.fixture
def embed_parser(tokenizer: Tokenizer) -> CallParser:
    outputs = ["last_hidden_state", "sentence_embedding"]
    facts = EmbeddingFacts(
        pooling=("mean",),
        include_prompt=True,
        modules=("Normalize",),
        size=4,
        dimensions=None,
        max_length=64,
        truncation=False,
        prompts={"query": "", "document": ""},
        default_prompt_name=None,
        similarity="cosine",
    )
    return CallParser("feature-extraction", tokenizer, CONFIG, outputs, facts)


def test_embed_reads_the_graphs_vector_where_it_has_one(embed_parser: CallParser) -> None:
    vector = np.array([1, 0, 0, 0], np.float32)
    request = build_request(embed_parser.parse_embed({}), FakeRunner(), "a cat")
    assert request.outputs == ("sentence_embedding",)
    answer = request.finish([{"sentence_embedding": vector}])
    np.testing.assert_array_equal(answer, vector)
    assert not np.shares_memory(answer, vector)


def test_embed_pools_hidden_states_otherwise(embed_parser: CallParser) -> None:
    call: Any = embed_parser.parse_embed({"normalize": False, "dimensions": 3})
    assert call.options == EmbedOptions(
        normalize=False,
        dimensions=3,
        pooling=("mean",),
        prompt="",
        truncation=False,
        max_length=64,
    )
    request = build_request(call, FakeRunner(), "a cat")
    assert request.outputs == ("last_hidden_state",)
    mean = HIDDEN.mean(axis=0)[:3]
    np.testing.assert_allclose(request.finish([{"last_hidden_state": HIDDEN}]), mean, rtol=1e-6)
    request = build_request(call, FakeRunner(), ["a cat"])
    assert request.finish([{"last_hidden_state": HIDDEN}]).shape == (1, 3)


def test_embed_answers_many_inputs_in_their_order(embed_parser: CallParser) -> None:
    call = embed_parser.parse_embed({"normalize": False})
    items, _ = call.read(["a", "it is", "paris"])
    runner = FakeRunner(last_hidden_state=np.ones((3, 4), np.float32))
    vectors = call.answer(items, runner)
    firsts = [build_request(call, runner, item.text).encodings[0].ids[1] for item in items]
    np.testing.assert_allclose(vectors, np.repeat(np.float32(firsts)[:, None], 4, axis=1))
    assert len(set(firsts)) == 3
    assert runner.options == {"outputs": ["last_hidden_state"], "tokens": "all"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"poolin": "cls"}, "did you mean pooling"),
        ({"pooling": "sum"}, "pooling is 'sum': use one of"),
        ({"pooling": "pooler"}, "this checkpoint has no pooler"),
        ({"dimensions": 5}, "dimensions is 5, but this model has 4: lower it"),
        ({"normalize": 1}, "normalize is 1"),
    ],
)
def test_wrong_options_of_embed_are_refused(
    embed_parser: CallParser, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        embed_parser.parse_embed(options)


def test_embed_needs_an_artifact_for_feature_extraction(parser: CallParser) -> None:
    with pytest.raises(InputError, match="but this one is for text-classification: export"):
        parser.parse_embed({})


def test_a_list_is_joined_as_the_runtime_answers_it(embed_parser: CallParser) -> None:
    bound = BoundCall.read(embed_parser.parse_embed({"precision": "int8"}), ["a", "it", "paris"])
    assert len(list(bound.requests(FakeRunner()))) == 3
    vectors = [np.array([0, 1, 2, 3], np.float32) * factor for factor in (1, 2, 3)]
    joined = bound.answer(vectors)
    # The ranges are those of the whole list: its first is the least of each dimension.
    assert (joined.dtype, joined.shape) == (np.int8, (3, 4))
    np.testing.assert_allclose(joined[:, 1:], [[-128] * 3, [-1] * 3, [127] * 3], atol=1)


def test_scores_of_a_list_are_one_array(parser: CallParser) -> None:
    bound = BoundCall.read(parser.parse_score({}, "score"), [("a", "b"), ("a", "c")])
    assert bound.answer([LOGITS, LOGITS]).shape == (2, 3)
    assert BoundCall.read(parser.parse_score({}, "score"), []).answer([]).shape == (0, 3)


def test_a_request_says_whether_its_input_was_cut(
    parser: CallParser, embed_parser: CallParser, tokenizer: Tokenizer
) -> None:
    long = " ".join(["cat"] * 90)
    cut = {"truncation": True}
    for call, input, truncated in (
        (parser.parse(cut), "a cat", False),
        (parser.parse(cut), long, True),
        (parser.parse({**cut, "candidate_labels": ["film"]}), [long], True),
        (parser.parse_score({}, "score"), ("a", long), True),
        (parser.parse_score({}, "score"), ("a", "cat"), False),
        (embed_parser.parse_embed(cut), long, True),
        (embed_parser.parse_embed(cut), TokenIds([5] * 65), True),
        (embed_parser.parse_embed(cut), TokenIds([5] * 64), False),
    ):
        assert build_request(call, FakeRunner(), input).truncated is truncated
    # Windows that cover a text leave nothing out.
    words = CallParser("token-classification", tokenizer, CONFIG, ["logits"])
    options = {"aggregation_strategy": "simple", "stride": 4}
    windows = build_request(words.parse(options), FakeRunner(), long)
    assert len(windows.encodings) > 1
    assert not windows.truncated
    questions = CallParser("question-answering", tokenizer, CONFIG, ["start_logits", "end_logits"])
    windows = build_request(questions.parse({}), FakeRunner(), "who", long)
    assert len(windows.encodings) > 1
    assert not windows.truncated


def test_token_ids_are_taken_as_they_are(embed_parser: CallParser) -> None:
    call = embed_parser.parse_embed({"prompt": "query: "})
    for ids in ([7, 5, 6], (7, 5, 6), np.array([7, 5, 6])):
        (tokens,) = build_request(call, FakeRunner(), TokenIds(ids)).encodings  # type: ignore[arg-type]
        assert (list(tokens.ids), list(tokens.type_ids), len(tokens)) == ([7, 5, 6], [0] * 3, 3)
        assert all(type(id) is int for id in tokens.ids)
    items, single = call.read([TokenIds([7]), "a cat", ("a", "b")])
    assert not single
    assert items == [TokenIds([7]), TextPair("a cat"), TextPair("a", "b")]


def test_token_ids_are_cut_where_the_tokenizer_cuts(tokenizer: Tokenizer) -> None:
    left = Tokenizer(tokenizer._json, replace(tokenizer.facts, truncation_side="left"))
    for own, kept in ((tokenizer, [1, 2, 3]), (left, [3, 4, 5])):
        tokens = own.take_ids([1, 2, 3, 4, 5], 9, truncation=True, max_length=3)
        assert (tokens.ids, bool(tokens.overflowing)) == (kept, True)


@pytest.mark.parametrize(
    ("ids", "options", "message"),
    [
        ([], {}, "list of token ids is empty"),
        ([3, -1], {}, "token id -1 is not in the vocabulary, whose ids are 0 to 30521"),
        ([30522], {}, "token id 30522 is not in the vocabulary"),
        ([1.0], {}, r"token ids are \[1.0\]: give a list of whole numbers"),
        ([True], {}, r"token ids are \[True\]"),
        ("abc", {}, "token ids are 'abc'"),
        (7, {}, "token ids are 7"),
        ([[1]], {}, r"token ids are \[\[1\]\]"),
        ([5] * 65, {}, r"are 65 and the limit is 64: give fewer, or pass truncation=True"),
        ([5] * 9, {"max_length": 8}, "are 9 and the limit is 8"),
        ([5], {"truncation": "left"}, "truncation is 'left': use true, false or longest_first"),
        ([5], {"max_length": 65}, "max_length is 65, and this model reads at most 64"),
    ],
)
def test_wrong_token_ids_are_refused(
    embed_parser: CallParser, ids: Any, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        build_request(embed_parser.parse_embed(options), FakeRunner(), TokenIds(ids))


def test_only_embed_takes_token_ids(embed_parser: CallParser) -> None:
    with pytest.raises(InputError, match="an input is TokenIds"):
        embed_parser.parse({}).read(TokenIds([7]))
