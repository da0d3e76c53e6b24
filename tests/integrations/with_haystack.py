"""Haystack's components, in a pipeline that is saved and read again."""

from typing import Any

import numpy as np
from haystack import Document, Pipeline
from haystack.components.retrievers.in_memory import InMemoryEmbeddingRetriever
from haystack.document_stores.in_memory import InMemoryDocumentStore


def test_vectors(recipe: Any, folder: str, expected: Any) -> None:
    found = recipe("Haystack")
    documents = [Document(content=text or None, meta={"n": 1}) for text in expected["texts"]]
    answer = found.BertrtDocumentEmbedder(folder).run(documents)["documents"]
    vectors = [document.embedding for document in answer]
    np.testing.assert_allclose(vectors, expected["document"], rtol=0, atol=1e-5)
    assert [one.meta for one in answer] == [one.meta for one in documents]
    assert [one.id for one in answer] == [one.id for one in documents]
    assert documents[0].embedding is None
    query = found.BertrtTextEmbedder(folder).run(expected["texts"][1])["embedding"]
    np.testing.assert_allclose(query, expected["query"][1], rtol=0, atol=1e-5)


def test_a_pipeline(recipe: Any, folder: str, expected: Any) -> None:
    found, texts = recipe("Haystack"), expected["texts"][:3]
    store = InMemoryDocumentStore(embedding_similarity_function="cosine")
    documents = [Document(content=text) for text in texts]
    store.write_documents(found.BertrtDocumentEmbedder(folder).run(documents)["documents"])
    pipeline = Pipeline()
    pipeline.add_component("embedder", found.BertrtTextEmbedder(folder))
    pipeline.add_component("retriever", InMemoryEmbeddingRetriever(store))
    pipeline.connect("embedder.embedding", "retriever.query_embedding")
    answer = pipeline.run({"embedder": {"text": texts[0]}})["retriever"]["documents"]
    vectors, query = np.array(expected["document"][:3]), np.array(expected["query"][0])
    cosines = vectors @ query / np.linalg.norm(vectors, axis=1) / np.linalg.norm(query)
    assert [one.content for one in answer] == [texts[i] for i in np.argsort(-cosines)]
    saved = pipeline.to_dict()["components"]["embedder"]
    assert saved["init_parameters"] == {"folder": folder}
