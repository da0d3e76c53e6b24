"""Scores and rankings of a cross-encoder are those of its logits in PyTorch."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

import bertrt
from bertrt.errors import InputError
from bertrt.heads.calls import BoundCall

QUERY = "who lives in london"
DOCUMENTS = [
    "Mary lives in London.",
    "",
    "the cat sat on the mat",
    "中国人 🙂 café",
    "running unable workings " * 40,
    "Mary lives in London.",
    "president",
]
# The graph's logits differ from PyTorch's by rounding, which is far below this.
ATOL = 1e-4


@pytest.fixture(scope="module")
def make(make_checkpoint: Callable[..., Path], tmp_path_factory: Any) -> Callable[..., Any]:
    """A factory: labels and changes of config.json to a runtime and the checkpoint's folder."""

    def build(labels: int = 1, **changes: Any) -> tuple[Any, Path]:
        from bertrt.export import export

        folder = make_checkpoint("BertForSequenceClassification", num_labels=labels, **changes)
        out: Path = tmp_path_factory.mktemp("reranker") / "out"
        export(folder, out)
        return bertrt.load(out, threads=1), folder

    return build


@pytest.fixture(scope="module")
def reranker(make: Callable[..., Any]) -> tuple[Any, Path]:
    runtime, folder = make()
    return runtime, folder


def logits(folder: Path, pairs: list[tuple[str, str]]) -> np.ndarray:
    """Return the logits of pairs as CrossEncoder computes them, float32 [n, labels]."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.BertForSequenceClassification.from_pretrained(folder).eval()
    inputs = tokenizer(
        [query for query, _ in pairs],
        [document for _, document in pairs],
        padding=True,
        truncation=True,
        return_tensors="pt",
    )
    with torch.inference_mode():
        result: np.ndarray = model(**inputs).logits.numpy()
    return result


def sigmoid(values: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-values))


def test_scores_of_pairs(reranker: tuple[Any, Path]) -> None:
    rt, folder = reranker
    pairs = [(QUERY, document) for document in DOCUMENTS] + [("the " * 60, "cat " * 60)]
    expected = sigmoid(logits(folder, pairs)[:, 0])
    scores = rt.score(pairs)
    assert (scores.shape, scores.dtype) == ((len(pairs),), np.float32)
    np.testing.assert_allclose(scores, expected, atol=ATOL)
    np.testing.assert_allclose(list(rt.score(iter(pairs))), expected, atol=ATOL)
    np.testing.assert_allclose(
        rt.score([list(pair) for pair in pairs], activation="identity"),
        logits(folder, pairs)[:, 0],
        atol=ATOL,
    )


def test_one_pair_has_one_score(reranker: tuple[Any, Path]) -> None:
    rt, folder = reranker
    score = rt.score((QUERY, DOCUMENTS[0]))
    assert type(score) is float
    expected = sigmoid(logits(folder, [(QUERY, DOCUMENTS[0])]))[0, 0]
    assert score == pytest.approx(expected, abs=ATOL)
    assert rt.score([QUERY, DOCUMENTS[0]]) == score
    assert rt.score([]).shape == (0,)


def test_a_ranking(reranker: tuple[Any, Path]) -> None:
    rt, folder = reranker
    scores = sigmoid(logits(folder, [(QUERY, document) for document in DOCUMENTS])[:, 0])
    # Two documents are equal, and stay in their order.
    expected = sorted(range(len(DOCUMENTS)), key=lambda index: (-round(scores[index], 5), index))
    ranked = rt.rank(QUERY, DOCUMENTS, return_documents=True)
    assert [entry["corpus_id"] for entry in ranked] == expected
    for entry in ranked:
        assert entry["text"] == DOCUMENTS[entry["corpus_id"]]
        assert entry["score"] == pytest.approx(scores[entry["corpus_id"]], abs=ATOL)
    json.dumps(ranked)
    short = rt.rank(QUERY, tuple(DOCUMENTS), top_k=2)
    assert short == [{k: entry[k] for k in ("corpus_id", "score")} for entry in ranked[:2]]
    assert rt.rank(QUERY, []) == []


def test_long_pairs_are_cut(reranker: tuple[Any, Path]) -> None:
    rt, _ = reranker
    pair = ("the " * 70, "cat " * 70)
    with pytest.raises(InputError, match="the limit is 64"):
        rt.score(pair, truncation=False)
    with pytest.raises(InputError, match="cannot be truncated"):
        rt.score(pair, truncation="only_second")
    # Both texts are equally long, so both lose as much.
    kept = ("the " * 30, "cat " * 31)
    assert rt.score(pair) == pytest.approx(rt.score(kept), abs=ATOL)


@pytest.mark.parametrize(
    ("changes", "activation"),
    [
        ({}, "sigmoid"),
        ({"sentence_transformers": {"activation_fn": "torch.nn.modules.linear.Identity"}}, None),
        ({"sbert_ce_default_activation_function": "torch.nn.modules.linear.Identity"}, None),
        ({"sentence_transformers": {"activation_fn": "torch.nn.modules.activation.Tanh"}}, "tanh"),
        ({"sbert_ce_default_activation_function": "torch.nn.modules.activation.ReLU"}, "relu"),
    ],
)
def test_the_models_own_activation(
    make: Callable[..., Any], changes: dict[str, Any], activation: str | None
) -> None:
    rt, folder = make(**changes)
    pairs = [(QUERY, document) for document in DOCUMENTS]
    raw = logits(folder, pairs)[:, 0]
    functions = {"sigmoid": sigmoid, "tanh": np.tanh, "relu": lambda x: np.maximum(x, 0)}
    expected = functions[activation](raw) if activation else raw
    np.testing.assert_allclose(rt.score(pairs), expected, atol=ATOL)
    # A call of the runtime stays transformers' pipeline.
    assert rt(pairs[:1])[0]["score"] == pytest.approx(sigmoid(raw)[0], abs=ATOL)


def test_several_labels(make: Callable[..., Any]) -> None:
    rt, folder = make(3)
    pairs = [(QUERY, document) for document in DOCUMENTS]
    expected = logits(folder, pairs)
    np.testing.assert_allclose(rt.score(pairs), expected, atol=ATOL)
    assert rt.score(pairs[0]).shape == (3,)
    with pytest.raises(
        InputError, match=r"rank needs a model with one label.* has 3: score the pairs"
    ):
        rt.rank(QUERY, DOCUMENTS)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda rt: rt.score("alone"), "an input is 'alone': give a pair"),
        (lambda rt: rt.score([("a", "b"), ("a",)]), "give a pair of strings"),
        (lambda rt: rt.score([("a", 3)]), "give a pair of strings"),
        (lambda rt: rt.score(("a", "b"), activation="gelu"), "activation is 'gelu': use one of"),
        (lambda rt: rt.rank(3, ["a"]), "the query is 3"),
        (lambda rt: rt.rank("a", "b"), "documents is 'b': give a list"),
        (lambda rt: rt.rank("a", ["b", None]), "documents"),
        (lambda rt: rt.rank("a", ["b"], top_k=0), "top_k is 0"),
        (lambda rt: rt.rank("a", ["b"], return_documents=1), "return_documents is 1"),
        (lambda rt: rt.rank("a", ["b"], progress=3), "progress is 3"),
    ],
)
def test_refuses(reranker: tuple[Any, Path], call: Callable[[Any], Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        call(reranker[0])


def test_another_task_is_refused(load_artifact: Callable[..., Any]) -> None:
    rt = load_artifact("BertForMaskedLM")
    with pytest.raises(InputError, match=r"rank .* or multi-vec.*fill-m.* or a ColBERT"):
        rt.rank("a", ["b"])
    with pytest.raises(InputError, match="score needs an artifact for text-classification"):
        rt.score(("a", "b"))


def test_a_request_of_one_pair(reranker: tuple[Any, Path]) -> None:
    rt, _ = reranker
    call = rt._calls.parse_score({}, "score")
    for inputs, expected in (((QUERY, "cat"), float), ([(QUERY, "cat")], np.ndarray)):
        bound = BoundCall.read_one(call, inputs)
        (request,) = bound.requests(rt._runner)
        arrays = rt.tokenize(QUERY, "cat")
        sample = {"logits": rt.run(**arrays)["logits"][0]}
        answer = bound.answer([request.finish([sample])])
        assert isinstance(answer, expected)
        assert float(np.asarray(answer).reshape(())) == pytest.approx(rt.score((QUERY, "cat")))
