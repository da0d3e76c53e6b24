"""LlamaIndex's BaseEmbedding, in an index of its own."""

import asyncio
from typing import Any

import numpy as np
from llama_index.core import VectorStoreIndex
from llama_index.core.schema import TextNode


def test_vectors(recipe: Any, folder: str, expected: Any) -> None:
    embedding = recipe("LlamaIndex").BertrtEmbedding(folder, embed_batch_size=3)
    texts = expected["texts"]
    answer = embedding.get_text_embedding_batch(texts)
    assert type(answer[0][0]) is float
    np.testing.assert_allclose(answer, expected["document"], rtol=0, atol=1e-5)
    one = embedding.get_text_embedding(texts[1])
    np.testing.assert_allclose(one, expected["document"][1], rtol=0, atol=1e-5)
    query = embedding.get_query_embedding(texts[1])
    np.testing.assert_allclose(query, expected["query"][1], rtol=0, atol=1e-5)
    later = asyncio.run(embedding.aget_query_embedding(texts[1]))
    np.testing.assert_allclose(later, expected["query"][1], rtol=0, atol=1e-5)
    later = asyncio.run(embedding.aget_text_embedding(texts[1]))
    np.testing.assert_allclose(later, expected["document"][1], rtol=0, atol=1e-5)


def test_an_index(recipe: Any, folder: str, expected: Any) -> None:
    texts = expected["texts"][:3]
    nodes = [TextNode(text=text, id_=str(i)) for i, text in enumerate(texts)]
    embedding = recipe("LlamaIndex").BertrtEmbedding(folder)
    retriever = VectorStoreIndex(nodes, embed_model=embedding).as_retriever(similarity_top_k=3)
    vectors, query = np.array(expected["document"][:3]), np.array(expected["query"][0])
    cosines = vectors @ query / np.linalg.norm(vectors, axis=1) / np.linalg.norm(query)
    found = [int(one.node.node_id) for one in retriever.retrieve(texts[0])]
    assert found == np.argsort(-cosines).tolist()
