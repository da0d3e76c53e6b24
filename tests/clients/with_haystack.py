"""Haystack: vectors of texts and documents, and ranks, all as of TEI."""

import asyncio
from typing import Any

import pytest
from haystack import Document
from haystack.utils import Secret
from haystack_integrations.components.embedders.huggingface_api import (
    HuggingFaceAPIDocumentEmbedder,
    HuggingFaceAPITextEmbedder,
)
from haystack_integrations.components.rankers.huggingface_api import HuggingFaceTEIRanker

from compare import best_first, same
from inputs import DOCUMENTS, QUERY, TEXTS


def test_vectors(url: str, key: str, expected: Any) -> None:
    options = {
        "api_type": "text_embeddings_inference",
        "api_params": {"url": f"{url}/models/embedder"},
        "token": Secret.from_token(key),
    }
    # Haystack does not ask for vectors of length 1 unless it is told to.
    same(HuggingFaceAPITextEmbedder(**options).run(TEXTS[0])["embedding"], expected["embed_raw"][0])
    unit = HuggingFaceAPITextEmbedder(**options, normalize=True)
    same(unit.run(TEXTS[0])["embedding"], expected["embed"][0])
    embedder = HuggingFaceAPIDocumentEmbedder(**options, batch_size=3, progress_bar=False)
    found = embedder.run([Document(content=text) for text in DOCUMENTS])["documents"]
    same([list(one.embedding) for one in found], expected["embed_documents"])


@pytest.mark.parametrize(("raw", "name"), [(False, "scores"), (True, "scores_raw")])
def test_ranks(url: str, key: str, raw: bool, name: str, expected: Any) -> None:
    ranker = HuggingFaceTEIRanker(
        url=url, token=Secret.from_token(key), raw_scores=raw, top_k=3, max_retries=0
    )
    documents = [Document(content=text) for text in DOCUMENTS]
    best = best_first(expected[name], DOCUMENTS)[:3]
    for answer in (
        ranker.run(QUERY, documents),
        asyncio.run(ranker.run_async(QUERY, documents)),
    ):
        found = answer["documents"]
        same([[one.content, one.score] for one in found], best)
