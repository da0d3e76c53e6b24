"""Chroma's EmbeddingFunction, in a collection that is opened again by what it stored."""

from typing import Any

import chromadb
import numpy as np


def test_vectors(recipe: Any, folder: str, expected: Any) -> None:
    function = recipe("Chroma").BertrtEmbeddingFunction(folder)
    texts = expected["texts"]
    np.testing.assert_allclose(function(texts), expected["document"], rtol=0, atol=1e-5)
    queries = function.embed_query(texts)
    np.testing.assert_allclose(queries, expected["query"], rtol=0, atol=1e-5)


def test_a_collection(recipe: Any, folder: str, expected: Any, tmp_path: Any) -> None:
    function, texts = recipe("Chroma").BertrtEmbeddingFunction(folder), expected["texts"]
    options = {"hnsw": {"space": "cosine"}}
    client = chromadb.PersistentClient(str(tmp_path))
    collection = client.create_collection(
        "texts", embedding_function=function, configuration=options
    )
    collection.add(ids=[str(i) for i in range(len(texts))], documents=texts)
    vectors, query = np.array(expected["document"]), np.array(expected["query"][0])
    cosines = vectors @ query / np.linalg.norm(vectors, axis=1) / np.linalg.norm(query)
    order = np.argsort(-cosines)
    # Without the function: its name and its folder are stored.
    for opened in (collection, client.get_collection("texts")):
        found = opened.query(query_texts=[texts[0]], n_results=len(texts))
        assert found["ids"] == [[str(i) for i in order]]
        np.testing.assert_allclose(found["distances"][0], 1 - cosines[order], atol=1e-4)
