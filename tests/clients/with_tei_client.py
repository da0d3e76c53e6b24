"""tei-client: what a server is, its prompts and tokens, vectors, labels and ranks."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from tei_client import HttpClient
from tei_client.models import ModelType, TruncationDirection

from compare import best_first, same
from inputs import DOCUMENTS, LONG, PAIR, QUERY, TEXTS


@pytest.fixture
def client(url: str, key: str) -> Callable[[str], HttpClient]:
    """A factory: the name of a model to a client of it."""
    headers = {"Authorization": f"Bearer {key}"}
    return lambda name: HttpClient(f"{url}/models/{name}", headers=headers)


def test_info(client: Any) -> None:
    assert client("embedder").health()
    info = client("embedder").info()
    assert info.server_model_metadata.pooling == "mean"
    assert info.max_input_length == 128
    assert client("embedder").model_type == ModelType.Embedding
    assert client("reranker").model_type == ModelType.Reranker
    labels = client("sentiment").info().server_model_metadata
    assert labels.id2label == {"0": "negative", "1": "neutral", "2": "positive"}
    assert labels.label2id == {"negative": 0, "neutral": 1, "positive": 2}


def test_names_of_prompts(client: Any) -> None:
    # It asks for an unknown one, and reads the others in the error.
    assert client("embedder").prompt_names() == ["query", "document"]
    assert client("reranker").prompt_names() == [""]


def test_tokens(client: Any, expected: Any) -> None:
    embedder = client("embedder")
    tokens = embedder.tokenize(TEXTS)
    ids = [one.get_ids() for one in tokens]
    assert ids == expected["ids"]
    assert embedder.decode(ids, skip_special_tokens=False) == expected["decoded"]
    john = tokens[1].tokens[1]
    assert (john.text, john.start, john.stop) == ("John", 0, 4)
    plain = embedder.tokenize(TEXTS, add_special_tokens=False)
    assert [one.get_ids() for one in plain] == [one[1:-1] for one in expected["ids"]]


def test_vectors(client: Any, expected: Any) -> None:
    embedder = client("embedder")
    same(embedder.embed(TEXTS), expected["embed"])
    same(embedder.embed(TEXTS, normalize=False), expected["embed_raw"])
    same(embedder.embed(TEXTS, prompt_name="query"), expected["embed_query"])
    same(embedder.embed([one[1:-1] for one in expected["ids"]]), expected["embed_ids"])
    same(embedder.embed_all(TEXTS), expected["hidden"])
    same(asyncio.run(embedder.async_embed(TEXTS)), expected["embed"])


def test_a_text_that_is_too_long(client: Any, expected: Any) -> None:
    embedder = client("embedder")
    same(embedder.embed(LONG, truncate=True), [expected["embed_beginning"]])
    # The client does not look at the status.
    assert "tokens" in embedder.embed(LONG, truncate=False)["error"]


def test_the_end_of_a_text(client: Any, expected: Any) -> None:
    left = {"truncate": True, "truncation_direction": TruncationDirection.Left}
    same(client("embedder").embed(LONG, **left), [expected["embed_end"]])


def test_labels(client: Any, expected: Any) -> None:
    def labels(answer: Any) -> Any:
        return [[score.model_dump() for score in one.scores] for one in answer]

    same(labels(client("sentiment").classify(TEXTS)), expected["sentiment"])
    raw = client("sentiment").classify(TEXTS, raw_scores=True)
    same(labels(raw), expected["sentiment_raw"])
    same(labels(client("nli").classify(PAIR)), [expected["nli"]])


def test_a_multi_vector_model(serve: Callable[..., Any], key: str, expected: Any) -> None:
    headers = {"Authorization": f"Bearer {key}"}
    colbert = HttpClient(serve("colbert").url, headers=headers)
    assert colbert.model_type == ModelType.Embedding
    same(colbert.embed_all(TEXTS), expected["colbert"])


def test_ranks(client: Any, expected: Any) -> None:
    for raw, name in ((False, "scores"), (True, "scores_raw")):
        answer = client("reranker").rerank(QUERY, DOCUMENTS, raw_scores=raw, return_text=True)
        best = best_first(expected[name])
        same([[one.index, one.score] for one in answer.ranks], best)
        assert [one.text for one in answer.ranks] == [DOCUMENTS[index] for index, _ in best]
