"""Answers of heads with RoBERTa's tokenizer: byte-level, `<s> A </s></s> B </s>`, `<mask>`.

The model is a BERT, whose weights are the same for bertrt and transformers.
"""

import importlib.util
import shutil
import warnings
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import bertrt
from bertrt.errors import InputError
from bertrt.heads.aggregation import STRATEGIES

Agree = Callable[[Any, Any], None]

# Texts whose words begin with spaces, signs and characters of several bytes.
TEXTS = [
    "John Smith works at Google in New York.",
    " café naïve résumé, Ünïcödé in  New York ",
    "中国人 in 北京 🙂 emoji 👩‍👩‍👧‍👦 family 🇫🇷.",
    "e\u0301 combining\u00a0no-break\u3000wide\tand\nlines",
    "control\x00chars \x07 \ufeffmark",
    "What?! No -- really; (yes), don't: it's New-York",
    "Ġraw ▁signs ##s <s> x </s> <unk> [MASK]",
    "🙂",
    " ",
    "",
]


@pytest.fixture(scope="module")
def checkpoint_of(
    make_checkpoint: Callable[..., Path], made_once: Callable[..., Path], request: Any
) -> Callable[..., Path]:
    """A factory: a head's class to the folder of a BERT with RoBERTa's tokenizer."""

    def write(folder: Path, class_name: str, settings: dict[str, Any]) -> None:
        tiny: ModuleType = request.getfixturevalue("tiny_tokenizers")
        shutil.copytree(make_checkpoint(class_name, vocab_size=421, type_vocab_size=1), folder)
        for name in ("vocab.txt", "special_tokens_map.json"):
            (folder / name).unlink(missing_ok=True)
        tiny.write(folder, "RobertaTokenizer", **settings)

    def make(class_name: str, **settings: Any) -> Path:
        return made_once(
            f"{class_name}-byte-level",
            sorted(settings.items()),
            lambda folder: write(folder, class_name, settings),
        )

    return make


@pytest.fixture(scope="module")
def load(
    checkpoint_of: Callable[..., Path], made_once: Callable[..., Path]
) -> Iterator[Callable[..., Any]]:
    """A factory: a head's class and a task to a runtime, which is closed at the end."""
    opened = []

    def export_to(checkpoint: Path, output: Path) -> None:
        from bertrt.export import export

        export(checkpoint, output)

    def make(class_name: str, task: str, **settings: Any) -> Any:
        checkpoint = checkpoint_of(class_name, **settings)
        artifact = made_once(
            f"{class_name}-byte-level",
            ("artifact", sorted(settings.items())),
            lambda output: export_to(checkpoint, output),
        )
        opened.append(bertrt.load(artifact, task=task, threads=1))
        return opened[-1]

    yield make
    for runtime in opened:
        runtime.close()


@pytest.fixture(scope="module")
def both(
    checkpoint_of: Callable[..., Path], load: Callable[..., Any]
) -> Callable[..., tuple[Any, Any]]:
    """A factory: a task and a head's class to the runtime and transformers' pipeline."""

    def make(task: str, class_name: str, **settings: Any) -> tuple[Any, Any]:
        import transformers

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            pipe = transformers.pipeline(task, model=str(checkpoint_of(class_name, **settings)))
        return load(class_name, task, **settings), pipe

    return make


def plain(value: Any) -> Any:
    """Replace NumPy scalars by Python numbers."""
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    return value.item() if isinstance(value, np.generic) else value


@pytest.mark.filterwarnings("ignore:Tokenizer does not support real words")
def test_token_classification(both: Callable[..., Any], agree: Agree) -> None:
    rt, pipe = both("token-classification", "BertForTokenClassification")
    found = set()
    for strategy in STRATEGIES:
        options = {"aggregation_strategy": strategy, "ignore_labels": []}
        expected = [plain(pipe(text, **options)) for text in TEXTS]
        agree(rt(TEXTS, truncation=True, **options), expected)
        found |= {entity["word"] for entities in expected for entity in entities}
    # Tokens have their spaces; words are decoded.
    assert any(word.startswith("Ġ") for word in found)
    assert any(word.startswith(" ") for word in found)
    options = {"aggregation_strategy": "first", "stride": 9}
    long = " ".join(TEXTS * 4)
    agree(rt(long, **options), plain(pipe(long, **options)))
    with pytest.raises(InputError, match=r'list of words lacks: .* "add_prefix_space" to true'):
        rt(["New", "York"], is_split_into_words=True)


@pytest.mark.filterwarnings("ignore:Tokenizer does not support real words")
def test_token_classification_of_words(both: Callable[..., Any], agree: Agree) -> None:
    rt, pipe = both("token-classification", "BertForTokenClassification", add_prefix_space=True)
    words = ["John", "Smith,", "", "of", "New York", "café", "🙂🙂", " x", "workings"]
    for strategy in STRATEGIES:
        for delimiter in (None, "", ", "):
            options = {"aggregation_strategy": strategy, "ignore_labels": []}
            options |= {"is_split_into_words": True, "delimiter": delimiter}
            agree(rt(words, **options), plain(pipe(words, **options)))
        options = {"aggregation_strategy": strategy, "ignore_labels": []}
        agree(rt(TEXTS, truncation=True, **options), [plain(pipe(t, **options)) for t in TEXTS])


def test_fill_mask(both: Callable[..., Any], agree: Agree) -> None:
    rt, pipe = both("fill-mask", "BertForMaskedLM")
    texts = [
        "the cat <mask> on the mat",
        "<mask> is the capital",
        " <mask>",
        "a  <mask>  b",
        "café<mask>🙂 中国 <mask>.",
        "<mask><mask> <mask>",
        "<s> [MASK] </s> <pad> <mask>",
    ]
    expected = [pipe(text, top_k=7) for text in texts]
    agree(rt(texts, top_k=7), expected)
    agree([rt(text, top_k=7) for text in texts], expected)
    words = {entry["token_str"] for entry in pipe(texts[0], top_k=421)}
    assert {" cat", "\n", "<s>"} <= words
    targets = {"targets": ["Ġcat", " cat", "cat", "é", "🙂"]}
    agree(rt(texts[0], **targets), pipe(texts[0], **targets))


@pytest.mark.parametrize("other", ["[MASK]", "[mask]", "<MASK>"])
def test_another_models_mask(both: Callable[..., Any], other: str) -> None:
    rt, _ = both("fill-mask", "BertForMaskedLM")
    message = rf"the text has {other.replace('[', '.')}, and this model's mask token is <mask>"
    with pytest.raises(InputError, match=message):
        rt(f"Paris is the {other} of France")
    with pytest.raises(InputError, match="the text has no <mask>: 'Paris'"):
        rt("Paris")


def test_zero_shot_classification(both: Callable[..., Any], agree: Agree) -> None:
    rt, pipe = both("zero-shot-classification", "BertForSequenceClassification")
    labels = ["politics", "café 🙂", " New York"]
    for text in [text for text in TEXTS if text.strip()]:
        for multi_label in (True, False):
            options = {"candidate_labels": labels, "multi_label": multi_label}
            ours = rt(text, **options, truncation=True)
            agree(ours, pipe(text, **options))
    long = "the cat sat on the mat in New York " * 20
    agree(rt(long, candidate_labels=labels, truncation=True), pipe(long, candidate_labels=labels))


def test_pairs(both: Callable[..., Any], agree: Agree) -> None:
    rt, pipe = both("text-classification", "BertForSequenceClassification")
    for text in TEXTS:
        pair = {"text": text, "text_pair": "🙂 the café "}
        agree(rt(pair, top_k=None, truncation=True), pipe(pair, top_k=None, truncation=True))
    long = {"text": "the cat " * 40, "text_pair": "New York " * 40}
    options = {"top_k": None, "truncation": True}
    agree(rt(long, **options), pipe(long, **options))


def test_windows_of_questions(load: Callable[..., Any], checkpoint_of: Callable[..., Path]) -> None:
    """A window has four special tokens, which leave less room for the context."""
    import transformers

    name, task = "BertForQuestionAnswering", "question-answering"
    rt, tokenizer = (
        load(name, task),
        transformers.AutoTokenizer.from_pretrained(checkpoint_of(name)),
    )
    head = rt._calls.head
    question, context = " who's café 🙂?", " ".join(TEXTS)
    asked = len(tokenizer(question, add_special_tokens=False)["input_ids"])
    for length, stride in ((64, 32), (asked + 11, 3), (asked + 5, 0)):
        options = {"max_seq_len": length, "doc_stride": stride}
        (input,), _ = head.read_inputs(question, context)
        windows = head.prepare(input, head.parse_options(options)).encodings
        expected = tokenizer(
            question,
            context,
            truncation="only_second",
            max_length=length,
            stride=stride,
            return_overflowing_tokens=True,
            return_offsets_mapping=True,
        )
        assert [window.ids for window in windows] == expected["input_ids"]
        assert [window.offsets for window in windows] == expected["offset_mapping"]
    for length, room in ((asked + 4, 0), (asked + 3, 0), (asked + 9, 5)):
        with pytest.raises(InputError, match=rf"room for {room} tokens of the context"):
            rt(question, context, max_seq_len=length, doc_stride=5)


@pytest.mark.skipif(
    importlib.util.find_spec("transformers") is None
    or int(version("transformers").split(".")[0]) >= 5,
    reason="transformers is missing, or 5, which has no question-answering pipeline",
)
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_question_answering(both: Callable[..., Any], agree: Agree) -> None:
    rt, pipe = both("question-answering", "BertForQuestionAnswering")
    contexts = [text for text in TEXTS if text.strip()] + [" ".join(TEXTS * 3)]
    for options in (
        {},
        {"top_k": 3},
        {"top_k": 5, "align_to_words": False},
        {"top_k": 4, "handle_impossible_answer": True},
        {"top_k": 3, "max_seq_len": 40, "doc_stride": 7},
    ):
        for question in ("who is in New York", "🙂 café</s>?"):
            expected = [pipe(question=question, context=text, **options) for text in contexts]
            agree(rt(question=[question] * len(contexts), context=contexts, **options), expected)
