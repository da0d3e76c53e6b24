"""Cohere's clients, of both versions of its API: ranks and scores."""

from typing import Any

import cohere
import pytest

from compare import best_first, same
from inputs import DOCUMENTS, QUERY


@pytest.fixture(params=[cohere.ClientV2, cohere.Client])
def client(request: pytest.FixtureRequest, url: str, key: str) -> Any:
    return request.param(api_key=key, base_url=url)


def ranks(answer: Any) -> list[list[Any]]:
    return [[one.index, one.relevance_score] for one in answer.results]


@pytest.mark.parametrize("top_n", [None, 1, 2, 8000])
def test_ranks(client: Any, top_n: int | None, expected: Any) -> None:
    answer = client.rerank(model="reranker", query=QUERY, documents=DOCUMENTS, top_n=top_n)
    same(ranks(answer), best_first(expected["scores"])[:top_n])


def test_the_order_of_documents(client: Any, expected: Any) -> None:
    order = [2, 0, 3, 1]
    shuffled = [DOCUMENTS[place] for place in order]
    answer = client.rerank(model="reranker", query=QUERY, documents=shuffled)
    found = [[order[index], score] for index, score in ranks(answer)]
    same(found, best_first(expected["scores"]))


def test_documents_as_objects(url: str, key: str, expected: Any) -> None:
    # Of the first version, which also gives documents back.
    client = cohere.Client(api_key=key, base_url=url)
    documents = [{"text": document} for document in DOCUMENTS]
    answer = client.rerank(
        model="reranker", query=QUERY, documents=documents, return_documents=True
    )
    same(ranks(answer), best_first(expected["scores"]))
    for one in answer.results:
        assert one.document.text == DOCUMENTS[one.index]


def test_errors(client: Any, url: str) -> None:
    with pytest.raises(cohere.UnprocessableEntityError) as raised:
        client.rerank(model="reranker", query=QUERY, documents=DOCUMENTS, top_n=-1)
    assert "`top_n`" in raised.value.body["message"]
    wrong = type(client)(api_key="wrong", base_url=url)
    with pytest.raises(cohere.UnauthorizedError):
        wrong.rerank(model="reranker", query=QUERY, documents=DOCUMENTS)
