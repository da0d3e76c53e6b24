"""Tiny random checkpoints of encoders other than BERT, their artifacts and transformers' answers.

A position in the family of RoBERTa depends on the tokens before it, so batches have rows of every
length, and padding tokens inside texts.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

LONGEST = 40
SIZES = {
    "hidden_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 37,
    "max_position_embeddings": LONGEST,
}
WORDS = "the a cat sat on mat dog ran in big city and of to we you they what who is was".split()
BERT_TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
ROBERTA_TOKENS = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
LABELS = {"ForSequenceClassification": 3, "ForTokenClassification": 5}


@dataclass(frozen=True)
class Encoder:
    """An encoder: how transformers' classes begin, its special tokens, and fields of its config."""

    stem: str
    tokens: list[str]
    fields: Mapping[str, Any]


def _positions_after(padding_id: int) -> dict[str, int]:
    return {
        "max_position_embeddings": LONGEST + padding_id + 1,
        "type_vocab_size": 1,
        "pad_token_id": padding_id,
    }


ENCODERS = {
    "bert": Encoder("Bert", BERT_TOKENS, {}),
    "roberta": Encoder("Roberta", ROBERTA_TOKENS, {**_positions_after(1), "hidden_act": "relu"}),
    # Another padding id than the other's.
    "xlm-roberta": Encoder(
        "XLMRoberta", [*ROBERTA_TOKENS[2:], *ROBERTA_TOKENS[:2]], _positions_after(4)
    ),
    "camembert": Encoder("Camembert", ROBERTA_TOKENS, _positions_after(1)),
    "distilbert": Encoder(
        "DistilBert",
        BERT_TOKENS,
        {"dim": 40, "n_layers": 2, "n_heads": 4, "hidden_dim": 37},
    ),
    "electra": Encoder("Electra", BERT_TOKENS, {"embedding_size": 16, "hidden_act": "silu"}),
    "mpnet": Encoder("MPNet", ROBERTA_TOKENS, _positions_after(1)),
    "albert": Encoder("Albert", BERT_TOKENS, {"embedding_size": 24, "num_hidden_layers": 3}),
}


@pytest.fixture(scope="session")
def encoder(made_once: Callable[..., Path]) -> Callable[..., Path]:
    """A factory: model type, the end of the class's name and config changes to a checkpoint."""

    def make(model_type: str, head: str, *, spread: float = 0.2, **changes: Any) -> Path:
        return made_once(
            f"{model_type}-{head}",
            ("encoder", spread, sorted(changes.items())),
            lambda folder: _write(folder, ENCODERS[model_type], head, spread, changes),
        )

    return make


def _write(
    folder: Path, encoder: Encoder, head: str, spread: float, changes: Mapping[str, Any]
) -> None:
    import torch
    import transformers

    vocabulary = _write_tokenizer(folder, encoder.tokens)
    sizes = {} if encoder.stem == "DistilBert" else SIZES
    fields = {
        **sizes,
        "max_position_embeddings": LONGEST,
        "vocab_size": vocabulary,
        "is_decoder": head == "ForCausalLM",
        "num_labels": LABELS.get(head, 2),
        **encoder.fields,
        **changes,
    }
    config = getattr(transformers, f"{encoder.stem}Config")(**fields)
    torch.manual_seed(sum(map(ord, head)))
    model = getattr(transformers, encoder.stem + head)(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * spread)
    model.save_pretrained(folder)


def _write_tokenizer(folder: Path, special: list[str]) -> int:
    """Write a WordPiece tokenizer with these special tokens; return the number of tokens."""
    import tokenizers
    import transformers

    letters = "abcdefghijklmnopqrstuvwxyz"
    words = [*WORDS, *letters[1:], *(f"##{letter}" for letter in letters)]
    ids = {token: index for index, token in enumerate([*special, *words])}
    of_bert = special is BERT_TOKENS
    first, last, unknown = ("[CLS]", "[SEP]", "[UNK]") if of_bert else ("<s>", "</s>", "<unk>")
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordPiece(ids, unk_token=unknown))
    tokenizer.normalizer = tokenizers.normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = tokenizers.decoders.WordPiece()
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
        single=f"{first} $A {last}",
        pair=f"{first} $A {last} $B {last}",
        special_tokens=[(first, ids[first]), (last, ids[last])],
    )
    named = {
        "cls_token": first,
        "sep_token": last,
        "unk_token": unknown,
        "pad_token": "[PAD]" if of_bert else "<pad>",
        "mask_token": "[MASK]" if of_bert else "<mask>",
    }
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_input_names=["input_ids", "attention_mask"],
        model_max_length=LONGEST,
        **named,
    ).save_pretrained(folder)
    return len(ids)


@pytest.fixture(scope="session")
def exported(
    encoder: Callable[..., Path], made_once: Callable[..., Path]
) -> Callable[..., SimpleNamespace]:
    """A factory: what `encoder` takes, and `options` of the export, to an artifact.

    Returns its `folder`, its `manifest` and the `checkpoint`.
    """
    from bertrt.artifact.directory import Artifact
    from bertrt.export import export

    @cache
    def make(
        model_type: str, head: str, options: tuple[tuple[str, Any], ...] = (), **changes: Any
    ) -> SimpleNamespace:
        checkpoint = encoder(model_type, head, **changes)
        folder = made_once(
            f"{model_type}-{head}",
            ("exported", options, sorted(changes.items())),
            lambda folder: export(checkpoint, folder, **dict(options)),
        )
        return SimpleNamespace(
            folder=folder, manifest=Artifact.open(folder).manifest, checkpoint=checkpoint
        )

    return make


@pytest.fixture(scope="session")
def theirs() -> Callable[..., dict[str, np.ndarray]]:
    """Run transformers' own class of a checkpoint on arrays; returns its outputs by name."""

    def run(checkpoint: Path, **arrays: np.ndarray) -> dict[str, np.ndarray]:
        import torch

        options = {"use_cache": False} if "ForCausalLM" in checkpoint.name else {}
        tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
        with torch.inference_mode():
            outputs = _model(checkpoint)(**tensors, **options)
        return {name: value.numpy() for name, value in outputs.items()}

    return run


@cache
def _model(checkpoint: Path) -> Any:
    import transformers

    config = transformers.AutoConfig.from_pretrained(checkpoint)
    return getattr(transformers, config.architectures[0]).from_pretrained(checkpoint).eval()


@pytest.fixture(scope="session")
def batch() -> Callable[..., dict[str, np.ndarray]]:
    """Make a batch of a checkpoint with a row of every length, and padding tokens inside rows."""

    def make(checkpoint: Path, lengths: range = range(1, LONGEST + 1)) -> dict[str, np.ndarray]:
        import transformers

        config = transformers.AutoConfig.from_pretrained(checkpoint)
        choices = (2,) if config.architectures[0].endswith("ForMultipleChoice") else ()
        random = np.random.default_rng(5)
        shape = (len(lengths), *choices, max(lengths))
        ids = random.integers(5, config.vocab_size, shape)
        ids[random.random(shape) < 0.1] = config.pad_token_id
        mask = np.arange(shape[-1]) < np.reshape(lengths, (-1, *[1] * len(choices), 1))
        mask = np.ascontiguousarray(np.broadcast_to(mask, shape))
        ids = np.where(mask, ids, config.pad_token_id)
        return {"input_ids": ids, "attention_mask": mask.astype(np.int64)}

    return make


@pytest.fixture(scope="session")
def check_equal() -> Callable[..., None]:
    """Check outputs [rows, …] against transformers', but for padding, and that rows differ."""

    def check(
        ours: Mapping[str, np.ndarray],
        expected: Mapping[str, np.ndarray],
        mask: np.ndarray,
        *,
        tolerance: float = 1e-4,
    ) -> None:
        assert set(expected) <= set(ours)
        for name, value in expected.items():
            got = ours[name]
            assert got.shape == value.shape
            if value.ndim > mask.ndim or name in ("start_logits", "end_logits"):  # of tokens
                got, value = got[mask != 0], value[mask != 0]
            np.testing.assert_allclose(got, value, rtol=0, atol=tolerance)
            assert np.ptp(value, axis=0).max() > max(1, 5 * tolerance)

    return check
