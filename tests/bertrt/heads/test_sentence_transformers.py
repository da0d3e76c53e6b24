"""Vectors, ranks and scores beside sentence-transformers itself, on models that it saved."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
import torch
import transformers

import bertrt
from bertrt.export import export

pytest.importorskip("sentence_transformers", minversion="6.2")
from sentence_transformers import CrossEncoder, SentenceTransformer
from sentence_transformers.sentence_transformer.modules import (
    Dense,
    LayerNorm,
    Normalize,
    Pooling,
    Transformer,
)

HIDDEN = 32
TEXTS = [
    "Mary lives in London.",
    "",
    "who is the president",
    "中国人 café",
    "the cat sat on the mat " * 20,
    *(" ".join("the cat sat on a mat".split()[: i % 6 + 1]) for i in range(8)),
]
# Both compute in float32, and in another order.
ATOL = 1e-5
Save = Callable[..., Path]


def dense(size: int, out: int, activation: torch.nn.Module, **options: Any) -> Dense:
    torch.manual_seed(out)
    layer = Dense(size, out, activation_function=activation, **options)
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return layer


def norm(size: int) -> LayerNorm:
    torch.manual_seed(size)
    layer = LayerNorm(size)
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter)
    return layer


MODELS: dict[str, tuple[list[str], list[Any], dict[str, Any]]] = {
    "bge": (["cls"], [Normalize()], {"prompts": {"query": "the president : "}}),
    "e5": (["mean"], [Normalize()], {"prompts": {"query": "who ", "document": "the "}}),
    "dot": (["cls"], [], {"similarity_fn_name": "dot"}),
    "labse": (["cls"], [dense(HIDDEN, HIDDEN, torch.nn.Tanh()), Normalize()], {}),
    "projected": (
        ["mean", "max"],
        [dense(2 * HIDDEN, 9, torch.nn.GELU()), norm(9), Normalize()],
        {"truncate_dim": 5, "similarity_fn_name": "euclidean"},
    ),
    "residual": (
        ["weightedmean"],
        [dense(HIDDEN, 7, torch.nn.Identity(), bias=False, use_residual=True)],
        {"similarity_fn_name": "manhattan"},
    ),
    "all": (
        ["lasttoken", "mean_sqrt_len_tokens", "max", "cls"],
        [],
        {"prompts": {"q": "who is "}, "default_prompt_name": "q"},
    ),
}


@pytest.fixture
def save(make_checkpoint: Callable[..., Path], tmp_path: Path) -> Save:
    """A factory of folders that sentence-transformers saved."""

    def make(pooling: list[str], modules: list[Any], settings: dict[str, Any]) -> Path:
        transformer = Transformer(str(make_checkpoint("BertModel")))
        model = SentenceTransformer(
            modules=[transformer, Pooling(HIDDEN, pooling_mode=pooling), *modules],
            device="cpu",
            **settings,
        )
        model.max_seq_length = 24
        model.save(str(tmp_path / "model"))
        return tmp_path / "model"

    return make


@pytest.mark.parametrize("name", MODELS)
def test_vectors(save: Save, name: str, tmp_path: Path) -> None:
    folder = save(*MODELS[name])
    # What is not saved has to be given again.
    dimensions = MODELS[name][2].get("truncate_dim")
    theirs = SentenceTransformer(str(folder), device="cpu", truncate_dim=dimensions)
    export(folder, tmp_path / "out", task="feature-extraction")
    with bertrt.load(tmp_path / "out", threads=1) as ours:
        if dimensions is None:
            for method in ("encode_query", "encode_document"):
                expected = getattr(theirs, method)(TEXTS)
                got = getattr(ours, method.replace("encode", "embed"))(TEXTS)
                np.testing.assert_allclose(got, expected, rtol=0, atol=ATOL)
        vectors = ours.embed(TEXTS)
        expected = theirs.encode(TEXTS)
        np.testing.assert_allclose(vectors[:, :dimensions], expected, rtol=0, atol=ATOL)
        np.testing.assert_allclose(ours.embed(TEXTS[0]), vectors[0], rtol=0, atol=ATOL)
        similarity = theirs.similarity(expected[:3], expected).numpy()
        np.testing.assert_allclose(
            ours.similarity(expected[:3], expected), similarity, rtol=0, atol=10 * ATOL
        )
        assert ours.info["truncated"] > 0


def test_a_unigram_tokenizer(tmp_path: Path) -> None:
    """multilingual-e5-small and paraphrase-multilingual-MiniLM are BERTs with such a tokenizer."""
    words = ["the cat sat on the mat", "wer wohnt in Berlin?", "中国人在北京", "Où est-il ?"]
    raw = tokenizers.Tokenizer(tokenizers.models.Unigram())
    raw.normalizer = tokenizers.normalizers.NFKC()
    raw.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace()
    raw.decoder = tokenizers.decoders.Metaspace()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    raw.train_from_iterator(
        words * 20,
        tokenizers.trainers.UnigramTrainer(
            vocab_size=120, special_tokens=special, unk_token="<unk>", show_progress=False
        ),
    )
    raw.post_processor = tokenizers.processors.TemplateProcessing(
        single="<s> $A </s>",
        pair="<s> $A </s> </s> $B </s>",
        special_tokens=[("<s>", 0), ("</s>", 2)],
    )
    folder = tmp_path / "transformer"
    names = dict(zip(("bos", "pad", "eos", "unk", "mask"), special, strict=True))
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=raw,
        model_max_length=40,
        cls_token="<s>",
        sep_token="</s>",
        **{f"{role}_token": token for role, token in names.items()},
    ).save_pretrained(folder)
    torch.manual_seed(11)
    config = transformers.BertConfig(
        vocab_size=raw.get_vocab_size(),
        hidden_size=HIDDEN,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=37,
        max_position_embeddings=64,
        type_vocab_size=2,
        pad_token_id=1,
        initializer_range=0.3,
    )
    transformers.BertModel(config).save_pretrained(folder)
    modules = [Transformer(str(folder)), Pooling(HIDDEN, pooling_mode="mean"), Normalize()]
    theirs = SentenceTransformer(modules=modules, device="cpu")
    theirs.save(str(tmp_path / "model"))
    export(tmp_path / "model", tmp_path / "out", task="feature-extraction")
    texts = [*words, "the mat the cat in Berlin 北京 " * 9, "", "unknown \u00df words!"]
    with bertrt.load(tmp_path / "out", threads=1) as ours:
        ids = theirs.tokenizer(texts, truncation=True, max_length=40)["input_ids"]
        assert [ours.tokenizer.encode(text, truncation=True).ids for text in texts] == ids
        np.testing.assert_allclose(ours.embed(texts), theirs.encode(texts), rtol=0, atol=ATOL)


QUERY = "who lives in london"
DOCUMENTS = ["Mary lives in London.", "", "a cat", "the president sat on the mat " * 12, "london"]


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"activation_fn": torch.nn.Identity()},
        {"max_length": 12, "prompts": {"q": "the cat "}, "default_prompt_name": "q"},
        {"max_seq_length": 10},
    ],
)
def test_ranks_and_scores(
    make_checkpoint: Callable[..., Path], tmp_path: Path, settings: dict[str, Any]
) -> None:
    settings = dict(settings)
    checkpoint = make_checkpoint("BertForSequenceClassification", num_labels=1)
    limit = settings.pop("max_seq_length", None)
    CrossEncoder(str(checkpoint), device="cpu", **settings).save_pretrained(str(tmp_path / "model"))
    if limit is not None:
        # As versions before 5.4 saved it.
        path = tmp_path / "model" / "sentence_bert_config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "max_seq_length": limit}))
    theirs = CrossEncoder(str(tmp_path / "model"), device="cpu")
    export(tmp_path / "model", tmp_path / "out", task="text-classification")
    pairs = [(QUERY, document) for document in DOCUMENTS]
    with bertrt.load(tmp_path / "out", threads=1) as ours:
        np.testing.assert_allclose(ours.score(pairs), theirs.predict(pairs), rtol=0, atol=ATOL)
        for options in ({}, {"top_k": 2, "return_documents": True}):
            expected = theirs.rank(QUERY, DOCUMENTS, **options)
            got = ours.rank(QUERY, DOCUMENTS, **options)
            for one, other in zip(got, expected, strict=True):
                assert one["corpus_id"] == other["corpus_id"]
                assert one.get("text") == other.get("text")
                assert abs(one["score"] - float(other["score"])) <= ATOL
        for options in ({"prompt": "a "}, {"prompt": ""}):
            expected = theirs.predict(pairs, **options)
            np.testing.assert_allclose(ours.score(pairs, **options), expected, rtol=0, atol=ATOL)
