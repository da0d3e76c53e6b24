"""Answers of RoBERTa and XLM-RoBERTa from their own files: vocabulary and merges, and a Unigram."""

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bertrt
from bertrt.heads.aggregation import STRATEGIES

Agree = Callable[[Any, Any], None]

TEXTS = [
    "John Smith works at Google in New York.",
    " café naïve résumé, Ünïcödé in  New York ",
    "中国人 in 北京 🙂 emoji 👩‍👩‍👧‍👦 family 🇫🇷.",
    "e\u0301 combining\u00a0no-break\u3000wide\tand\nlines",
    "What?! No -- really; (yes), don't: it's New-York",
    "▁raw Ġsigns <s> x </s> <unk> <pad> [MASK]",
    "🙂",
]
LABELS = {
    "TokenClassification": ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"],
    "SequenceClassification": ["contradiction", "neutral", "entailment"],
}


@pytest.fixture(scope="module")
def both(made_once: Callable[..., Path], request: Any) -> Iterator[Callable[..., Any]]:
    """A factory: an encoder, a head and a task to a runtime and transformers' pipeline."""
    opened = []

    def write(folder: Path, encoder: str, head: str) -> None:
        import torch
        import transformers

        from bertrt.export import export

        tiny = request.getfixturevalue("tiny_tokenizers")
        tokenizer = tiny.build(f"{encoder}Tokenizer")
        labels = dict(enumerate(LABELS.get(head, ["LABEL_0", "LABEL_1"])))
        config = getattr(transformers, f"{encoder}Config")(
            vocab_size=tokenizer.get_vocab_size(),
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=4,
            intermediate_size=37,
            max_position_embeddings=130,
            type_vocab_size=1,
            # Logits of small weights are nearly equal, and a test on them would prove little.
            initializer_range=0.15,
            pad_token_id=1,
            id2label=labels,
            label2id={name: id for id, name in labels.items()},
        )
        torch.manual_seed(5)
        model = getattr(transformers, f"{encoder}For{head}")(config).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.ndim == 1:
                    parameter.add_(torch.randn_like(parameter) * 0.1)
        model.save_pretrained(folder)
        if encoder == "Roberta":
            tiny.write_vocabulary(folder, model_max_length=None)
        else:
            tiny.write(folder, f"{encoder}Tokenizer", tokenizer, model_max_length=None)
        export(folder, folder / "out")

    def make(encoder: str, head: str, task: str) -> Any:
        import transformers

        folder = made_once(f"{encoder}{head}", "tokenizer", lambda f: write(f, encoder, head))
        opened.append(bertrt.load(folder / "out", task=task, threads=1))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return opened[-1], transformers.pipeline(task, model=str(folder))

    yield make
    for runtime in opened:
        runtime.close()


def plain(value: Any) -> Any:
    """Replace NumPy scalars by Python numbers."""
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    return value.item() if isinstance(value, np.generic) else value


def test_fill_mask_from_vocabulary_and_merges(both: Callable[..., Any], agree: Agree) -> None:
    rt, pipe = both("Roberta", "MaskedLM", "fill-mask")
    # The positions of the config without those up to the padding's.
    assert rt.tokenizer.max_length == 128
    masked = [f"{text} <mask> {text[:9]}" for text in TEXTS] + ["<mask> <mask>"]
    expected = [pipe(text) for text in masked]
    agree(rt(masked), expected)
    agree([rt(text) for text in masked], expected)
    assert len({answer[0]["token"] for answer in expected[:-1]}) > 1


@pytest.mark.filterwarnings("ignore:Tokenizer does not support real words")
def test_token_classification(both: Callable[..., Any], agree: Agree) -> None:
    rt, pipe = both("XLMRoberta", "TokenClassification", "token-classification")
    found = set()
    for strategy in STRATEGIES:
        options = {"aggregation_strategy": strategy, "ignore_labels": []}
        expected = [plain(pipe(text, **options)) for text in TEXTS]
        agree(rt(TEXTS, truncation=True, **options), expected)
        found |= {entity["word"] for entities in expected for entity in entities}
        words = {"is_split_into_words": True, **options}
        agree(rt(TEXTS[0].split(), **words), plain(pipe(TEXTS[0].split(), **words)))
    assert any(word.startswith("▁") for word in found)
    assert any(" " in word for word in found)


def test_pairs(both: Callable[..., Any], agree: Agree) -> None:
    rt, pipe = both("XLMRoberta", "SequenceClassification", "text-classification")
    pairs = [{"text": text, "text_pair": "🙂 the café "} for text in TEXTS]
    agree(rt(pairs, top_k=None), [pipe(pair, top_k=None) for pair in pairs])
    rt, pipe = both("XLMRoberta", "SequenceClassification", "zero-shot-classification")
    options = {"candidate_labels": ["politics", "café 🙂", " New York"]}
    expected = [pipe(text, **options) for text in TEXTS]
    agree(rt(TEXTS, truncation=True, **options), expected)
    assert len({answer["scores"][0] for answer in expected}) > 1
