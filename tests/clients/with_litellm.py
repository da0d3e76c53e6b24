"""litellm: its prefixes for servers of one's own, against one server."""

from typing import Any

import litellm
import pytest

from compare import best_first, same
from inputs import DOCUMENTS, QUERY, TEXTS

EMBED = {
    "openai/embedder": ("/v1", {}),
    "hosted_vllm/embedder": ("/v1", {}),
    "infinity/embedder": ("", {}),
    # It asks the hub for a model's task unless it is told.
    "huggingface/embedder": ("/embed", {"input_type": "embed"}),
}
RERANK = {
    "hosted_vllm/reranker": ("/v1", 3),
    "infinity/reranker": ("", 3),
    # TEI has no `top_n`, and litellm does not cut the answer.
    "huggingface/reranker": ("", 4),
}


@pytest.mark.parametrize("model", EMBED)
def test_vectors(url: str, key: str, model: str, expected: Any) -> None:
    path, options = EMBED[model]
    answer = litellm.embedding(
        model=model, input=TEXTS, api_base=f"{url}{path}", api_key=key, **options
    )
    same([one["embedding"] for one in answer.data], expected["embed"])


@pytest.mark.parametrize("model", RERANK)
def test_ranks(url: str, key: str, model: str, expected: Any) -> None:
    path, count = RERANK[model]
    answer = litellm.rerank(
        model=model,
        query=QUERY,
        documents=DOCUMENTS,
        top_n=3,
        return_documents=True,
        api_base=f"{url}{path}",
        api_key=key,
    )
    best = best_first(expected["scores"])[:count]
    same([[one["index"], one["relevance_score"]] for one in answer.results], best)
    for one in answer.results:
        assert one["document"]["text"] == DOCUMENTS[one["index"]]


def test_a_wrong_key(url: str) -> None:
    with pytest.raises(litellm.AuthenticationError):
        litellm.embedding(
            model="openai/embedder", input=TEXTS, api_base=f"{url}/v1", api_key="wrong"
        )
