"""Folders that sentence-transformers saves of other encoders than BERT, beside itself."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

import bertrt
from bertrt.export import export

pytest.importorskip("sentence_transformers", minversion="6.2")
from sentence_transformers import (
    CrossEncoder,
    MultiVectorEncoder,
    SentenceTransformer,
    SparseEncoder,
)
from sentence_transformers.base.modules import Transformer
from sentence_transformers.base.modules.dense import Dense
from sentence_transformers.multi_vector_encoder.modules import MultiVectorMask
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling
from sentence_transformers.sparse_encoder.modules import (
    Router,
    SparseStaticEmbedding,
    SpladePooling,
)

HIDDEN = 32
TEXTS = [
    "The cat sat on the mat.",
    "",
    "who lives in London?",
    "the big dog ran in the city, and the cat sat " * 6,
    *(" ".join("the cat sat on a mat".split()[: i % 6 + 1]) for i in range(8)),
]
# Both compute in float32, and in another order.
ATOL = 1e-5
MakeEncoder = Callable[..., Path]


def dense(out: int, **options: Any) -> Dense:
    torch.manual_seed(out)
    layer = Dense(HIDDEN, out, **options)
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return layer


# A model type to its pooling, its later modules and its settings.
VECTORS: dict[str, tuple[list[str], list[Any], dict[str, Any]]] = {
    "roberta": (
        ["cls"],
        [dense(HIDDEN, activation_function=torch.nn.Tanh()), Normalize()],
        {"prompts": {"query": "who is ", "document": ""}},
    ),
    "xlm-roberta": (["mean"], [Normalize()], {"prompts": {"query": "the ", "document": "a "}}),
    "distilbert": (["max", "mean"], [], {"similarity_fn_name": "dot"}),
    "mpnet": (["mean"], [Normalize()], {}),
    "albert": (["mean"], [dense(9, activation_function=torch.nn.Identity())], {}),
}


@pytest.mark.parametrize("model_type", VECTORS)
def test_vectors(make_encoder: MakeEncoder, model_type: str, tmp_path: Path) -> None:
    pooling, modules, settings = VECTORS[model_type]
    body = Transformer(str(make_encoder(model_type, "Model")))
    saved = SentenceTransformer(
        modules=[body, Pooling(HIDDEN, pooling_mode=pooling), *modules], device="cpu", **settings
    )
    folder = tmp_path / "model"
    saved.save(str(folder))
    # As versions before 5.4 saved the limit.
    (folder / "sentence_bert_config.json").unlink()
    name = "xlm-roberta" if model_type == "xlm-roberta" else "roberta"
    (folder / f"sentence_{name}_config.json").write_text(json.dumps({"max_seq_length": 20}))
    theirs = SentenceTransformer(str(folder), device="cpu")
    assert theirs.max_seq_length == 20
    export(folder, tmp_path / "out")
    with bertrt.load(tmp_path / "out", threads=1) as ours:
        for kind in ("query", "document"):
            expected = getattr(theirs, f"encode_{kind}")(TEXTS)
            assert np.abs(expected[0] - expected[2]).max() > 0.05
            got = getattr(ours, f"embed_{kind}")(TEXTS)
            np.testing.assert_allclose(got, expected, rtol=0, atol=ATOL)
        assert ours.info["truncated"] > 0


@pytest.mark.parametrize("model_type", ["roberta", "distilbert", "electra"])
def test_cross_encoders(make_encoder: MakeEncoder, model_type: str, tmp_path: Path) -> None:
    """A RoBERTa's pair has two separators in its middle, and no token types."""
    folder = tmp_path / "model"
    checkpoint = make_encoder(model_type, "ForSequenceClassification", num_labels=1)
    CrossEncoder(str(checkpoint), device="cpu").save_pretrained(str(folder))
    theirs = CrossEncoder(str(folder), device="cpu")
    pairs = [("who lives in london", text) for text in TEXTS]
    expected = theirs.predict(pairs)
    assert np.ptp(expected) > 0.02
    export(folder, tmp_path / "out")
    with bertrt.load(tmp_path / "out", threads=1) as ours:
        np.testing.assert_allclose(ours.score(pairs), expected, rtol=0, atol=ATOL)
        ranked = ours.rank(pairs[0][0], TEXTS[:4])
        order = [entry["corpus_id"] for entry in theirs.rank(pairs[0][0], TEXTS[:4])]
        assert [entry["corpus_id"] for entry in ranked] == order


@pytest.fixture(params=["roberta", "distilbert"])
def splade(
    request: pytest.FixtureRequest, make_encoder: MakeEncoder, tmp_path: Path
) -> Iterator[tuple[Any, Any]]:
    """bertrt's runtime and a SparseEncoder: of DistilBERT one whose queries need no inference."""
    body = Transformer(
        str(make_encoder(request.param, "ForMaskedLM")), transformer_task="fill-mask"
    )
    modules: list[Any] = [body, SpladePooling("max")]
    if request.param == "distilbert":
        weights = torch.linspace(-1, 4, len(body.tokenizer))
        modules = [
            Router.for_query_document([SparseStaticEmbedding(body.tokenizer, weights)], modules)
        ]
    SparseEncoder(modules=modules).save_pretrained(str(tmp_path / "model"))
    export(tmp_path / "model", tmp_path / "out")
    with bertrt.load(tmp_path / "out", threads=1) as ours:
        yield ours, SparseEncoder(str(tmp_path / "model"), device="cpu")


def test_sparse_vectors(splade: tuple[Any, Any]) -> None:
    ours, theirs = splade
    assert ours.info["task"] == "sparse-embedding"
    for kind in ("query", "document"):
        expected = getattr(theirs, f"encode_{kind}")(TEXTS).to_dense().numpy()
        assert np.abs(expected[0] - expected[2]).max() > 0.1
        rows = np.zeros_like(expected)
        for row, vector in zip(rows, ours.embed_sparse(TEXTS, kind=kind), strict=True):
            row[vector.ids] = vector.weights
        np.testing.assert_allclose(rows, expected, rtol=0, atol=1e-4)


def save_own(checkpoint: Path, folder: Path) -> None:
    """Write what MultiVectorEncoder saves, with queries that are filled up with mask tokens."""
    expansion = {"strategy": "fixed", "attend": False, "length": 12}
    modules = [
        Transformer(str(checkpoint), query_expansion=expansion, document_length=30),
        dense(7, bias=False, module_input_name="token_embeddings"),
        MultiVectorMask(skiplist_words=[".", "!"]),
        Normalize(module_input_name="token_embeddings"),
    ]
    MultiVectorEncoder(modules=modules, device="cpu").save(str(folder))


def save_stanford(checkpoint: Path, folder: Path) -> None:
    """Write Stanford's form, with a projection beside the encoder's own prefix."""
    transformers.AutoTokenizer.from_pretrained(checkpoint).save_pretrained(folder)
    config = json.loads((checkpoint / "config.json").read_text())
    base = "roberta." if "roberta" in config["model_type"] else "distilbert."
    weights = load_file(checkpoint / "model.safetensors")
    weights = {f"{base}{name}": tensor for name, tensor in weights.items()}
    weights["linear.weight"] = dense(7, bias=False).linear.weight.detach()
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    config["architectures"] = ["HF_ColBERT"]
    (folder / "config.json").write_text(json.dumps(config))
    settings = {"query_maxlen": 12, "doc_maxlen": 30, "query_token_id": "b", "doc_token_id": "d"}
    (folder / "artifact.metadata").write_text(json.dumps({**settings, "dim": 7}))


@pytest.mark.parametrize(
    ("model_type", "save"),
    [("roberta", save_own), ("distilbert", save_own), ("xlm-roberta", save_stanford)],
    ids=["roberta", "distilbert", "xlm-roberta-stanford"],
)
def test_token_vectors(
    make_encoder: MakeEncoder,
    model_type: str,
    save: Callable[[Path, Path], None],
    tmp_path: Path,
) -> None:
    """A mask token stands for what fills a query up, and has a position of its own."""
    save(make_encoder(model_type, "Model"), tmp_path / "model")
    theirs = MultiVectorEncoder(str(tmp_path / "model"), device="cpu")
    export(tmp_path / "model", tmp_path / "out")
    with bertrt.load(tmp_path / "out", threads=1) as ours:
        for kind in ("query", "document"):
            expected = getattr(theirs, f"encode_{kind}")(TEXTS, convert_to_numpy=True)
            got = ours.embed_tokens(TEXTS, kind=kind)
            assert [one.shape for one in got] == [one.shape for one in expected]
            for one, other in zip(got, expected, strict=True):
                np.testing.assert_allclose(one, other, rtol=0, atol=ATOL)
            assert np.abs(expected[0][1] - expected[2][1]).max() > 0.1


def test_the_hubs_layout_has_the_encoders_own_config(
    make_encoder: MakeEncoder, tmp_path: Path
) -> None:
    """DistilBERT's fields have other names than BERT's."""
    checkpoint = make_encoder("distilbert", "ForSequenceClassification")
    export(checkpoint, tmp_path / "out", layout="hub")
    theirs, ours = (
        transformers.AutoConfig.from_pretrained(folder) for folder in (checkpoint, tmp_path / "out")
    )
    assert type(ours) is type(theirs)
    ignored = {"dtype", "transformers_version", "_name_or_path"}
    for name, value in theirs.to_dict().items():
        assert name in ignored or ours.to_dict()[name] == value, name
    model = transformers.AutoModelForSequenceClassification.from_pretrained(checkpoint).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    inputs = tokenizer(TEXTS[:4], padding=True, truncation=True, return_tensors="pt")
    with torch.inference_mode():
        expected = model(**inputs).logits.numpy()
    with bertrt.load(tmp_path / "out", threads=1) as rt:
        logits = rt.run(**{name: value.numpy() for name, value in inputs.items()})["logits"]
    np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-4)


def test_zero_shot_by_the_labels_of_roberta_mnli(make_encoder: MakeEncoder, tmp_path: Path) -> None:
    names = ["CONTRADICTION", "NEUTRAL", "ENTAILMENT"]
    folder = make_encoder(
        "roberta",
        "ForSequenceClassification",
        id2label=dict(enumerate(names)),
        label2id={name: number for number, name in enumerate(names)},
    )
    export(folder, tmp_path / "out", task="zero-shot-classification")
    pipe = transformers.pipeline("zero-shot-classification", model=str(folder), device="cpu")
    with bertrt.load(tmp_path / "out", threads=1, task="zero-shot-classification") as rt:
        for text in ("the big dog ran", "who lives in london?"):
            expected = pipe(text, ["city", "dog", "mat"])
            got = rt(text, ["city", "dog", "mat"])
            assert got["labels"] == expected["labels"]
            np.testing.assert_allclose(got["scores"], expected["scores"], rtol=0, atol=1e-4)
            assert np.ptp(expected["scores"]) > 0.01
