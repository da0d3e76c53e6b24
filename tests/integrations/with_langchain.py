"""LangChain's Embeddings, in a vector store of its own."""

import asyncio
from typing import Any

import numpy as np
from langchain_core.vectorstores import InMemoryVectorStore


def test_vectors(recipe: Any, folder: str, expected: Any) -> None:
    embeddings = recipe("LangChain").BertrtEmbeddings(folder)
    texts = expected["texts"]
    documents = embeddings.embed_documents(texts)
    assert type(documents) is list
    assert type(documents[0][0]) is float
    np.testing.assert_allclose(documents, expected["document"], rtol=0, atol=1e-5)
    queries = [embeddings.embed_query(text) for text in texts]
    np.testing.assert_allclose(queries, expected["query"], rtol=0, atol=1e-5)
    later = asyncio.run(embeddings.aembed_documents(texts))
    np.testing.assert_allclose(later, expected["document"], rtol=0, atol=1e-5)


def test_a_store(recipe: Any, folder: str, expected: Any) -> None:
    texts = expected["texts"]
    store = InMemoryVectorStore.from_texts(texts, recipe("LangChain").BertrtEmbeddings(folder))
    found = store.similarity_search_with_score(texts[0], k=len(texts))
    vectors, query = np.array(expected["document"]), np.array(expected["query"][0])
    cosines = vectors @ query / np.linalg.norm(vectors, axis=1) / np.linalg.norm(query)
    order = np.argsort(-cosines)
    assert [document.page_content for document, _ in found] == [texts[i] for i in order]
    np.testing.assert_allclose([score for _, score in found], cosines[order], atol=1e-5)
