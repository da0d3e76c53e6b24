"""Sparse vectors are those of sentence-transformers' SparseEncoder, for every kind of model."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bertrt
from bertrt.errors import InputError

pytest.importorskip("sentence_transformers")

TEXTS = [
    "the cat sat on the mat.",
    "",
    "London",
    "It is a film about food in Paris, and so on, which is unaffordable.",
    "wine " * 90,
    "a",
]
PROMPTS = {"query": "what is ", "document": "", "clue": "the cat: "}


@pytest.fixture(scope="module", autouse=True)
def small_pieces() -> Iterator[None]:
    """Pool the vocabulary of 219 tokens in three pieces."""
    from bertrt.export import sparse_model

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sparse_model, "_PIECE", 80)
        yield


@pytest.fixture(scope="module")
def make(
    make_checkpoint: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., tuple[Any, Any]]:
    """A factory: pooling, activation and settings to a SparseEncoder and bertrt's runtime."""
    from sentence_transformers import SparseEncoder
    from sentence_transformers.sparse_encoder.modules import (
        Router,
        SparseStaticEmbedding,
        SpladePooling,
        Transformer,
    )

    from bertrt.export import export

    def make(
        pooling: str, activation: str, *, routed: bool = False, device: str = "cpu", **settings: Any
    ) -> tuple[Any, Any]:
        import torch

        folder = tmp_path_factory.mktemp("splade")
        checkpoint = make_checkpoint("BertForMaskedLM")
        transformer = Transformer(str(checkpoint), transformer_task="fill-mask")
        modules: list[Any] = [transformer, SpladePooling(pooling, activation_function=activation)]
        if routed:
            weights = torch.linspace(-1, 4, len(transformer.tokenizer))[torch.randperm(219)]
            static = SparseStaticEmbedding(transformer.tokenizer, weights)
            modules = [Router.for_query_document([static], modules)]
        SparseEncoder(modules=modules, **settings).save_pretrained(str(folder / "model"))
        export(folder / "model", folder / "out", device=device)
        return SparseEncoder(str(folder / "model"), device="cpu"), bertrt.load(folder / "out")

    return make


@pytest.fixture(scope="module")
def plain(make: Callable[..., tuple[Any, Any]]) -> Iterator[tuple[Any, Any]]:
    peer, rt = make("max", "relu", prompts=PROMPTS, default_prompt_name="clue", max_active_dims=40)
    with rt:
        yield peer, rt


@pytest.fixture(scope="module")
def routed(make: Callable[..., tuple[Any, Any]]) -> Iterator[tuple[Any, Any]]:
    peer, rt = make("sum", "log1p_relu", routed=True, prompts={"query": "the ", "document": ""})
    with rt:
        yield peer, rt


def dense(vectors: list[Any], size: int = 219) -> np.ndarray:
    rows = np.zeros((len(vectors), size), np.float32)
    for row, vector in zip(rows, vectors, strict=True):
        row[vector.ids] = vector.weights
    return rows


def same(ours: list[Any], theirs: Any) -> None:
    """Check that sparse vectors are another's, with the largest entry first."""
    theirs = theirs.to_dense().numpy() if theirs.is_sparse else theirs.numpy()
    np.testing.assert_allclose(dense(ours), theirs, rtol=0, atol=1e-4)
    for vector, row in zip(ours, theirs, strict=True):
        assert (vector.ids.dtype, vector.weights.dtype) == (np.int32, np.float32)
        assert len(vector) == np.count_nonzero(row)
        assert (np.diff(vector.weights) <= 0).all()


def encode(peer: Any, kind: str | None, texts: list[str], **options: Any) -> Any:
    methods = {"query": peer.encode_query, "document": peer.encode_document, None: peer.encode}
    return methods[kind](texts, **options)


@pytest.mark.parametrize("kind", ["query", "document", None])
@pytest.mark.parametrize("model", ["plain", "routed"])
def test_vectors_of_each_kind(model: str, kind: str | None, request: Any) -> None:
    peer, rt = request.getfixturevalue(model)
    theirs = encode(peer, kind, TEXTS)
    rows = theirs.to_dense().numpy()
    assert np.abs(rows[0] - rows[3]).max() > 0.1  # the reference's answers differ among texts
    same(rt.embed_sparse(TEXTS, kind=kind), theirs)
    (alone,) = [rt.embed_sparse(TEXTS[3], kind=kind)]
    same([alone], encode(peer, kind, TEXTS[3:4]))
    assert [len(vector) for vector in rt.embed_sparse(iter(TEXTS), kind=kind)] == [
        np.count_nonzero(row) for row in rows
    ]


def test_the_kinds_differ(plain: tuple[Any, Any], routed: tuple[Any, Any]) -> None:
    for _, rt in (plain, routed):
        query, document = (rt.embed_sparse("the cat", kind=kind) for kind in ("query", "document"))
        assert np.abs(dense([query]) - dense([document])).max() > 0.1


@pytest.mark.parametrize(("pooling", "activation"), [("sum", "relu"), ("max", "log1p_relu")])
def test_poolings_on_any_device(
    make: Callable[..., tuple[Any, Any]], pooling: str, activation: str
) -> None:
    peer, rt = make(pooling, activation, device="any")
    with rt:
        same(rt.embed_sparse(TEXTS), peer.encode(TEXTS))
        mask = [[1, 1, 1, 0, 0, 0], [1, 1, 1, 1, 0, 1]]
        ids = np.array([[2, 30, 3, 0, 0, 0], [40, 41, 42, 43, 44, 45]])
        with_holes = rt.run(input_ids=ids, attention_mask=mask)["sparse_embedding"]
        other = np.where(np.array(mask) == 1, ids, 77)
        again = rt.run(input_ids=other, attention_mask=mask)["sparse_embedding"]
        # Padding tokens count nothing, wherever they are.
        np.testing.assert_allclose(with_holes, again, atol=1e-5)


def test_options(plain: tuple[Any, Any]) -> None:
    peer, rt = plain
    same(rt.embed_sparse(TEXTS, top_k=3), peer.encode(TEXTS, max_active_dims=3))
    assert all(len(vector) <= 40 for vector in rt.embed_sparse(TEXTS))  # the model's own
    same(rt.embed_sparse(TEXTS, prompt="in Paris "), peer.encode(TEXTS, prompt="in Paris "))
    same(rt.embed_sparse(TEXTS, prompt_name="query"), peer.encode(TEXTS, prompt_name="query"))
    short = rt.embed_sparse(TEXTS[3], max_length=5, top_k=219)
    assert len(short) > 0
    assert np.abs(dense([short]) - dense([rt.embed_sparse(TEXTS[3], top_k=219)])).max() > 0.1


def test_queries_without_the_graph(routed: tuple[Any, Any]) -> None:
    peer, rt = routed
    before = rt.info["truncated"]
    same(rt.embed_sparse(TEXTS, kind="query", top_k=2), peer.encode_query(TEXTS, max_active_dims=2))
    assert rt.info["truncated"] == before + 1
    assert len(rt.embed_sparse("", kind="query", prompt="")) == 0
    for wrong in (0, "1", 1.5, True):
        with pytest.raises(InputError, match=f"max_length is {wrong!r}: give a whole number of at"):
            rt.embed_sparse("the cat sat", kind="query", max_length=wrong)
    for wrong in ("none", "left", 0, 1.5, ["only_first"]):
        with pytest.raises(InputError, match=r"truncation is .*: use true, false or longest_first"):
            rt.embed_sparse("the cat sat", kind="query", truncation=wrong)
    for wrong in ("middle", "", 0, True, ["left"]):
        with pytest.raises(InputError, match=r"truncation_side is .*: use left or right"):
            rt.embed_sparse("the cat sat", kind="query", truncation_side=wrong)
    cut = rt.embed_sparse("the cat sat", kind="query", prompt="", max_length=1)
    assert rt.decode_sparse(cut) == rt.decode_sparse(
        rt.embed_sparse("the", kind="query", prompt="")
    )
    with pytest.raises(InputError, match="has 360 tokens and the limit is 64"):
        rt.embed_sparse("wine " * 90, kind="query", prompt="", truncation=False)
    with pytest.raises(InputError, match="is one text, and this is a pair"):
        rt.embed_sparse(("the cat", "sat"), kind="query")


def test_similarity_and_tokens(plain: tuple[Any, Any], routed: tuple[Any, Any]) -> None:
    for peer, rt in (plain, routed):
        queries, documents = (
            rt.embed_sparse(TEXTS[:4], kind=kind) for kind in ("query", "document")
        )
        theirs = [peer.encode_query(TEXTS[:4]), peer.encode_document(TEXTS[:4])]
        expected = peer.similarity(*theirs).numpy()
        ours = rt.similarity(queries, documents)
        assert ours.dtype == np.float32
        np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-4)
        assert rt.similarity(queries[0], documents).shape == (1, 4)
        assert rt.similarity([], documents).shape == (0, 4)
        for vector, pairs in zip(documents, peer.decode(theirs[1]), strict=True):
            decoded = rt.decode_sparse(vector)
            assert dict(decoded) == pytest.approx(dict(pairs), abs=1e-4)
        for wrong in (documents, dense(documents), dict(decoded), None, "the cat"):
            with pytest.raises(InputError, match=f"was given {type(wrong).__name__}: give one Spa"):
                rt.decode_sparse(wrong)
        with pytest.raises(InputError, match="sparse vectors are compared with ndarray"):
            rt.similarity(queries, np.zeros((1, 219)))


def test_a_call_gives_tokens(plain: tuple[Any, Any], routed: tuple[Any, Any]) -> None:
    for _, rt in (plain, routed):
        answer = rt("the cat", kind="query", top_k=4)
        json.dumps(answer)
        vector = rt.embed_sparse("the cat", kind="query", top_k=4)
        assert [(one["token_str"], one["weight"]) for one in answer] == rt.decode_sparse(vector)
        assert [one["token"] for one in answer] == vector.ids.tolist()


def test_the_batcher_gives_the_same(plain: tuple[Any, Any], routed: tuple[Any, Any]) -> None:
    import asyncio

    for _, rt in (plain, routed):
        for kind in ("query", "document"):
            expected = rt.embed_sparse(TEXTS, kind=kind)
            with rt.batcher() as batcher:
                many = batcher.submit_many("embed_sparse", TEXTS, kind=kind).result()
                alone = batcher.embed_sparse(TEXTS[0], kind=kind)
            awaited = asyncio.run(rt.aembed_sparse(TEXTS[0], kind=kind))
            np.testing.assert_allclose(dense(many.answers), dense(expected), atol=1e-5)
            for vector in (alone, awaited):
                np.testing.assert_allclose(dense([vector]), dense(expected[:1]), atol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "passage"}, "kind is 'passage': use query or document"),
        ({"top_k": 0}, "top_k is 0"),
        ({"prompt_name": "x"}, "prompt_name is 'x', and this model's prompts are"),
        ({"max_length": 65}, "reads at most 64 tokens"),
    ],
)
def test_wrong_options(plain: tuple[Any, Any], options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        plain[1].embed_sparse("the cat", **options)


def test_other_tasks(plain: tuple[Any, Any], load_artifact: Callable[..., Any]) -> None:
    with pytest.raises(InputError, match="embed needs an artifact for feature-extraction"):
        plain[1].embed("the cat")
    with pytest.raises(InputError, match="embed_sparse needs an artifact for sparse-embedding"):
        load_artifact("BertForMaskedLM").embed_sparse("the cat")
