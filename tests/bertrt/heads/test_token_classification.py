"""token-classification, compared with transformers' pipeline, and its errors."""

import dataclasses
import itertools
import json
import unicodedata
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bertrt.errors import InputError
from bertrt.heads.aggregation import STRATEGIES
from bertrt.heads.token_classification import TokenClassification
from bertrt.tokenizer import Tokenizer

Agree = Callable[[Any, Any], None]
NAME = "BertForTokenClassification"
TEXT = "John Smith works at Google in New York."
WORDS = ["John", "Smith,", "", "of", "New York", "café", "🙂🙂", "workings"]


@pytest.fixture(scope="module")
def rt(load_artifact: Callable[..., Any]) -> Any:
    return load_artifact(NAME)


@pytest.fixture(scope="module")
def pipe(pipeline_of: Callable[..., Any]) -> Any:
    """Return transformers' pipeline, with Python numbers instead of NumPy scalars."""
    pipeline = pipeline_of("token-classification", NAME)
    return lambda *args, **options: plain(pipeline(*args, **options))


def plain(value: Any) -> Any:
    """Replace NumPy scalars by Python numbers."""
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    return value.item() if isinstance(value, np.generic) else value


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("ignored", [{}, {"ignore_labels": []}], ids=str)
def test_every_text(
    rt: Any, pipe: Any, agree: Agree, texts: list[str], strategy: str, ignored: dict[str, Any]
) -> None:
    options = {"aggregation_strategy": strategy, **ignored}
    expected = pipe(texts, **options)
    assert sum(map(len, expected)) > 100
    agree(rt(texts, truncation=True, **options), expected)
    agree([rt(text, truncation=True, **options) for text in texts], expected)


def test_one_text_or_a_list(rt: Any, pipe: Any, agree: Agree) -> None:
    alone = rt(TEXT)
    assert {type(entity["score"]) for entity in alone} == {float}
    assert json.loads(json.dumps(alone)) == alone
    for value in (TEXT, [TEXT], [TEXT, "a"], "", [""]):
        agree(rt(value), pipe(value))
    assert list(rt(iter([TEXT, "a"]))) == rt([TEXT, "a"])


@pytest.mark.parametrize("strategy", ["none", "simple", "MAX"])
def test_ignore_labels(rt: Any, pipe: Any, agree: Agree, strategy: str) -> None:
    for ignored in (["PER"], ["B-PER", "I-LOC"], ["O", "ORG", "LOC"], ["nothing"]):
        options = {"aggregation_strategy": strategy, "ignore_labels": ignored}
        agree(rt(TEXT, **options), pipe(TEXT, **options))
    named = {"aggregation_strategy": strategy, "ignore_labels": ("O",)}
    agree(rt(TEXT, **named), rt(TEXT, aggregation_strategy=strategy))


@pytest.mark.parametrize("strategy", [strategy for strategy in STRATEGIES if strategy != "none"])
@pytest.mark.parametrize("stride", [0, 1, 7, 30, 61])
def test_windows(
    rt: Any, pipe: Any, agree: Agree, texts: list[str], strategy: str, stride: int
) -> None:
    options = {"aggregation_strategy": strategy, "stride": stride}
    # With a stride of 61 each window starts one token after the last.
    long = " ".join(texts[:8] if stride == 61 else texts)
    expected = pipe(long, **options)
    assert expected[-1]["end"] > len(long) - 40
    agree(rt(long, **options), expected)
    agree(rt([TEXT, long], **options), [pipe(TEXT, **options), expected])


def test_windows_of_words(rt: Any, pipe: Any, agree: Agree, texts: list[str]) -> None:
    words = " ".join(texts).split()
    options = {"aggregation_strategy": "first", "stride": 9, "is_split_into_words": True}
    agree(rt([words], **options), pipe([words], **options))


def test_windows_with_max_length(rt: Any, texts: list[str]) -> None:
    long = " ".join(texts[:10])
    options = {"aggregation_strategy": "simple", "stride": 4}
    entities = rt(long, max_length=16, **options)
    assert entities != rt(long, max_length=32, **options)
    assert entities[-1]["end"] > len(long) - 20
    for previous, entity in itertools.pairwise(entities):
        assert entity["start"] >= previous["end"]


def test_truncation(rt: Any, pipe: Any, agree: Agree) -> None:
    long = "the cat sat in New York " * 30
    with pytest.raises(InputError, match="the limit is 64"):
        rt(long)
    for strategy in STRATEGIES:
        options = {"aggregation_strategy": strategy}
        agree(rt(long, truncation=True, **options), pipe(long, **options))


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("delimiter", [None, " ", "", ", "])
def test_words(rt: Any, pipe: Any, agree: Agree, strategy: str, delimiter: str | None) -> None:
    options = {
        "is_split_into_words": True,
        "delimiter": delimiter,
        "aggregation_strategy": strategy,
        "ignore_labels": [],
    }
    for words in (WORDS, [WORDS], [WORDS, ["a"], []], ["a"]):
        agree(rt(words, **options), pipe(words, **options))


def test_the_words_of_one_text_give_a_list_with_one_answer(rt: Any, agree: Agree) -> None:
    (answer,) = rt(["New", "York"], is_split_into_words=True, ignore_labels=[])
    assert rt([["New", "York"]], is_split_into_words=True, ignore_labels=[]) == [answer]
    agree(answer, rt("New York", ignore_labels=[]))
    words = iter([["New", "York"], ["a"]])
    assert next(rt(words, is_split_into_words=True, ignore_labels=[])) == answer
    # Without the flag the same list is two texts.
    assert len(rt(["New", "York"])) == 2


# Base characters, and what the uncased normalizer removes.
REMOVED = "\u0301\u0308\u0323\u200b\u200d\ufeff\u00ad\x07"


@pytest.mark.parametrize("cased", [False, True])
def test_random_texts(
    load_artifact: Callable[..., Any],
    pipeline_of: Callable[..., Any],
    texts: list[str],
    agree: Agree,
    cased: bool,
) -> None:
    """Answers equal transformers' on every text in which no character is removed."""
    random = np.random.default_rng(17)
    words = " ".join(texts).split() + vocabulary_words(load_artifact(NAME, cased=cased))
    words = [word for word in words if word == unicodedata.normalize("NFC", word)]
    words = [word for word in words if not set(word) & set(REMOVED) and word.isprintable()]
    signs = ["", "", "", " ", ", ", ". ", "'", "-", "##", " ## ", "/", "[MASK]", " [UNK] ", "中"]
    cases = [
        "".join(
            random.choice(words) + random.choice([" ", " ", *signs])
            for _ in range(random.integers(1, 8))
        )[:60]
        for _ in range(150)
    ]
    rt, pipe = (
        load_artifact(NAME, cased=cased),
        pipeline_of("token-classification", NAME, cased=cased),
    )
    for strategy in STRATEGIES:
        options = {"aggregation_strategy": strategy, "ignore_labels": []}
        agree(rt(cases, truncation=True, **options), plain(pipe(cases, **options)))


def vocabulary_words(rt: Any) -> list[str]:
    return [token.removeprefix("##") for token in sorted(rt.tokenizer.get_vocab())]


@pytest.mark.parametrize("strategy", ["first", "average", "max"])
@pytest.mark.parametrize("removed", ["\u0301", "\u0308\u0323", "\u200b", "\u00ad", "\ufeff"])
def test_removed_characters_do_not_join_words(rt: Any, strategy: str, removed: str) -> None:
    """The words are those of the text without them, at their own positions."""
    plain_text = "john smith works, don't at google in new york workings"
    options = {"aggregation_strategy": strategy, "ignore_labels": []}

    def spans(text: str) -> list[tuple[str, str]]:
        tokens = "".join(char for char in text if char not in removed)
        assert tokens == plain_text
        return [(entity["entity_group"], entity["word"]) for entity in rt(text, **options)]

    expected = spans(plain_text)
    assert len(expected) > 3
    random = np.random.default_rng(3)
    for _ in range(20):
        places = random.choice(len(plain_text), 12, replace=False)
        # After letters: a combining mark after a space or a sign stands for itself.
        text = "".join(
            char + removed * (i in places and char.isalpha()) for i, char in enumerate(plain_text)
        )
        assert spans(text) == expected


def test_decomposed_names(rt: Any, pipe: Any) -> None:
    """Each word has its own label, and transformers' pipeline joins those with accents."""
    text = "john café in new naïve paris résumé, works"
    decomposed = unicodedata.normalize("NFD", text)
    options = {"aggregation_strategy": "first", "ignore_labels": []}

    def found(answer: Any) -> list[tuple[str, str]]:
        return [(entity["entity_group"], entity["word"]) for entity in answer]

    assert found(rt(decomposed, **options)) == found(rt(text, **options))
    assert found(rt(text, **options)) == found(pipe(text, **options))
    # If this fails, transformers has mended it: take it out of the list of differences.
    assert found(pipe(decomposed, **options)) != found(pipe(text, **options))


def test_a_type_called_o(rt: Any) -> None:
    """`B-O` and `I-O` are entities; the label `O` is none, and joins neither."""
    labels = ("O", "B-O", "I-O", "B-LOC", "I-LOC", "X-O")
    head = TokenClassification(
        rt.tokenizer, dataclasses.replace(rt._artifact.config, labels=labels)
    )

    class Given:
        def run_encodings(self, encodings: Any, **_: Any) -> Any:
            for i, encoding in enumerate(encodings):
                logits = np.eye(6, dtype=np.float32)[[0, 1, 2, 0, 2, 5, 3, 4, 0, 0]] * 9
                assert len(encoding) == len(logits)
                yield i, {"logits": logits}

    inputs, _ = head.read_inputs("the a of in to and is was")
    expected = [("O", "the a"), ("O", "in"), ("O", "to"), ("LOC", "and is")]

    def groups(**options: Any) -> list[tuple[str, str]]:
        parsed = head.parse_options(options)
        (answer,) = head.answer(inputs, Given(), parsed)  # type: ignore[arg-type]
        name = "entity" if "entity_group" not in answer[0] else "entity_group"
        return [(entity[name], entity["word"]) for entity in answer]

    for strategy in ("simple", "first", "average", "max"):
        assert groups(aggregation_strategy=strategy) == expected
        every = groups(aggregation_strategy=strategy, ignore_labels=[])
        assert every == [*expected[:1], ("O", "of"), *expected[1:], ("O", "was")]
        assert groups(aggregation_strategy=strategy, ignore_labels=["LOC"])[-1] == ("O", "was")
    assert [label for label, _ in groups()] == ["B-O", "I-O", "I-O", "X-O", "B-LOC", "I-LOC"]


def test_a_tokenizer_that_does_not_mark_subwords(
    rt: Any, make_checkpoint: Callable[..., Path], agree: Agree
) -> None:
    """Words are found by the spaces between them; without a decoder, spaces join tokens."""
    import tokenizers
    import transformers
    from tokenizers import models, pre_tokenizers, processors

    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "new", "york", "s", "in", "."]
    library = tokenizers.Tokenizer(
        models.Unigram([(piece, -float(i)) for i, piece in enumerate(pieces)], unk_id=1)
    )
    library.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    library.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=library, unk_token="[UNK]", pad_token="[PAD]", model_max_length=64
    )
    facts = rt.tokenizer.facts
    tokenizer = Tokenizer(library.to_str(), type(facts)(**{**vars(facts), "golden": ()}))
    assert tokenizer.subword_prefix == ""
    assert rt.tokenizer.subword_prefix == "##"
    head = TokenClassification(tokenizer, rt._artifact.config)
    reference = transformers.pipeline(
        "token-classification", model=str(make_checkpoint(NAME)), tokenizer=fast
    )
    for strategy in STRATEGIES:
        options = {"aggregation_strategy": strategy, "ignore_labels": []}
        inputs, _ = head.read_inputs("news york in. yorks zz in")
        (answer,) = head.answer(inputs, rt._runner, head.parse_options(options))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            expected = plain(reference("news york in. yorks zz in", **options))
        agree(answer, expected)


@pytest.mark.parametrize(
    ("args", "options", "message"),
    [
        ((), {}, "got 0 inputs"),
        ((TEXT, TEXT), {}, "got 2 inputs"),
        (([],), {}, "list of texts is empty"),
        (([],), {"is_split_into_words": True}, "list of texts is empty"),
        ((5,), {}, "an input is int"),
        ((None,), {}, "an input is NoneType"),
        (({"text": TEXT},), {}, "an input is dict"),
        (((TEXT, TEXT),), {}, "an input is tuple"),
        (([["New", "York"]],), {}, "or for words pass is_split_into_words=True"),
        ((TEXT,), {"is_split_into_words": True}, "give a list of words"),
        ((("New", "York"),), {"is_split_into_words": True}, "give a list of words"),
        (([["New"], "York"],), {"is_split_into_words": True}, "a word is list"),
        (([["New", 5]],), {"is_split_into_words": True}, r"a word is int \(5\)"),
        ((["\ud800"],), {"is_split_into_words": True}, "lone surrogate"),
        (("\ud800",), {}, "lone surrogate"),
        ((TEXT,), {"is_split_into_words": 1}, "is_split_into_words is 1"),
        ((["a"],), {"is_split_into_words": True, "delimiter": 5}, "delimiter is 5"),
        ((TEXT,), {"aggregation_strategy": "last"}, "'last': use one of none, simple, first"),
        ((TEXT,), {"aggregation_strategy": None}, "aggregation_strategy is None"),
        ((TEXT,), {"ignore_labels": "O"}, "ignore_labels is 'O'"),
        ((TEXT,), {"ignore_labels": None}, "ignore_labels is None"),
        ((TEXT,), {"ignore_labels": [0]}, "ignore_labels holds 0"),
        ((TEXT,), {"stride": 8}, "stride needs an aggregation_strategy other than 'none'"),
        (
            (TEXT,),
            {"stride": 8, "aggregation_strategy": "max", "truncation_side": "left"},
            "truncation_side is 'left', but with a stride no side",
        ),
        ((TEXT,), {"stride": -1, "aggregation_strategy": "max"}, "stride is -1"),
        ((TEXT,), {"stride": 1.0, "aggregation_strategy": "max"}, "stride is 1.0"),
        ((TEXT,), {"stride": 62, "aggregation_strategy": "max"}, "a stride of 62"),
        ((TEXT,), {"grouped_entities": True}, "no option 'grouped_entities'"),
        ((["a"] * 99,), {"is_split_into_words": True}, "101 tokens and the limit is 64"),
    ],
)
def test_refuses(rt: Any, args: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        rt(*args, **options)
