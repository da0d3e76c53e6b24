"""LlamaIndex: vectors and ranks of TEI, and ranks of Jina."""

import asyncio
from typing import Any

import pytest
from llama_index.core.schema import NodeWithScore, QueryBundle, TextNode
from llama_index.embeddings.text_embeddings_inference import TextEmbeddingsInference
from llama_index.postprocessor.jinaai_rerank import JinaRerank
from llama_index.postprocessor.tei_rerank import TextEmbeddingInference as Rerank

from compare import best_first, same
from inputs import DOCUMENTS, LONG, QUERY, TEXTS


def nodes(texts: list[str]) -> list[NodeWithScore]:
    return [NodeWithScore(node=TextNode(text=text), score=0.0) for text in texts]


def test_vectors(url: str, key: str, expected: Any) -> None:
    embedder = TextEmbeddingsInference(model_name="embedder", base_url=url, auth_token=key)
    # Three requests, of at most ten texts.
    same(embedder.get_text_embedding_batch(TEXTS * 5), expected["embed"] * 5)
    asked = asyncio.run(embedder.aget_text_embedding_batch(TEXTS * 5))
    same(asked, expected["embed"] * 5)
    same(embedder.get_query_embedding(TEXTS[2]), expected["embed"][2])


def test_ranks_of_tei(url: str, key: str, expected: Any) -> None:
    # This one sends the key without "Bearer" unless it is written there.
    rerank = Rerank(base_url=url, auth_token=key, top_n=3)
    ranked = rerank.postprocess_nodes(nodes([*DOCUMENTS, LONG]), query_str=QUERY)
    scores = [*expected["scores"], expected["score_long"]]
    best = best_first(scores, [*DOCUMENTS, LONG])[:3]
    same([[one.text, one.score] for one in ranked], best)
    alone = rerank.postprocess_nodes(nodes([LONG]), query_str=QUERY)
    same(alone[0].score, expected["score_long"])


def test_ranks_of_jina(url: str, key: str, expected: Any) -> None:
    rerank = JinaRerank(base_url=f"{url}/v1", api_key=key, model="reranker", top_n=2)
    ranked = rerank.postprocess_nodes(nodes(DOCUMENTS), QueryBundle(QUERY))
    best = best_first(expected["scores"], DOCUMENTS)[:2]
    same([[one.text, one.score] for one in ranked], best)
    with pytest.raises(RuntimeError, match="top_n"):
        JinaRerank(base_url=f"{url}/v1", api_key=key, model="reranker", top_n=0).postprocess_nodes(
            nodes(DOCUMENTS), QueryBundle(QUERY)
        )
