"""infinity's generated client: vectors, ranks and labels."""

from typing import Any

import pytest
from infinity_client import AuthenticatedClient
from infinity_client.api.default import classify, embeddings, rerank
from infinity_client.models import ClassifyInput, OpenAIEmbeddingInputText, RerankInput

from compare import best_first, same
from inputs import DOCUMENTS, QUERY, TEXTS


@pytest.fixture
def client(url: str, key: str) -> AuthenticatedClient:
    return AuthenticatedClient(base_url=url, token=key, raise_on_unexpected_status=True)


def test_vectors(client: AuthenticatedClient, expected: Any) -> None:
    for options, name in (({}, "embed"), ({"dimensions": 64}, "embed_64")):
        body = OpenAIEmbeddingInputText(input_=TEXTS, model="embedder", **options)
        answer = embeddings.sync(client=client, body=body)
        same([one.embedding for one in answer.data], expected[name])
    assert answer.usage.prompt_tokens == expected["tokens"]


def test_ranks(client: AuthenticatedClient, expected: Any) -> None:
    for raw, name in ((False, "scores"), (True, "scores_raw")):
        # Without a model it sends a name that no server has.
        body = RerankInput(
            query=QUERY, documents=DOCUMENTS, return_documents=True, raw_scores=raw, top_n=3
        )
        answer = rerank.sync(client=client, body=body)
        best = best_first(expected[name])[:3]
        same([[one.index, one.relevance_score] for one in answer.results], best)
        assert [one.document for one in answer.results] == [DOCUMENTS[index] for index, _ in best]


def test_labels(client: AuthenticatedClient, expected: Any) -> None:
    for raw, name in ((False, "sentiment"), (True, "sentiment_raw")):
        body = ClassifyInput(input_=TEXTS, model="sentiment", raw_scores=raw)
        answer = classify.sync(client=client, body=body)
        labels = [[one.to_dict() for one in labels] for labels in answer.data]
        same(labels, expected[name])
